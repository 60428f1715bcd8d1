import json

import numpy as np
import pytest
from crude_anatomy import ellipse_whole_body, organ_map, write_map
from label_files import write_segments

from app.errors import InputError, UnreadableScanError
from app.imaging.geometry import Box
from app.synthesis.bank import build_bank, organ_box, read_anatomy, read_body
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue


def test_an_anatomy_is_turned_to_lps(tmp_path):
    labels = organ_map((20, 30, 25))
    # RAS: both in-plane axes run the other way.
    direction = (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    write_map(tmp_path / "turned.nii", labels[:, ::-1, ::-1], direction=direction)
    np.testing.assert_array_equal(read_anatomy(tmp_path / "turned.nii"), labels)


def test_an_anatomy_of_another_spacing_or_with_other_values_is_refused(tmp_path):
    labels = organ_map((20, 30, 25))
    write_map(tmp_path / "wide.nii", labels, spacing=3.0)
    with pytest.raises(UnreadableScanError, match="1.5 mm"):
        read_anatomy(tmp_path / "wide.nii")
    write_map(tmp_path / "high.nii", labels + np.uint8(14))
    with pytest.raises(InputError, match="0 to 13"):
        read_anatomy(tmp_path / "high.nii")


def test_an_anatomy_of_3d_slicer_is_read_by_the_names_of_its_segments(tmp_path):
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1, 2, 3] = 1  # as Slicer numbers the first segment, whatever it is
    write_segments(tmp_path / "a.seg.nrrd", labels, {1: "spleen"}, spacing_xyz=(1.5, 1.5, 1.5))
    assert read_anatomy(tmp_path / "a.seg.nrrd")[1, 2, 3] == Tissue.SPLEEN


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Give a folder of two anatomies and a folder with one crude body."""
    anatomies, bodies = tmp_path_factory.mktemp("anatomies"), tmp_path_factory.mktemp("bodies")
    for name in ("one", "two"):
        write_map(anatomies / f"{name}.nii", organ_map((60, 70, 84), shift=(-6, -1, -4)))
        (anatomies / f"._{name}.nii").write_bytes(b"Mac OS X")
    whole = ellipse_whole_body()
    (bodies / "tissues.json").write_text(json.dumps(whole.ids))
    write_map(bodies / "crude_tissues.nii.gz", whole.labels)
    (bodies / "._crude_tissues.nii.gz").write_bytes(b"Mac OS X")
    return anatomies, bodies


def test_a_bank_is_written_once_and_read_back(folders, tmp_path):
    anatomies, bodies = folders
    files = list(build_bank(anatomies, bodies, tmp_path, seed=3))
    assert [file.name for file in files] == ["one_0.npz", "two_0.npz"]
    found = read_body(files[0])
    assert found.spacing_mm == (2.0, 1.5, 1.5)
    inside = np.zeros(found.tissues.shape, bool)
    inside[found.organ_box.slices] = True
    assert not (ORGAN_OF_TISSUE[found.tissues] == Tissue.SPLEEN)[~inside].any()
    before = [file.stat().st_mtime_ns for file in files]
    assert list(build_bank(anatomies, bodies, tmp_path, seed=3)) == files
    assert [file.stat().st_mtime_ns for file in files] == before


def test_a_body_does_not_depend_on_what_else_is_in_the_bank(folders, tmp_path):
    anatomies, bodies = folders
    (alone,) = build_bank(anatomies, bodies, tmp_path / "a", seed=3, limit=1)
    both = list(build_bank(anatomies, bodies, tmp_path / "b", seed=3))
    np.testing.assert_array_equal(read_body(alone).tissues, read_body(both[0]).tissues)


def test_organ_box_is_where_the_organ_map_lay(body, patient):
    box = organ_box(body, patient)
    z0, y0, x0 = (round(o / s) for o, s in zip(body.offset_mm, body.spacing_mm, strict=True))
    # 74 x 76 x 92 voxels of 1.5 mm are 111 x 114 x 138 mm: 55.5, 76 and 76.7 voxels here.
    assert isinstance(box, Box)
    assert box.start == (z0, y0, x0)
    assert box.shape == (56, 76, 77)
