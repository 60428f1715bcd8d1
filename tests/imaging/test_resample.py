import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.imaging.geometry import Box
from app.imaging.resample import (
    linear_weights,
    positions,
    resample_linear,
    resample_nearest,
    resampled_shape,
)

SPACING_MM = (5.0, 2.0, 1.0)


def ramp(shape, spacing_mm, slope):
    """Give an image that rises by ``slope`` (z, y, x) per mm from the center."""
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    return sum(
        (axis - (size - 1) / 2) * step * rise
        for axis, size, step, rise in zip(axes, shape, spacing_mm, slope, strict=True)
    ).astype(np.float32)


def test_new_grid_covers_the_old_one():
    # 50, 40 and 30 mm by steps of 4, 4 and 7 mm
    assert resampled_shape((10, 20, 30), SPACING_MM, (4.0, 4.0, 7.0)) == (13, 10, 5)
    assert resampled_shape((1, 1, 1), (1.0, 1.0, 1.0), (4.0, 4.0, 4.0)) == (1, 1, 1)


def test_float_noise_adds_no_voxel():
    # 3 * 0.1 / 0.3 is a hair above 1.
    assert resampled_shape((3, 3, 3), (0.1, 0.1, 0.1), (0.3, 0.3, 0.3)) == (1, 1, 1)


def test_grids_share_their_center():
    # Two voxels of 3 mm, centers at -1.5 and 1.5 mm; three of 2 mm at -2, 0 and 2 mm.
    np.testing.assert_allclose(positions(2, 3.0, 3, 2.0), [0.25, 1.75])
    np.testing.assert_allclose(positions(3, 2.0, 2, 3.0), [-1 / 6, 0.5, 7 / 6])


def test_refining_interpolates_linearly_and_holds_the_last_value():
    weights = linear_weights(4, 1.0, 2, 2.0).toarray()
    np.testing.assert_allclose(weights, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_coarsening_averages_instead_of_skipping():
    # Output voxels of 2 mm over inputs of 1 mm: a triangle 2 voxels wide on either side.
    weights = linear_weights(2, 2.0, 4, 1.0).toarray()
    assert (weights > 0).sum(axis=1).tolist() == [3, 3]
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights[0], weights[1][::-1])


@given(
    num_in=st.integers(1, 30),
    step_in=st.sampled_from([0.5, 0.8, 2.0, 5.0]),
    step_out=st.sampled_from([1.5, 2.0, 4.0]),
)
def test_weights_are_positive_and_sum_to_one(num_in, step_in, step_out):
    weights = linear_weights(max(1, round(num_in * step_in / step_out)), step_out, num_in, step_in)
    dense = weights.toarray()
    assert (dense >= 0).all()
    np.testing.assert_allclose(dense.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("new_spacing_mm", [(2.0, 1.5, 1.5), (4.0, 4.0, 4.0), (7.0, 0.5, 3.0)])
def test_ramp_stays_the_same_ramp_away_from_the_edges(new_spacing_mm):
    slope = (1.0, -3.0, 7.0)
    shape = (14, 40, 90)
    resampled = resample_linear(ramp(shape, SPACING_MM, slope), SPACING_MM, new_spacing_mm)
    expected = ramp(resampled.shape, new_spacing_mm, slope)
    margin = tuple(slice(size // 4, size - size // 4) for size in resampled.shape)
    # The widened triangle, sampled at few voxels, may shift by a twentieth of a mm.
    np.testing.assert_allclose(resampled[margin], expected[margin], rtol=0, atol=7 * 0.05)


def test_view_with_negative_strides_gives_the_same():
    hu = np.random.default_rng(0).integers(-1000, 1000, (6, 9, 11)).astype(np.int16)
    turned = np.ascontiguousarray(hu[::-1, :, ::-1])[::-1, :, ::-1]
    expected = resample_linear(hu, SPACING_MM, (4.0, 1.5, 1.5))
    np.testing.assert_array_equal(resample_linear(turned, SPACING_MM, (4.0, 1.5, 1.5)), expected)


def test_same_spacing_changes_nothing():
    hu = np.random.default_rng(0).integers(-1000, 1000, (3, 5, 7)).astype(np.int16)
    np.testing.assert_array_equal(resample_linear(hu, SPACING_MM, SPACING_MM), hu)
    labels = (hu > 0).astype(np.uint8)
    np.testing.assert_array_equal(resample_nearest(labels, SPACING_MM, SPACING_MM), labels)


grids = {
    "shape": st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7)),
    "times": st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
}


@given(**grids)
def test_labels_come_back_from_a_grid_an_odd_number_of_times_finer(shape, times):
    # Each voxel's center is then a center of the finer grid too.
    labels = np.random.default_rng(4).integers(0, 14, shape).astype(np.uint8)
    finer_mm = tuple(np.divide(SPACING_MM, times).tolist())
    finer = resample_nearest(labels, SPACING_MM, finer_mm)
    assert finer.shape == tuple(np.multiply(shape, times).tolist())
    np.testing.assert_array_equal(resample_nearest(finer, finer_mm, SPACING_MM), labels)


@given(**grids, slope=st.tuples(*[st.integers(-3, 3)] * 3))
def test_an_image_that_rises_evenly_comes_back_from_a_finer_grid_unshifted(shape, times, slope):
    finer_mm = tuple(np.divide(SPACING_MM, times).tolist())
    image = ramp(shape, SPACING_MM, slope)
    there = resample_linear(image, SPACING_MM, finer_mm)
    back = resample_linear(there, finer_mm, SPACING_MM)
    inner = tuple(slice(1, -1) for _ in range(3))  # beyond its ends an image goes on flat
    np.testing.assert_allclose(back[inner], image[inner], rtol=0, atol=1e-3)


def test_labels_are_never_mixed():
    labels = np.array([0, 13, 0, 2, 2, 0], np.uint8).reshape(1, 1, 6)
    finer = resample_nearest(labels, (1.0, 1.0, 1.0), (1.0, 1.0, 0.5))
    assert finer[0, 0].tolist() == [0, 0, 13, 13, 0, 0, 2, 2, 2, 2, 0, 0]


@given(
    new_mm=st.tuples(*[st.sampled_from([0.8, 2.0, 6.0])] * 3),
    ends=st.tuples(*[st.tuples(st.floats(0, 1), st.floats(0, 1))] * 3),
)
def test_a_part_is_resampled_as_the_whole_is(new_mm, ends):
    volume = np.random.default_rng(4).integers(-900, 900, (9, 14, 23)).astype(np.int16)
    whole = resample_linear(volume, SPACING_MM, new_mm)
    start, stop = [], []
    for size, pair in zip(whole.shape, ends, strict=True):
        first = min(int(min(pair) * size), size - 1)
        start.append(first)
        stop.append(max(first + 1, round(max(pair) * size)))
    part = Box.between(start, stop)
    found = resample_linear(volume, SPACING_MM, new_mm, part=part)
    np.testing.assert_allclose(found, whole[part.slices], rtol=1e-5, atol=1e-3)
