import numpy as np
import pytest

from app.imaging.geometry import Geometry
from app.imaging.organ_volumes import organ_volumes_ml
from app.labels import ORGANS


def test_volume_is_voxels_times_spacing_and_absent_organs_count_as_nothing():
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 1:4, 1:6] = 1  # 30 voxels of 5 x 2 x 3 mm are 0.9 ml
    labels[3, 4, 5] = 13
    volumes_ml = organ_volumes_ml(
        labels[:, ::-1], Geometry(shape=(4, 5, 6), spacing_mm=(5.0, 2.0, 3.0))
    )
    assert volumes_ml.pop("liver") == pytest.approx(0.9)
    assert volumes_ml.pop("left_kidney") == pytest.approx(0.03)
    assert set(volumes_ml.values()) == {0.0}
    assert len(volumes_ml) == len(ORGANS) - 2
