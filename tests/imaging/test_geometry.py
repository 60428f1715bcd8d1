import numpy as np
import pytest

from app.errors import UsageError
from app.imaging.geometry import Box, Geometry
from app.imaging.intensity import normalize
from app.imaging.volume import Volume


def test_box_is_half_open():
    box = Box(start=(1, 2, 3), stop=(4, 6, 8))
    assert box.shape == (3, 4, 5)
    assert np.zeros((10, 10, 10))[box.slices].shape == box.shape


def test_box_in_the_voxels_of_another():
    box, other = Box(start=(4, 6, 8), stop=(5, 9, 12)), Box(start=(1, 2, 3), stop=(9, 9, 20))
    assert box.relative_to(other) == Box(start=(3, 4, 5), stop=(4, 7, 9))


def test_extent_counts_outer_edges_and_volume_is_in_ml():
    geometry = Geometry(shape=(10, 20, 30), spacing_mm=(5.0, 2.0, 1.0))
    assert geometry.extent_mm == (50.0, 40.0, 30.0)
    assert geometry.voxel_ml == 0.01


def test_cropped_grid_starts_where_the_box_does_in_any_direction():
    # Array axis 0 runs along world y, axis 1 against world z, axis 2 along world x.
    direction = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    geometry = Geometry(
        shape=(10, 20, 30),
        spacing_mm=(5.0, 2.0, 1.0),
        origin_mm=(100.0, 200.0, 300.0),
        direction=direction,
    )
    part = geometry.crop(Box(start=(1, 2, 3), stop=(4, 6, 8)))
    assert part.origin_mm == (96.0, 205.0, 303.0)
    assert part.shape == (3, 4, 5)


def test_array_must_have_the_shape_of_its_grid():
    geometry = Geometry(shape=(2, 3, 4), spacing_mm=(1.0, 1.0, 1.0))
    with pytest.raises(UsageError, match=r"\(4, 3, 2\).*\(2, 3, 4\)"):
        Volume(np.zeros((4, 3, 2)), geometry)


def test_window_maps_to_minus_two_and_two_and_clips():
    hu = np.array([-2000, -250, -100, 50, 350, 3000], np.int16)
    seen = normalize(hu, (-250.0, 350.0))
    assert seen.tolist() == [-2, -2, -1, 0, 2, 2]
    assert seen.dtype == np.float32


def test_the_union_of_two_boxes_holds_both_and_no_more():
    one = Box(start=(1, 5, 2), stop=(4, 9, 3))
    other = Box(start=(2, 3, 7), stop=(3, 6, 8))
    assert one.union(other) == other.union(one) == Box(start=(1, 3, 2), stop=(4, 9, 8))
