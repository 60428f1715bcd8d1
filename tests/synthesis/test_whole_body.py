import json
from pathlib import Path

import numpy as np
import pytest
from crude_anatomy import write_map
from scipy import ndimage

from app.errors import UnreadableScanError
from app.synthesis.whole_body import read_bodies

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def test_bodies_are_turned_to_lps(tmp_path):
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[0, 1, 2] = 7
    (tmp_path / "tissues.json").write_text(json.dumps({"liver": 7}))
    # RAS: both in-plane axes run the other way.
    write_map(tmp_path / "a_tissues.nii.gz", labels, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    found = read_bodies(tmp_path)["a"]
    assert np.argwhere(found.labels == 7).tolist() == [[0, 3, 3]]


def test_a_folder_without_bodies_is_refused(tmp_path):
    with pytest.raises(UnreadableScanError, match=r"tissues\.json"):
        read_bodies(tmp_path)


@pytest.mark.realdata
def test_the_real_bodies_are_read_in_lps():
    folder = SHARED / "bodies"
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    for body in read_bodies(folder).values():
        liver, spleen = (
            ndimage.center_of_mass(body.labels == body.ids[name]) for name in ("liver", "spleen")
        )
        # The liver lies right, that is at lower x, and in front of the spleen.
        assert liver[2] < spleen[2]
        assert liver[1] < spleen[1]
