import numpy as np
import pytest
from scipy import ndimage

from app.data.placement import PLANES_AT_ONCE, cut, cut_with_middles
from app.data.synthetic import Body, random_placement

SPACING_MM = (2.0, 1.5, 1.2)


@pytest.fixture
def body():
    tissues = np.random.default_rng(0).integers(1, 255, (23, 29, 31), dtype=np.uint8)
    none = np.zeros(3, np.int32)
    return Body(
        tissues=tissues,
        spacing_mm=(1.6, 1.5, 1.7),
        organ_points=[],
        organ_start=none,
        organ_stop=none,
    )


def all_places(placement):
    return np.concatenate([placement.places(planes) for planes in placement.slabs()], axis=1)


@pytest.mark.parametrize("center", [(11.0, 14.0, 15.0), (1.0, 2.0, 30.0)])
def test_a_patch_holds_the_nearest_voxel_of_the_body_and_air_beyond_it(body, center):
    shape = (2 * PLANES_AT_ONCE + 1, 17, 19)
    placement = random_placement(body, center, shape, SPACING_MM, np.random.default_rng(1))

    places = all_places(placement)
    expected = ndimage.map_coordinates(body.tissues, places, order=0, mode="constant", cval=0)
    np.testing.assert_array_equal(cut(body.tissues, placement), expected)


def test_middles_lie_between_the_corners_of_blocks(body):
    shape = (2 * PLANES_AT_ONCE + 2, 16, 18)
    placement = random_placement(body, (4, 14, 15), shape, SPACING_MM, np.random.default_rng(2))

    patch, middles = cut_with_middles(body.tissues, placement)

    np.testing.assert_array_equal(patch, cut(body.tissues, placement))
    places = all_places(placement)
    halfway = 0.5 * (places[:, ::2, ::2, ::2] + places[:, 1::2, 1::2, 1::2])
    expected = ndimage.map_coordinates(body.tissues, halfway, order=0, mode="constant", cval=0)
    np.testing.assert_array_equal(middles, expected)


def test_places_turn_scale_and_bend_about_the_center(body):
    rng = np.random.default_rng(3)
    placement = random_placement(body, (11, 14, 15), (9, 11, 13), SPACING_MM, rng)

    places = all_places(placement)

    offset_mm = (np.array((9, 11, 13)) - 1) * SPACING_MM
    across = (places[:, -1, -1, -1] - places[:, 0, 0, 0]) * body.spacing_mm
    # Scaled by 0.83 to 1.21, bent by some millimeters.
    assert 0.8 * np.linalg.norm(offset_mm) - 20 < np.linalg.norm(across)
    assert np.linalg.norm(across) < 1.25 * np.linalg.norm(offset_mm) + 20
    assert np.abs(places[:, 4, 5, 6] - (11, 14, 15)).max() < 20
