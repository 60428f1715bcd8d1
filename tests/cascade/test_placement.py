import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.cascade.placement import patch_starts, place_patches


def test_starts_as_drawn():
    assert patch_starts(20, 8, 0.25) == (0, 6, 12)
    assert patch_starts(5, 8, 0.25) == (-1,)


def test_axis_of_one_patch_needs_one_patch():
    assert patch_starts(96, 96, 0.05) == (0,)


@given(
    size=st.integers(1, 400),
    patch=st.sampled_from([8, 96, 128]),
    overlap=st.sampled_from([0.0, 0.05, 0.25, 0.5]),
)
def test_patches_cover_the_axis_with_the_overlap_and_no_patch_too_many(size, patch, overlap):
    starts = patch_starts(size, patch, overlap)
    if size <= patch:
        (start,) = starts
        assert start <= 0
        assert start + patch >= size
        assert abs(-start - (start + patch - size)) <= 1  # air evenly on both sides
        return
    steps = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] == size - patch
    assert all(step <= np.floor(patch * (1 - overlap)) for step in steps)
    fewer = len(starts) - 1
    assert fewer == 1 or (size - patch) / (fewer - 1) > np.floor(patch * (1 - overlap))


def test_patches_follow_a_shape_as_drawn():
    wanted = np.zeros((1, 6, 12), bool)
    wanted[0, :3, :4] = wanted[0, 3:, 6:] = True
    assert place_patches(wanted, (1, 3, 6), 0.0) == [(0, 0, 0), (0, 3, 6)]


def test_nothing_wanted_takes_no_patch():
    assert place_patches(np.zeros((9, 8, 7), bool), (4, 3, 5), 0.25) == []


@given(
    shape=st.tuples(st.integers(1, 14), st.integers(1, 17), st.integers(1, 20)),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
    seed=st.integers(0, 50),
)
def test_patches_cover_all_that_is_wanted_and_stay_inside(shape, overlap, seed):
    rng = np.random.default_rng(seed)
    wanted = rng.random(shape) < rng.choice([0.01, 0.1, 0.6])
    patch_shape = (4, 6, 8)
    starts = place_patches(wanted, patch_shape, overlap)
    covered = np.zeros(shape, bool)
    for start in starts:
        z, y, x = np.maximum(0, start)
        covered[z : start[0] + 4, y : start[1] + 6, x : start[2] + 8] = True
        for first, size, patch in zip(start, shape, patch_shape, strict=True):
            assert 0 <= first <= size - patch or size < patch
    assert covered[wanted].all()
    everything = place_patches(np.ones(shape, bool), patch_shape, overlap)
    assert len(starts) <= len(everything)


def test_a_second_looks_patches_lie_on_coarse_steps_of_the_scans_grid():
    wanted = np.zeros((90, 101, 112), bool)
    wanted[9:21, 22:67, 40:81] = True
    patch_shape = (32, 48, 32)
    # Without an anchor each lies in the middle: from 9 - 10, before the volume, and 22 - 1; along x
    # 41 voxels take two patches.
    assert place_patches(wanted, patch_shape, 0.25) == [(0, 21, 40), (0, 21, 49)]
    # In sixteens of the grid, y 27 ... 71 would reach from 16 to 80, two patches, and x 47 ... 87
    # from 32 to 96, three. In eights z 29 ... 40 reaches from 24 to 48, y from 24 to 72, x from 40
    # to 88.
    anchored = place_patches(wanted, patch_shape, 0.25, (20, 5, 7))
    assert anchored == [(0, 19, 33), (0, 19, 49)]


@given(
    anchor=st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
    start=st.tuples(st.integers(0, 59), st.integers(0, 49), st.integers(0, 69)),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60)),
)
def test_coarse_steps_take_no_patch_more_and_cover_as_much(anchor, start, shape):
    wanted = np.zeros((77, 68, 91), bool)
    wanted[tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))] = 1
    patch_shape = (32, 32, 48)
    starts = place_patches(wanted, patch_shape, 0.25, anchor)
    assert len(starts) <= len(place_patches(wanted, patch_shape, 0.25))
    for z, y, x in starts:
        wanted[z : z + 32, y : y + 32, x : x + 48] = False
    assert not wanted.any()


def test_a_voxel_more_rarely_moves_a_second_looks_patch():
    moved = {None: 0, (0, 0, 0): 0}
    for anchor in moved:
        for first in range(60, 124):
            wanted = np.zeros((1, 1, 300), bool)
            wanted[..., first : first + 40] = True
            before = place_patches(wanted, (1, 1, 96), 0.25, anchor)
            wanted[..., first - 2] = True  # a voxel of phase one's grid
            moved[anchor] += place_patches(wanted, (1, 1, 96), 0.25, anchor) != before
    assert moved == {None: 64, (0, 0, 0): 8}
