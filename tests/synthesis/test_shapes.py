"""Implicit shapes: depths worked out by hand."""

import numpy as np
import pytest

from app.synthesis.shapes import (
    Canvas,
    Ellipsoid,
    Tube,
    frame,
    grow,
    in_front_of,
    intersect,
    smooth_tube,
    subtract,
    unite,
)


def depth_at(shape, point):
    z, y, x = (np.full((1, 1, 1), value, np.float32) for value in point)
    return float(np.broadcast_to(shape.depth(z, y, x), (1, 1, 1))[0, 0, 0])


def test_depth_in_a_sphere_is_the_distance_to_its_surface():
    ball = Ellipsoid((1.0, 2.0, 3.0), (10.0, 10.0, 10.0))
    assert depth_at(ball, (1.0, 2.0, 6.0)) == pytest.approx(7.0, abs=1e-4)
    assert depth_at(ball, (1.0, 14.0, 3.0)) == pytest.approx(-2.0, abs=1e-4)


def test_a_turned_ellipsoid_reaches_along_its_own_axis():
    # Long axis along (1, 0, 1): the pole 20 mm away lies at 14.14 along z and x.
    egg = Ellipsoid((0.0, 0.0, 0.0), (20.0, 5.0, 5.0), frame((1, 0, 1), (0, 1, 0)))
    assert depth_at(egg, (14.14, 0.0, 14.14)) == pytest.approx(0.0, abs=0.01)
    assert depth_at(egg, (14.14, 0.0, -14.14)) < 0
    np.testing.assert_allclose(egg.bounds[1], [14.58, 5.0, 14.58], atol=0.01)


def test_depth_in_a_tube_is_radius_less_distance_to_its_path():
    tube = Tube(np.array([[0.0, 0, 0], [10.0, 0, 0]]), np.array([4.0, 2.0]))
    assert depth_at(tube, (5.0, 1.0, 0.0)) == pytest.approx(2.0, abs=1e-5)
    assert depth_at(tube, (13.0, 0.0, 0.0)) == pytest.approx(-1.0, abs=1e-5)


def test_a_path_that_stays_where_it_is_makes_the_tube_of_its_other_places():
    straight = smooth_tube([(0.0, 0, 0), (10.0, 0, 0), (20.0, 5, 0)], [2.0, 3.0, 4.0])
    again = smooth_tube(
        [(0.0, 0, 0), (0.0, 0, 0), (10.0, 0, 0), (10.0, 0, 0), (20.0, 5, 0)],
        [2.0, 9.0, 3.0, 9.0, 4.0],
    )
    np.testing.assert_allclose(again.points, straight.points)
    np.testing.assert_allclose(again.radii, straight.radii)
    one_place = smooth_tube([(1.0, 2, 3)] * 3, 4.0)
    assert depth_at(one_place, (1.0, 2.0, 4.0)) == pytest.approx(3.0, abs=1e-4)


def test_a_smooth_tube_passes_through_its_ends():
    tube = smooth_tube([(0, 0, 0), (10, 5, 0), (20, 0, 3)], [1.0, 2.0, 3.0])
    np.testing.assert_allclose(tube.points[[0, -1]], [[0, 0, 0], [20, 0, 3]], atol=1e-9)
    assert tube.radii[[0, -1]].tolist() == [1.0, 3.0]


def test_shapes_combine():
    left = Ellipsoid((0.0, 0.0, 4.0), (6.0, 6.0, 6.0))
    right = Ellipsoid((0.0, 0.0, -4.0), (6.0, 6.0, 6.0))
    assert depth_at(unite(left, right), (0, 0, 8)) == pytest.approx(2.0, abs=1e-4)
    assert depth_at(intersect(left, right), (0, 0, 8)) == pytest.approx(-6.0, abs=1e-4)
    assert depth_at(subtract(left, right), (0, 0, 8)) == pytest.approx(2.0, abs=1e-4)
    assert depth_at(grow(left, 1.5), (0, 0, 8)) == pytest.approx(3.5, abs=1e-4)
    assert depth_at(in_front_of(-1.0, left.bounds), (0, -3, 0)) == pytest.approx(2.0)


def test_painting_stays_within_what_gives_way():
    tissues = np.zeros((3, 4, 5), np.uint8)
    tissues[:, :, 4] = 7
    axes = (np.arange(size, dtype=np.float32) for size in (3, 4, 5))
    canvas = Canvas(tissues, *axes)
    canvas.paint(Ellipsoid((1.0, 1.0, 4.0), (1.1, 1.1, 1.1)), 9, over=(0,))
    # The ball of radius 1.1 covers its center and six neighbors; only x = 3 is free.
    assert np.argwhere(tissues == 9).tolist() == [[1, 1, 3]]
    canvas.paint(Ellipsoid((1.0, 1.0, 4.0), (1.1, 1.1, 1.1)), 9)
    assert (tissues == 9).sum() == 6
