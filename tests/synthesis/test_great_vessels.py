"""What aorta and vena cava part into, and the veins beside them, in a body of a few tubes."""

import numpy as np
import pytest
from crude_anatomy import open_grid_mm
from scipy import ndimage

from app.synthesis.great_vessels import lay_azygos_veins, lay_iliac_vessels
from app.synthesis.scene import Scene
from app.synthesis.tissues import Tissue

SPACING_MM = (2.5, 2.0, 1.5)
SHAPE = (70, 64, 112)
AORTA_Y, AORTA_X, CAVA_X, RADIUS = 80.0, 95.0, 65.0, 9.0
AORTA_END, CAVA_END = 80.0, 70.0
"""In mm, as all that :func:`body` is made of."""

SEEDS = range(6)


@pytest.fixture(scope="module")
def body():
    z, y, x = open_grid_mm(SHAPE, SPACING_MM)
    tissues = np.full(SHAPE, Tissue.MESENTERY, np.uint8)
    tissues[(np.hypot(y - AORTA_Y, x - AORTA_X) < RADIUS) & (z > AORTA_END)] = Tissue.AORTA
    cava = (np.hypot(y - AORTA_Y, x - CAVA_X) < RADIUS) & (z > CAVA_END)
    tissues[cava] = Tissue.INFERIOR_VENA_CAVA
    tissues[(y > AORTA_Y + RADIUS + 3.0) & (x > 60.0) & (x < 100.0) & (z >= 0.0)] = (
        Tissue.TRABECULAR_BONE
    )
    # Another body's iliac arteries begin before the aorta's end.
    for off in (-12.0, 12.0):
        tissues[(np.hypot(y - 45.0, x - 80.0 - off) < 4.0) & (z < AORTA_END)] = Tissue.ARTERY
    return tissues


def laid(lay, tissues, seed):
    scene = Scene(tissues.copy(), SPACING_MM, np.random.default_rng(seed))
    lay(scene)
    return scene.tissues


def pieces_in(plane):
    """Give the middle of each piece along x, in mm."""
    pieces, count = ndimage.label(plane)
    middles = ndimage.center_of_mass(plane, pieces, range(1, count + 1))
    return [middle[1] * SPACING_MM[2] for middle in middles]


@pytest.mark.parametrize(
    ("trunk", "kind", "end_mm"),
    [
        (Tissue.AORTA, Tissue.ARTERY, AORTA_END),
        (Tissue.INFERIOR_VENA_CAVA, Tissue.VEIN, CAVA_END),
    ],
)
def test_a_great_vessel_parts_into_a_right_and_a_left_one_below_its_end(body, trunk, kind, end_mm):
    parted = 0
    for seed in SEEDS:
        tissues = laid(lay_iliac_vessels, body, seed)
        branches = tissues == kind
        joined, _ = ndimage.label(branches | (tissues == trunk), np.ones((3, 3, 3)))
        assert len(set(np.unique(joined[branches])) & set(np.unique(joined[body == trunk]))) == 1
        heights = np.flatnonzero(branches.any((1, 2))) * SPACING_MM[0]
        assert heights.min() < end_mm - 40.0
        # None is seen beside the trunk, whose walls they do not leave.
        assert heights.max() < end_mm + RADIUS + 8.0
        right_and_left = pieces_in(branches[round((end_mm - 32.0) / SPACING_MM[0])])
        parted += len(right_and_left) == 2
        assert max(right_and_left) - min(right_and_left) > 2.0 * RADIUS
    # The right artery crosses before the left vein, which hides a part of it in some.
    assert parted >= len(SEEDS) // 2


def test_iliac_vessels_of_another_body_are_removed_and_no_organ_or_bone_is_touched(body):
    for seed in SEEDS:
        tissues = laid(lay_iliac_vessels, body, seed)
        changed = tissues != body
        assert set(np.unique(body[changed])) <= {Tissue.MESENTERY, Tissue.ARTERY}
        begun = round((AORTA_END - 5.0) / SPACING_MM[0])
        assert not (tissues[begun, : round(60.0 / SPACING_MM[1])] == Tissue.ARTERY).any()


def test_a_vessel_that_goes_on_below_the_scene_does_not_part(body):
    above = body[round((AORTA_END + 15.0) / SPACING_MM[0]) :]
    assert (above == Tissue.AORTA)[0].any()
    np.testing.assert_array_equal(laid(lay_iliac_vessels, above, 0), above)
    empty = np.full(SHAPE, Tissue.MESENTERY, np.uint8)
    for lay in (lay_iliac_vessels, lay_azygos_veins):
        np.testing.assert_array_equal(laid(lay, empty, 0), empty)


def test_azygos_veins_run_upright_beside_the_aorta_in_fat(body):
    sides = set()
    for seed in SEEDS:
        tissues = laid(lay_azygos_veins, body, seed)
        changed = tissues != body
        assert set(np.unique(tissues[changed])) == {Tissue.VEIN}
        assert set(np.unique(body[changed])) == {Tissue.MESENTERY}
        z, y, x = (np.argwhere(changed) * SPACING_MM).T
        away_mm = np.hypot(y - AORTA_Y, x - AORTA_X)
        assert RADIUS - 1.5 < away_mm.min()
        assert away_mm.max() < RADIUS + 2.0 * 4.0 + 5.5 + 3.0
        assert y.min() > AORTA_Y - 6.0
        assert z.max() > (SHAPE[0] - 1) * SPACING_MM[0] - 8.0  # the step of thinned positions
        sides |= set(np.sign(x - AORTA_X).tolist())
    assert {-1.0, 1.0} <= sides
