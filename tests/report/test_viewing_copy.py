import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.imaging.geometry import Geometry
from app.imaging.resample import resampled_shape
from app.imaging.volume import Volume
from app.report.viewing_copy import FINEST_MM, MOST_VOXELS, viewing_copy, viewing_spacing_mm


def test_a_coarse_axis_stays_and_a_fine_one_becomes_2_mm():
    assert viewing_spacing_mm((30, 200, 100), (5.0, 0.7, 0.9)) == (5.0, 2.0, 2.0)


@given(
    st.tuples(*[st.integers(1, 2000)] * 3),
    st.tuples(*[st.floats(0.3, 8.0)] * 3),
)
def test_no_copy_is_larger_than_the_page_has_room_for(shape, spacing_mm):
    chosen = viewing_spacing_mm(shape, spacing_mm)
    assert math.prod(resampled_shape(shape, spacing_mm, chosen)) <= MOST_VOXELS
    assert all(new >= max(old, FINEST_MM) for new, old in zip(chosen, spacing_mm, strict=True))


def test_window_becomes_gray_and_the_center_stays():
    hu = np.array([-1000, -200, 50, 300, 3000], np.int16).reshape(5, 1, 1) * np.ones(
        (1, 4, 6), np.int16
    )
    geometry = Geometry(shape=hu.shape, spacing_mm=(3.0, 1.0, 0.5), origin_mm=(10.0, 20.0, 30.0))
    copy = viewing_copy(Volume(hu, geometry), np.full(hu.shape, 7, np.uint8))
    assert copy.gray.array[:, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert copy.gray.array.shape == (5, 2, 2)  # 12 x 4 x 3 mm of air around nothing
    assert (copy.labels.array == 7).all()
    center = np.add(copy.gray.geometry.origin_mm, np.multiply((2, 0.5, 0.5), (3.0, 2.0, 2.0)))
    assert center.tolist() == pytest.approx([10 + 2 * 3, 20 + 1.5, 30 + 2.5 * 0.5])
