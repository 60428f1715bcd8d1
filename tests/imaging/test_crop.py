import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import EmptyRegionError
from app.imaging.crop import bounding_box, box_on_grid, crop, widen
from app.imaging.geometry import Box, Geometry
from app.imaging.volume import Volume


def mask_with(*voxels, shape=(10, 20, 30)):
    mask = np.zeros(shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def test_box_holds_exactly_the_foreground_without_margin():
    box = bounding_box(mask_with((2, 5, 7), (4, 6, 20)), (5.0, 2.0, 1.0))
    assert box == Box(start=(2, 5, 7), stop=(5, 7, 21))


def test_margin_is_physical_so_thick_slices_gain_fewer_voxels():
    # 6 mm are 2 slices of 5 mm (rounded up), 3 rows of 2 mm, 6 columns of 1 mm.
    box = bounding_box(mask_with((5, 10, 15)), (5.0, 2.0, 1.0), margin_mm=6.0)
    assert box == Box(start=(3, 7, 9), stop=(8, 14, 22))


def test_box_is_clipped_to_the_volume():
    box = bounding_box(mask_with((0, 19, 15)), (1.0, 1.0, 1.0), margin_mm=3.0)
    assert box == Box(start=(0, 16, 12), stop=(4, 20, 19))


def test_margin_of_whole_voxels_is_not_rounded_up_by_float_noise():
    # 0.3 / 0.1 is 2.9999999999999996 and 3 * 0.1 is 0.30000000000000004.
    box = bounding_box(mask_with((5, 10, 15)), (0.1, 0.1, 0.1), margin_mm=3 * 0.1)
    assert box.shape == (7, 7, 7)


def test_empty_mask_is_an_error():
    with pytest.raises(EmptyRegionError, match="10, 20, 30"):
        bounding_box(mask_with(), (1.0, 1.0, 1.0))


def test_box_on_another_grid_by_hand():
    # 4 voxels of 3 mm: voxel 1 covers -3 ... 0 mm from the center, which are the
    # voxels 1.5 ... 3 of the 6 of 2 mm; rounded outwards 1 ... 3.
    box = box_on_grid(
        Box(start=(1, 0, 0), stop=(2, 1, 2)),
        (4, 1, 2),
        (3.0, 1.0, 1.0),
        (6, 1, 4),
        (2.0, 1.0, 0.5),
    )
    assert box == Box(start=(1, 0, 0), stop=(3, 1, 4))


def test_margin_on_another_grid_is_physical_and_differs_by_axis():
    box = box_on_grid(
        Box(start=(10, 10, 10), stop=(20, 20, 20)),
        (30, 30, 30),
        (4.0, 4.0, 4.0),
        (24, 60, 120),
        (5.0, 2.0, 1.0),
        margin_mm=(20.0, 14.0, 14.0),
    )
    # Center 60 mm; the box covers 40 ... 80 mm, with margin 20 ... 100 and 26 ... 94 mm.
    assert box == Box(start=(4, 13, 26), stop=(20, 47, 94))


@given(
    start=st.tuples(*[st.integers(0, 8)] * 3),
    extent=st.tuples(*[st.integers(1, 4)] * 3),
    new_spacing=st.tuples(*[st.sampled_from([0.7, 1.0, 2.5, 6.0])] * 3),
)
def test_box_on_another_grid_covers_the_box(start, extent, new_spacing):
    shape, spacing = (12, 12, 12), (3.0, 2.0, 1.0)
    box = Box(start=start, stop=tuple(np.add(start, extent).tolist()))
    new_shape = tuple(
        int(np.ceil(12 * old / new)) for old, new in zip(spacing, new_spacing, strict=True)
    )
    there = box_on_grid(box, shape, spacing, new_shape, new_spacing)
    back = box_on_grid(there, new_shape, new_spacing, shape, spacing)
    assert all(low <= first for low, first in zip(back.start, box.start, strict=True))
    assert all(high >= last for high, last in zip(back.stop, box.stop, strict=True))


def test_small_box_is_widened_evenly_and_stays_inside():
    box = Box(start=(0, 8, 4), stop=(2, 10, 8))
    assert widen(box, (6, 6, 3), (5, 20, 9)) == Box(start=(0, 6, 4), stop=(5, 12, 8))


def test_crop_is_a_view_that_knows_its_place():
    array = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    geometry = Geometry(shape=(2, 3, 4), spacing_mm=(5.0, 3.0, 2.0), origin_mm=(1.0, 2.0, 3.0))
    part = crop(Volume(array, geometry), Box(start=(1, 0, 2), stop=(2, 2, 4)))
    assert part.array.tolist() == [[[14, 15], [18, 19]]]
    assert part.geometry.origin_mm == (6.0, 2.0, 7.0)
    assert np.shares_memory(part.array, array)


@given(
    start=st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 4)),
    extent=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 4)),
)
def test_crop_is_a_view_of_the_box_and_of_no_more(start, extent):
    array = np.zeros((4, 6, 8), np.int16)
    box = Box(start=start, stop=tuple(np.add(start, extent).tolist()))
    part = crop(Volume(array, Geometry(shape=(4, 6, 8), spacing_mm=(3.0, 2.0, 1.0))), box)
    part.array[...] = 1
    assert array[box.slices].all()
    assert array.sum() == np.prod(extent)


def test_crop_of_a_crop_is_the_crop_itself():
    array = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    whole = Volume(array, Geometry(shape=(6, 7, 8), spacing_mm=(5.0, 3.0, 2.0)))
    outer, inner = (
        Box(start=(1, 2, 3), stop=(6, 7, 8)),
        Box(start=(2, 4, 5), stop=(5, 6, 8)),
    )
    found = crop(crop(whole, outer), inner.relative_to(outer))
    assert np.array_equal(found.array, array[2:5, 4:6, 5:8])
    assert found.geometry == crop(whole, inner).geometry
