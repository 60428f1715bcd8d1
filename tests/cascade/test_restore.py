import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import source_of

from app.cascade.patches import STEPS_PER_LOGIT, PatchScores
from app.cascade.restore import (
    SLAB_SLICES,
    interpolate,
    interpolation,
    label_region,
    restore,
    take_back_specks,
)
from app.cascade.segment import ClassScores, Region, best_class
from app.imaging.crop import box_on_grid
from app.imaging.geometry import Box, Geometry
from app.imaging.resample import grid_weights, resample_linear, resampled_shape


def scores_of(labels, certain=5):
    """Give the scores of a network that is equally certain of every voxel."""
    steps = np.full((14, *labels.shape), -2 * certain, np.int16)
    np.put_along_axis(steps, labels[None].astype(np.intp), 0, axis=0)
    return steps * STEPS_PER_LOGIT


def class_scores(labels, region):
    weights = np.ones(labels.shape, np.float16)
    patches = PatchScores(scores_of(labels), weights)
    return ClassScores(region=region, patches=patches, labels=labels.copy())


def whole_grid(shape, spacing_mm):
    """Give the region that is all of a scan's own grid."""
    box = Box(start=(0, 0, 0), stop=shape)
    return Region(grid_shape=shape, spacing_mm=spacing_mm, window=box, located=box, box=box)


def restored(scores, geometry):
    take_back_specks(scores)
    return restore(scores, source_of(geometry))


def dense(steps, weights):
    """Interpolate all classes everywhere, the plain way."""
    z, y, x = (matrix.toarray() for matrix in weights)
    return np.einsum("az,by,cx,nzyx->nabc", z, y, x, steps.astype(np.float32), optimize=True)


def test_best_class_is_the_argmax():
    steps = np.random.default_rng(0).integers(-9, 9, (14, 3, 4, 5)).astype(np.int16)  # with ties
    assert np.array_equal(best_class(steps), steps.argmax(axis=0))


@pytest.mark.parametrize("spacing_mm", [(1.1, 0.7, 0.9), (5.0, 0.8, 1.5), (2.0, 3.1, 1.5)])
def test_slab_by_slab_equals_interpolating_everything_at_once(spacing_mm):
    coarse_spacing_mm, coarse_shape = (2.0, 1.5, 1.5), (24, 15, 18)
    rng = np.random.default_rng(5)
    labels = np.zeros(coarse_shape, np.uint8)
    for value in (1, 4, 13):
        z, y, x = (rng.integers(2, size - 8) for size in coarse_shape)
        labels[z : z + 7, y : y + 6, x : x + 5] = value
    steps = scores_of(labels) + rng.integers(-256, 256, (14, *coarse_shape)).astype(np.int16)
    extent = np.multiply(coarse_shape, coarse_spacing_mm)
    shape = tuple(int(size) for size in np.floor(extent / spacing_mm))
    weights = grid_weights(shape, spacing_mm, coarse_shape, coarse_spacing_mm)
    region = np.zeros(shape, np.uint8)
    label_region(steps, best_class(steps), weights, region)
    assert np.array_equal(region, dense(steps, weights).argmax(axis=0))
    assert shape[0] > SLAB_SLICES or spacing_mm[0] == 5.0


def test_border_lies_between_voxels_and_not_on_the_coarse_grid():
    # Scores 4 at voxel 2 and -12 at voxel 3: equal a quarter of the way, where
    # nearest neighbor would put the border halfway.
    steps = np.zeros((14, 1, 1, 6), np.int16)
    steps[2:] = -99
    steps[1, 0, 0] = [4, 4, 4, -12, -12, -12]
    weights = grid_weights((1, 1, 60), (1.0, 1.0, 0.1), (1, 1, 6), (1.0, 1.0, 1.0))
    region = np.zeros((1, 1, 60), np.uint8)
    label_region(steps, best_class(steps), weights, region)
    # Voxel i lies at (i + 0.5) / 10 - 0.5 coarse voxels; the border at 2.25 is i = 27.
    assert region[0, 0].tolist() == [1] * 27 + [0] * 33


@given(
    spacing_mm=st.tuples(*[st.sampled_from([0.7, 1.3, 3.0])] * 3),
    share=st.floats(0.3, 0.7),
    axis=st.integers(0, 2),
)
def test_border_comes_back_where_the_resampled_scan_had_it(spacing_mm, share, axis):
    # A scan whose HU say how far a plane is: what is resampled to the coarse grid as an
    # image and restored as scores must put the border where the plane was.
    shape, coarse_mm = (23, 31, 27), (2.0, 1.5, 1.5)
    border_mm = share * shape[axis] * spacing_mm[axis]
    centers_mm = (np.arange(shape[axis]) + 0.5) * spacing_mm[axis]
    scan = np.empty(shape, np.float32)
    scan[...] = np.expand_dims(
        centers_mm - border_mm, [other for other in range(3) if other != axis]
    )
    coarse = resample_linear(scan, spacing_mm, coarse_mm)
    steps = np.stack([np.zeros_like(coarse), coarse * STEPS_PER_LOGIT]).astype(np.int16)
    region = np.zeros(shape, np.uint8)
    weights = grid_weights(shape, spacing_mm, coarse.shape, coarse_mm)
    label_region(steps, best_class(steps), weights, region)
    # Resampling by a triangle may move a border by a tenth of a coarse voxel.
    sure = np.abs(scan) > 0.1 * coarse_mm[axis] * 2
    assert np.array_equal(region[sure], (scan > 0)[sure])


