"""Vessels that branch through liver and lungs."""

import numpy as np
import pytest
from scipy import ndimage

from app.synthesis.scene import Scene
from app.synthesis.tissues import Tissue
from app.synthesis.vessels import add_liver_vessels, add_lung_vessels

SHAPE, SPACING_MM = (66, 72, 80), (2.0, 1.5, 1.8)
"""132 x 108 x 144 mm: a liver of about a liter."""


def body(organ=Tissue.LIVER):
    """Give a block of one organ with veins at its back: vena cava above, portal vein below."""
    tissues = np.full(SHAPE, Tissue.MESENTERY, np.uint8)
    tissues[4:-4, 4:60, 4:-4] = organ
    tissues[40:-4, 60:66, 30:38] = Tissue.INFERIOR_VENA_CAVA
    tissues[10:20, 60:66, 50:58] = Tissue.PORTAL_VEIN
    tissues[30:, 60:66, 8:14] = Tissue.ESOPHAGUS
    return tissues


def grown(add, tissues, seed=3):
    scene = Scene(tissues.copy(), SPACING_MM, np.random.default_rng(seed))
    add(scene)
    return scene.tissues


@pytest.mark.parametrize(("kind", "origin"), [
    (Tissue.VEIN, Tissue.INFERIOR_VENA_CAVA), (Tissue.LIVER_VESSEL, Tissue.PORTAL_VEIN),
])  # fmt: skip
def test_vessels_of_the_liver_begin_wide_at_their_origin_and_reach_all_of_it(kind, origin):
    before = body()

    vessels = grown(add_liver_vessels, before) == kind

    depth_mm = ndimage.distance_transform_edt(vessels, sampling=SPACING_MM)
    widest = np.argwhere(depth_mm == depth_mm.max())[0] * SPACING_MM
    starts = np.argwhere(before == origin) * SPACING_MM
    assert np.linalg.norm(starts - widest, axis=1).min() < 50
    # Of a liter: 11 mm wide, a third less or a fifth more.
    assert 0.6 * 5.7 < depth_mm.max() < 1.4 * 5.7
    # All but pieces that another vessel cut off hang together.
    parts, _ = ndimage.label(vessels, np.ones((3, 3, 3)))
    assert np.bincount(parts.ravel())[1:].max() > 0.7 * vessels.sum()
    far_mm = ndimage.distance_transform_edt(~vessels, sampling=SPACING_MM)[before == Tissue.LIVER]
    assert np.percentile(far_mm, 90) < 30
    assert 0.005 < vessels.sum() / (before == Tissue.LIVER).sum() < 0.08


def test_vessels_take_the_place_of_the_old_ones_and_of_liver_alone():
    before = body()
    before[20:30, 20:30, 20:30] = Tissue.LIVER_VESSEL
    before[30:40, 30:40, 30:40] = Tissue.CYST

    after = grown(add_liver_vessels, before)

    changed = after != before
    assert set(np.unique(before[changed])) == {Tissue.LIVER, Tissue.LIVER_VESSEL}
    assert (after[20:30, 20:30, 20:30] == Tissue.LIVER).mean() > 0.5


def test_where_their_origin_is_out_of_view_vessels_come_from_above():
    tissues = np.full(SHAPE, Tissue.LIVER, np.uint8)

    vessels = grown(add_liver_vessels, tissues) == Tissue.VEIN

    depth_mm = ndimage.distance_transform_edt(vessels, sampling=SPACING_MM)
    assert np.argwhere(depth_mm == depth_mm.max())[0][0] > SHAPE[0] / 2


def test_each_lung_has_vessels_that_get_thinner_away_from_the_middle():
    before = body(Tissue.LUNG)
    before[:, :, 40:46] = Tissue.MYOCARDIUM

    after = grown(add_lung_vessels, before)

    changed = after != before
    assert set(np.unique(before[changed])) == {Tissue.LUNG}
    assert set(np.unique(after[changed])) == {Tissue.HEART_BLOOD}
    assert changed[:, :, :40].any()
    assert changed[:, :, 46:].any()
    depth_mm = ndimage.distance_transform_edt(changed[:, :, :40], sampling=SPACING_MM)
    away = np.arange(40) > 20  # the esophagus lies at 8 to 14
    assert depth_mm[:, :, ~away].max() > depth_mm[:, :, away].max()


def test_vessels_thinner_than_a_voxel_are_left_out():
    """On phase one's grid a branch a voxel wide would be several times too wide."""
    coarse = Scene(body()[::6, ::6, ::6].copy(), (12.0, 9.0, 10.8), np.random.default_rng(3))

    add_liver_vessels(coarse)

    liver = np.isin(coarse.tissues, (Tissue.LIVER, Tissue.VEIN, Tissue.LIVER_VESSEL))
    assert (coarse.tissues[liver] != Tissue.LIVER).mean() < 0.08


def test_a_tree_repeats_for_a_seed():
    np.testing.assert_array_equal(
        grown(add_liver_vessels, body(), 5), grown(add_liver_vessels, body(), 5)
    )
    assert (grown(add_liver_vessels, body(), 5) != grown(add_liver_vessels, body(), 6)).any()
