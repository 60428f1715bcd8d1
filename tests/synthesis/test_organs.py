import pytest
from crude_anatomy import organ_map

from app.synthesis.organs import slice_thickness


def test_thick_slices_are_recognized():
    fine = organ_map((90, 80, 98))
    # 8 slices, each given three times: 23 pairs of neighbors, 7 of which differ.
    assert slice_thickness(fine[30:54:3].repeat(3, axis=0)) == pytest.approx(23 / 7)
    assert slice_thickness(fine[36:50]) == 1.0
