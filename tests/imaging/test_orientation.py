from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from app.imaging.geometry import Geometry
from app.imaging.orientation import from_lps, to_lps
from app.imaging.volume import Volume

SHAPE = (2, 3, 4)
SPACING_MM = (5.0, 3.0, 2.0)


def volume(direction, origin_mm=(7.0, -8.0, 9.0)):
    array = np.arange(24, dtype=np.int16).reshape(SHAPE)
    rows = tuple(tuple(float(value) for value in row) for row in direction)
    geometry = Geometry(shape=SHAPE, spacing_mm=SPACING_MM, origin_mm=origin_mm, direction=rows)
    return Volume(array, geometry)


def world(geometry, index):
    steps = np.asarray(geometry.direction) * geometry.spacing_mm
    return np.asarray(geometry.origin_mm) + steps @ index


def signed_permutation(axes, signs):
    direction = np.zeros((3, 3))
    for column, (row, sign) in enumerate(zip(axes, signs, strict=True)):
        direction[row, column] = sign
    return direction


ALL_48 = [
    signed_permutation(axes, signs)
    for axes, signs in product(permutations(range(3)), product((1, -1), repeat=3))
]


def test_lps_is_left_as_it_is():
    turned, orientation = to_lps(volume(np.eye(3)))
    assert orientation.axes == (0, 1, 2)
    assert orientation.flipped == (False, False, False)
    assert turned.geometry == volume(np.eye(3)).geometry


def test_ras_is_turned_about_the_long_axis():
    # x grows to the Right and y to the Front: both flip, z stays.
    turned, orientation = to_lps(volume(np.diag([1.0, -1.0, -1.0])))
    assert orientation.flipped == (False, True, True)
    assert turned.array[0, 0, 0] == 11  # the last voxel of the first slice
    # y: -8 - 2 * 3, x: 9 - 3 * 2
    assert turned.geometry.origin_mm == (7.0, -14.0, 3.0)


@pytest.mark.parametrize("direction", ALL_48)
def test_every_orientation_becomes_the_identity(direction):
    turned, _ = to_lps(volume(direction))
    assert np.array_equal(turned.geometry.direction, np.eye(3))


tilts = st.builds(
    lambda x, y, z: Rotation.from_euler("xyz", [x, y, z], degrees=True).as_matrix(),
    *[st.floats(-80, 80)] * 3,
)


@given(direction=st.sampled_from(ALL_48), tilt=tilts)
def test_every_voxel_keeps_its_place_in_the_world_at_any_tilt(direction, tilt):
    original = volume(tilt @ direction)
    turned, _ = to_lps(original)
    for index in np.ndindex(turned.array.shape):
        place = world(turned.geometry, index)
        stored = np.unravel_index(turned.array[index], SHAPE)
        np.testing.assert_allclose(place, world(original.geometry, stored), atol=1e-9)


@given(direction=st.sampled_from(ALL_48), tilt=tilts)
def test_there_and_back_gives_the_stored_array(direction, tilt):
    original = volume(tilt @ direction)
    turned, orientation = to_lps(original)
    assert np.array_equal(from_lps(turned.array, orientation), original.array)


@given(direction=st.sampled_from(ALL_48), tilt=tilts)
def test_a_slight_tilt_does_not_change_which_axes_are_exchanged(direction, tilt):
    slight = Rotation.from_matrix(tilt).as_rotvec() * 0.2
    tilted = Rotation.from_rotvec(slight).as_matrix() @ direction
    assert to_lps(volume(tilted))[1] == to_lps(volume(direction))[1]


def test_turning_copies_nothing():
    original = volume(ALL_48[-1])
    turned, orientation = to_lps(original)
    assert np.shares_memory(turned.array, original.array)
    assert np.shares_memory(from_lps(turned.array, orientation), original.array)


def test_at_45_degrees_no_axis_is_used_twice():
    direction = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    assert sorted(to_lps(volume(direction))[1].axes) == [0, 1, 2]
