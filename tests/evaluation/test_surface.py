import math

import numpy as np
import pytest

from app.evaluation.surface import INSIDE, find_surface, piece_areas_mm2

SPACING_MM = (3.0, 2.0, 1.0)
# Areas of a voxel's faces across z, y and x are 2, 3 and 6 mm².
TIP_MM2 = math.hypot(2, 3, 6) / 8  # = 7 / 8


def code(*voxels):
    """Code of a corner whose neighbors at these (z, y, x) offsets are inside."""
    return sum(1 << (4 * z + 2 * y + x) for z, y, x in voxels)


@pytest.mark.parametrize(
    ("voxels", "area_mm2"),
    [
        ([], 0.0),
        ([(0, 0, 0)], TIP_MM2),
        ([(0, 0, 0), (1, 1, 1)], 2 * TIP_MM2),
        # A bar along x: two triangles parallel to x, each a quarter of hypot(2, 3).
        ([(1, 0, 0), (1, 0, 1)], math.hypot(2, 3) / 2),
        # A layer across z: one whole face.
        ([(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)], 2.0),
        # An L across y.
        ([(0, 1, 0), (0, 1, 1), (1, 1, 0)], 3 / 2 + 3 * TIP_MM2),
        ([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)], 6 * TIP_MM2),
        # A chain whose middle link runs along y: ramps parallel to z and to x.
        (
            [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1)],
            4 * TIP_MM2 + math.hypot(3, 6) / 4 + math.hypot(2, 3) / 4,
        ),
    ],
)
def test_area_of_each_shape_and_of_its_inverse(voxels, area_mm2):
    areas = piece_areas_mm2(SPACING_MM)
    assert areas[code(*voxels)] == pytest.approx(area_mm2)
    assert areas[INSIDE ^ code(*voxels)] == pytest.approx(area_mm2)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), SPACING_MM, (0.7, 2.5, 0.93)])
def test_all_areas_equal_the_published_table(spacing_mm):
    from monai.metrics.utils import create_table_neighbour_code_to_surface_area

    published, _ = create_table_neighbour_code_to_surface_area(spacing_mm)
    # Their first voxel has the highest bit.
    backwards = [int(f"{number:08b}"[::-1], 2) for number in range(INSIDE + 1)]
    np.testing.assert_allclose(piece_areas_mm2(spacing_mm)[backwards], published.numpy(), rtol=1e-6)


def test_one_voxel_has_a_piece_at_each_of_its_eight_corners():
    mask = np.zeros((4, 5, 6), bool)
    mask[2, 3, 4] = True
    surface = find_surface(mask, SPACING_MM)
    assert surface.corners.tolist() == [[z, y, x] for z in (2, 3) for y in (3, 4) for x in (4, 5)]
    assert surface.areas_mm2 == pytest.approx([TIP_MM2] * 8)


def test_the_surface_closes_where_the_mask_meets_the_border():
    # 2 x 1 x 3 voxels: all of the 3 x 2 x 4 corners lie on the surface.
    assert len(find_surface(np.ones((2, 1, 3), bool), SPACING_MM).corners) == 24


def test_a_surface_taller_than_a_slab_is_found_whole():
    mask = np.zeros((70, 3, 4), bool)
    mask[1:69, 1, 1:3] = True
    corners = find_surface(mask, SPACING_MM).corners
    # A bar one voxel wide has a piece at every corner: 69 layers of 2 x 3.
    assert len(corners) == 69 * 6
    assert sorted(set(corners[:, 0].tolist())) == list(range(1, 70))


@pytest.mark.parametrize("shape", [(0, 0, 0), (3, 4, 5)])
def test_an_empty_mask_has_no_surface(shape):
    surface = find_surface(np.zeros(shape, bool), SPACING_MM)
    assert len(surface.corners) == len(surface.areas_mm2) == 0
