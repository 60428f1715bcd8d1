import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.evaluation.metrics import dice, surface_dice

SPACING_MM = (3.0, 2.0, 1.0)


def box(shape, start, stop):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


def nsd(mask_gt, mask_pred, tolerance_mm, spacing_mm=SPACING_MM):
    return surface_dice(mask_gt, mask_pred, spacing_mm=spacing_mm, tolerance_mm=tolerance_mm)


def test_dice_of_two_boxes():
    shape = (6, 7, 8)
    # 3*4*5 = 60 and 2*4*5 = 40 voxels, all of the second in the first.
    assert dice(box(shape, (1, 1, 1), (4, 5, 6)), box(shape, (2, 1, 1), (4, 5, 6))) == 0.8


def test_dice_without_overlap_is_zero_and_of_nothing_undefined():
    mask = box((3, 4, 5), (0, 0, 0), (1, 1, 1))
    assert dice(mask, np.roll(mask, 1, axis=1)) == 0.0
    assert dice(mask, np.zeros_like(mask)) == 0.0
    assert math.isnan(dice(np.zeros_like(mask), np.zeros_like(mask)))


def test_nsd_of_two_voxels_two_apart_depends_on_the_tolerance():
    # Corners at x = 1, 2 and x = 3, 4: the inner ones are 1 mm apart, the outer ones 2 mm.
    one, other = box((5, 6, 7), (2, 3, 1), (3, 4, 2)), box((5, 6, 7), (2, 3, 3), (3, 4, 4))
    assert nsd(one, other, 0.9) == 0.0
    assert nsd(one, other, 1.0) == 0.5
    assert nsd(one, other, 2.0) == 1.0


def test_nsd_measures_in_mm_along_each_axis():
    mask = box((7, 8, 9), (2, 2, 2), (3, 3, 3))
    for axis, step_mm in enumerate(SPACING_MM):
        # Moved by one voxel: half of the corners stay shared, the others are one step away.
        moved = np.roll(mask, 1, axis=axis)
        assert nsd(mask, moved, step_mm) == 1.0
        assert nsd(mask, moved, step_mm - 0.01) == 0.5


def test_nsd_weighs_pieces_by_their_area():
    # Reference 1 x 1 x 2, prediction 1 x 1 x 1. The middle of the bar has four ramp pairs of
    # hypot(2, 3) / 2 mm² each, an end four tips of 7/8 mm²; the voxel has eight tips.
    shape = (3, 4, 5)
    mask_gt, mask_pred = box(shape, (1, 1, 1), (2, 2, 3)), box(shape, (1, 1, 1), (2, 2, 2))
    tips, ramps = 4 * 7 / 8, 4 * math.hypot(2, 3) / 2
    # Only the far end of the bar, 1 mm away, is not met.
    expected = (tips + ramps + 2 * tips) / (2 * tips + ramps + 2 * tips)
    assert nsd(mask_gt, mask_pred, 0.5) == pytest.approx(expected)


def test_nsd_of_a_mask_and_nothing_is_zero_and_of_nothing_undefined():
    mask = box((3, 4, 5), (0, 0, 0), (2, 2, 2))
    assert nsd(mask, np.zeros_like(mask), 100.0) == 0.0
    assert nsd(np.zeros_like(mask), mask, 100.0) == 0.0
    assert math.isnan(nsd(np.zeros_like(mask), np.zeros_like(mask), 1.0))


def test_nsd_of_one_slice():
    mask = box((1, 6, 7), (0, 1, 1), (1, 4, 5))
    assert nsd(mask, mask, 1.0) == 1.0
    assert nsd(mask, np.roll(mask, 1, axis=2), 1.0) == 1.0


def test_a_distance_of_just_the_tolerance_is_within_it_wherever_the_organ_lies():
    # 25 * 0.2 and 20 * 0.2 differ by 0.9999999999999991, 5 * 0.2 is 1.
    for start in range(30):
        one = box((1, 1, 40), (0, 0, start), (1, 1, start + 1))
        assert nsd(one, np.roll(one, 5, axis=2), 1.0, spacing_mm=(3.0, 2.0, 0.2)) == 1.0


def slow_nsd(mask_gt, mask_pred, spacing_mm, tolerance_mm):
    """Look at every corner and every pair of pieces; areas from MONAI's copy of the table."""
    from monai.metrics.utils import ENCODING_KERNEL, create_table_neighbour_code_to_surface_area

    table, _ = create_table_neighbour_code_to_surface_area(spacing_mm)
    kernel = np.array(ENCODING_KERNEL[3])

    def pieces(mask):
        padded = np.pad(mask, 1)
        found = []
        for corner in itertools.product(*(range(size + 1) for size in mask.shape)):
            around = padded[tuple(slice(i, i + 2) for i in corner)]
            number = int((around * kernel).sum())
            if 0 < number < 255:
                found.append((corner, float(table[number])))
        return found

    def close(corner, others):
        return any(
            math.dist(np.multiply(corner, spacing_mm), np.multiply(other, spacing_mm))
            <= tolerance_mm
            for other, _ in others
        )

    one, other = pieces(mask_gt), pieces(mask_pred)
    within = sum(area for corner, area in one if close(corner, other))
    within += sum(area for corner, area in other if close(corner, one))
    return within / sum(area for _, area in one + other)


@st.composite
def mask_pairs(draw):
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    masks = arrays.arrays(bool, shape)
    return draw(masks), draw(masks)


@settings(max_examples=40, deadline=None)
@given(
    mask_pairs(),
    st.tuples(*[st.sampled_from([0.5, 0.8, 1.25, 3.0])] * 3),
    st.sampled_from([1.0, 2.1, 3.3]),
)
def test_nsd_equals_a_slow_search_through_all_pairs(masks, spacing_mm, tolerance_mm):
    mask_gt, mask_pred = masks
    if not mask_gt.any() and not mask_pred.any():
        return
    expected = slow_nsd(mask_gt, mask_pred, spacing_mm, tolerance_mm)
    assert nsd(mask_gt, mask_pred, tolerance_mm, spacing_mm) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(mask_pairs())
def test_both_metrics_are_symmetric(masks):
    one, other = masks
    np.testing.assert_allclose(dice(one, other), dice(other, one))
    np.testing.assert_allclose(nsd(one, other, 1.5), nsd(other, one, 1.5))