def test_labels_land_in_the_box_and_nowhere_else():
    # 800 x 1200 x 1500 mm; of the grid of 20 x 15 x 18.75 mm, 40 x 80 x 80, a part is scored.
    geometry = Geometry(shape=(20, 40, 30), spacing_mm=(40.0, 30.0, 50.0))
    region = Region(
        grid_shape=(40, 80, 80),
        spacing_mm=(20.0, 15.0, 18.75),
        window=Box(start=(10, 20, 17), stop=(20, 32, 27)),
        located=Box(start=(10, 20, 18), stop=(20, 32, 26)),
        box=Box(start=(5, 10, 6), stop=(10, 16, 10)),
    )
    labels = np.zeros(region.window.shape, np.uint8)
    labels[2:8, 3:9, 4:7] = 1  # 240 ... 360, 345 ... 435 and 393.75 ... 450 mm
    label_map = restored(class_scores(labels, region), geometry)
    # Of rows at 315, 345, 375 ... mm the one at 345 mm lies between background and organ: equal
    # scores, and background wins the tie. Columns lie at 375, 425, 475 ... mm.
    expected = np.zeros((20, 40, 30), np.uint8)
    expected[6:9, 12:14, 8:9] = 1
    assert np.array_equal(label_map, expected)


@given(
    spacing_mm=st.tuples(*[st.sampled_from([0.7, 1.3, 3.0])] * 3),
    start=st.tuples(*[st.integers(0, 4)] * 3),
)
def test_a_part_is_interpolated_as_the_whole_is(spacing_mm, start):
    geometry = Geometry(shape=(23, 31, 27), spacing_mm=spacing_mm)
    grid_mm = (2.0, 1.5, 1.5)
    grid_shape = resampled_shape(geometry.shape, spacing_mm, grid_mm)
    located = Box.between(np.minimum(start, np.subtract(grid_shape, 1)), grid_shape)
    window = Box.between(np.maximum(0, np.subtract(located.start, 2)), grid_shape)
    region = Region(
        grid_shape=grid_shape,
        spacing_mm=grid_mm,
        window=window,
        located=located,
        box=box_on_grid(located, grid_shape, grid_mm, geometry.shape, spacing_mm),
    )
    coarse = np.random.default_rng(1).normal(size=grid_shape).astype(np.float32)
    whole = interpolate(coarse, *grid_weights(geometry.shape, spacing_mm, grid_shape, grid_mm))
    part = interpolate(coarse[window.slices], *interpolation(region, geometry))
    np.testing.assert_allclose(part, whole[region.box.slices], atol=1e-5)


def test_organ_smaller_than_any_is_taken_back():
    labels = np.zeros((10, 12, 8), np.uint8)
    labels[2:8, 3:9, 2:6] = 1  # 12 x 9 x 7.5 mm of liver are 0.8 ml
    geometry = Geometry(shape=labels.shape, spacing_mm=(2.0, 1.5, 1.875))
    scores = class_scores(labels, whole_grid(labels.shape, geometry.spacing_mm))
    assert not restored(scores, geometry).any()


def test_speck_goes_to_the_second_best_class():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:10, 2:10, 2:10] = 2
    labels[5, 5, 5] = 13  # a left kidney in the right one
    labels[0, 0, 0] = 13
    scores = class_scores(labels, whole_grid(labels.shape, (8.0, 8.0, 8.0)))
    scores.steps[2, 5, 5, 5] = -1
    scores.steps[0, 0, 0, 0] = -1
    assert take_back_specks(scores) == {}
    expected = np.zeros_like(labels)
    expected[2:10, 2:10, 2:10] = 2
    assert np.array_equal(scores.labels, expected)
    assert np.array_equal(best_class(scores.steps), expected)


def test_a_speck_becomes_no_speck_of_another_organ():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[2:10, 2:10, 2:10] = 2
    labels[0, 0, 0] = 13
    scores = class_scores(labels, whole_grid(labels.shape, (8.0, 8.0, 8.0)))
    scores.steps[3, 0, 0, 0], scores.steps[11, 0, 0, 0] = -1, -2  # spleen next, then stomach
    take_back_specks(scores)
    expected = np.where(labels == 2, labels, 0)
    assert np.array_equal(scores.labels, expected)
    assert np.array_equal(best_class(scores.steps), expected)


def test_nothing_found_is_an_empty_label_map():
    labels = np.zeros((4, 5, 6), np.uint8)
    geometry = Geometry(shape=(4, 5, 6), spacing_mm=(2.0, 1.5, 1.5))
    scores = class_scores(labels, whole_grid(labels.shape, geometry.spacing_mm))
    assert not restored(scores, geometry).any()
