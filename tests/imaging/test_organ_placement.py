import numpy as np
import pytest

from app.imaging.organ_placement import measure_placement, thin

SPACING_MM = (5.0, 3.0, 4.0)


@pytest.fixture
def labels():
    """A liver of two pieces inside the volume, a spleen at the last face along x."""
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[2:6, 3:7, 4:8] = 1  # 64 voxels of 60 mm3
    labels[9:10, 3:7, 4:8] = 1  # 16 more, apart
    labels[5:9, 8:12, 12:16] = 3
    return labels


def test_volume_center_and_pieces_of_an_organ(labels):
    liver = measure_placement(labels, SPACING_MM)["liver"]
    assert liver.volume_ml == pytest.approx(80 * 60 / 1000)
    # Slices 2 to 5 and 9: (4 * 3.5 + 9) / 5 = 4.6; rows 3 to 6, columns 4 to 7.
    assert liver.center_mm == pytest.approx((4.6 * 5, 4.5 * 3, 5.5 * 4))
    assert liver.largest_share == pytest.approx(64 / 80)
    assert liver.cut == (False, False, False)


def test_extent_is_the_standard_deviation_along_each_axis(labels):
    # Rows, columns and slices of a block of 4 x 4 x 4: (16 - 1) / 12 + 1 / 12 of a step squared.
    steps = np.sqrt(16 / 12)
    assert measure_placement(labels, SPACING_MM)["spleen"].extent_mm == pytest.approx(
        (5 * steps, 3 * steps, 4 * steps)
    )
    # Slices 2 to 5 and 9 around 4.6: the mean of 2.6², 1.6², 0.6², 0.4² and 4.4² is 5.84.
    assert measure_placement(labels, SPACING_MM)["liver"].extent_mm[0] == pytest.approx(
        5 * np.sqrt(5.84 + 1 / 12)
    )


def test_extent_follows_the_spacing_and_one_slice_has_one():
    labels = np.zeros((9, 10, 11), np.uint8)
    labels[4, 2:7, 3:6] = 1
    thick, thin_slice = (
        measure_placement(labels, (step, 3.0, 4.0))["liver"].extent_mm for step in (6.0, 2.0)
    )
    assert thick == pytest.approx((3 * thin_slice[0], *thin_slice[1:]))
    assert thin_slice[0] == pytest.approx(2 / np.sqrt(12))


def test_organ_at_a_face_is_cut_along_that_axis_only(labels):
    assert measure_placement(labels, SPACING_MM)["spleen"].cut == (False, False, True)


def test_touch_of_a_face_by_a_voxel_is_no_cut():
    labels = np.zeros((9, 10, 11), np.uint8)
    labels[0, 5, 5] = labels[1:4, 4:7, 4:7] = 1  # 3 x 4 mm on the face are below 50 mm2
    assert measure_placement(labels, SPACING_MM)["liver"].cut == (False, False, False)


def test_absent_organs_are_left_out(labels):
    assert set(measure_placement(labels, SPACING_MM)) == {"liver", "spleen"}
    assert measure_placement(np.zeros((4, 5, 6), np.uint8), SPACING_MM) == {}


def test_thinning_keeps_places_and_never_goes_beyond_3_mm():
    labels = np.zeros((10, 60, 40), np.uint8)
    labels[3:8, 10:40, 8:32] = 1
    coarse, spacing_mm = thin(labels, (5.0, 0.7, 1.5))
    assert spacing_mm == pytest.approx((5.0, 2.8, 3.0))
    assert coarse.shape == (10, 15, 20)
    (fine, thinned) = (
        measure_placement(labels, (5.0, 0.7, 1.5))["liver"],
        measure_placement(coarse, spacing_mm)["liver"],
    )
    assert thinned.center_mm == pytest.approx(fine.center_mm, abs=3.0)
    assert thinned.volume_ml == pytest.approx(fine.volume_ml, rel=0.1)
