"""What lies in the fat between aorta, kidneys, adrenal glands and pancreas, in a plain body."""

import numpy as np
import pytest
from crude_anatomy import open_grid_mm
from scipy import ndimage

from app.synthesis import retroperitoneum
from app.synthesis.crura import lay_crura
from app.synthesis.jejunum import lay_jejunum
from app.synthesis.retroperitoneum import (
    lay_mesenteric_vessels,
    lay_renal_pelves,
    lay_renal_vessels,
    lay_splenic_vessels,
    scatter_nodes,
)
from app.synthesis.scene import Scene
from app.synthesis.sites import celiac_height_mm, hilum_mm, positions_mm, section_at
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue

SPACING_MM = (2.5, 2.0, 1.5)
SHAPE = (88, 70, 134)
LAID = (
    lay_renal_vessels,
    lay_renal_pelves,
    lay_splenic_vessels,
    lay_mesenteric_vessels,
    scatter_nodes,
    lay_jejunum,
    lay_crura,
)
SEEDS = range(5)

AORTA_Y, AORTA_X, AORTA_RADIUS = 90.0, 100.0, 10.0
CAVA_X = 68.0
KIDNEY_Z = 100.0
GLAND_Z = (140.0, 170.0)
"""In mm, as all that :func:`body` is made of."""


@pytest.fixture(scope="module")
def body():
    z, y, x = open_grid_mm(SHAPE, SPACING_MM)
    tissues = np.full(SHAPE, Tissue.MESENTERY, np.uint8)

    def ellipsoid(center, semi_axes):
        offsets = zip((z, y, x), center, semi_axes, strict=True)
        return sum(((place - middle) / half) ** 2 for place, middle, half in offsets) < 1

    def upright(center_x):
        return np.hypot(y - AORTA_Y, x - center_x) + 0 * z < AORTA_RADIUS

    tissues[upright(AORTA_X)] = Tissue.AORTA
    tissues[upright(CAVA_X)] = Tissue.INFERIOR_VENA_CAVA
    tissues[ellipsoid((KIDNEY_Z, 100.0, 160.0), (50.0, 24.0, 22.0))] = Tissue.LEFT_KIDNEY
    tissues[ellipsoid((KIDNEY_Z, 100.0, 25.0), (50.0, 24.0, 20.0))] = Tissue.RIGHT_KIDNEY
    for left, tissue in ((122.0, Tissue.LEFT_ADRENAL), (50.0, Tissue.RIGHT_ADRENAL)):
        gland = (z > GLAND_Z[0]) & (z < GLAND_Z[1]) & (np.abs(y - 100.0) < 8.0)
        tissues[gland & (np.abs(x - left) < 3.0)] = tissue
    pancreas = (np.abs(z - 140.0) < 12.0) & (np.abs(y - 56.0) < 9.0)
    tissues[pancreas & (x > 70.0) & (x < 160.0)] = Tissue.PANCREAS
    tissues[ellipsoid((165.0, 90.0, 185.0), (30.0, 30.0, 12.0))] = Tissue.SPLEEN
    tissues[ellipsoid((110.0, 60.0, 110.0), (8.0, 10.0, 12.0))] = Tissue.DUODENUM
    return tissues


def scene_of(body, seed=0):
    return Scene(body.copy(), SPACING_MM, np.random.default_rng(seed))


def places_mm(mask):
    return np.argwhere(mask) * SPACING_MM


def is_joined(mask, *parts):
    """Tell whether a mask joins some parts of it to one another."""
    pieces, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    common = set(np.unique(pieces[parts[0]]))
    for part in parts[1:]:
        common &= set(np.unique(pieces[part]))
    return bool(common - {0})


@pytest.mark.parametrize("lay", LAID, ids=lambda lay: lay.__name__)
def test_it_is_laid_into_fat_alone(body, lay):
    for seed in SEEDS:
        scene = scene_of(body, seed)
        lay(scene)
        changed = scene.tissues != body
        assert changed.any()
        assert set(np.unique(body[changed])) == {Tissue.MESENTERY}
        assert not ORGAN_OF_TISSUE[scene.tissues[changed]].any()


def test_sites_are_given_in_mm(body):
    scene = scene_of(body)
    section = section_at(scene, positions_mm(scene, Tissue.AORTA), 110.0)
    assert (section.y, section.x) == pytest.approx((AORTA_Y, AORTA_X), abs=2.5)
    assert section.radius == pytest.approx(AORTA_RADIUS, abs=1.5)
    # A quarter of the height of the glands from their lower end.
    assert celiac_height_mm(scene) == pytest.approx(147.5, abs=5.0)
    z, y, x = hilum_mm(scene, Tissue.LEFT_KIDNEY)
    assert abs(z - KIDNEY_Z) < 13.0  # a tenth of 100 mm about the middle, thinned to 7.5 mm
    assert y == pytest.approx(100.0, abs=3.0)
    assert 138.0 < x < 160.0  # the medial half, towards the aorta
    assert 25.0 < hilum_mm(scene, Tissue.RIGHT_KIDNEY)[2] < 45.0


def test_without_adrenal_glands_the_kidneys_tell_the_height_and_without_both_nothing_does(body):
    scene = scene_of(body)
    scene.tissues[np.isin(body, (Tissue.LEFT_ADRENAL, Tissue.RIGHT_ADRENAL))] = Tissue.MESENTERY
    assert celiac_height_mm(scene) == pytest.approx(KIDNEY_Z + 50.0 - 20.0, abs=8.0)
    # Cut off above, the kidneys have no upper pole.
    cut = Scene(scene.tissues[:40].copy(), SPACING_MM, scene.rng)
    before = cut.tissues.copy()
    assert celiac_height_mm(cut) is None
    for lay in (lay_crura, lay_mesenteric_vessels, scatter_nodes):
        lay(cut)
    np.testing.assert_array_equal(cut.tissues, before)


def test_a_kidney_of_which_little_shows_has_no_hilum(body):
    # 20 of its 100 mm.
    part = Scene(body[: round((KIDNEY_Z - 30.0) / 2.5)].copy(), SPACING_MM, np.random.default_rng())
    assert hilum_mm(part, Tissue.LEFT_KIDNEY) is None


def test_the_left_renal_vein_crosses_before_the_aorta_and_arteries_leave_its_sides(body):
    for seed in SEEDS:
        scene = scene_of(body, seed)
        lay_renal_vessels(scene)
        vein = scene.where((Tissue.VEIN, Tissue.PORTAL_VEIN))
        kidney, cava, aorta = (
            body == organ for organ in (Tissue.LEFT_KIDNEY, Tissue.INFERIOR_VENA_CAVA, Tissue.AORTA)
        )
        assert is_joined(vein | kidney | cava, kidney, cava)
        crossing = places_mm(vein)
        crossing = crossing[np.abs(crossing[:, 2] - AORTA_X) < 3.0]
        assert len(crossing)
        assert crossing[:, 1].max() < AORTA_Y - 0.8 * AORTA_RADIUS
        artery = scene.tissues == Tissue.ARTERY
        right = body == Tissue.RIGHT_KIDNEY
        assert is_joined(artery | aorta, aorta, artery)
        for side in (kidney, right):
            assert is_joined(artery | aorta | side, aorta, side)
        behind = places_mm(artery)
        behind = behind[np.abs(behind[:, 2] - CAVA_X) < 3.0]
        assert len(behind)
        assert behind[:, 1].min() > AORTA_Y + 0.8 * AORTA_RADIUS


def test_each_kidney_drains_into_a_pelvis_outside_it_and_a_ureter_that_runs_down(body):
    widths_mm = []
    for seed in SEEDS:
        scene = scene_of(body, seed)
        lay_renal_pelves(scene)
        urine = scene.tissues == Tissue.URINE
        for kidney in (Tissue.LEFT_KIDNEY, Tissue.RIGHT_KIDNEY):
            pieces, _ = ndimage.label(urine | (body == kidney), np.ones((3, 3, 3)))
            drained = urine & (pieces == pieces[body == kidney][0])
            z, _, x = places_mm(drained).T
            of_kidney = places_mm(body == kidney)[:, 2]
            # All of it lies towards the aorta, from the hilum to below the kidney.
            assert np.abs(x - AORTA_X).max() < np.abs(of_kidney.mean() - AORTA_X)
            assert z.max() < KIDNEY_Z + 25.0
            assert z.min() < KIDNEY_Z - 50.0
            high = drained & (np.arange(SHAPE[0]) * SPACING_MM[0] > KIDNEY_Z - 20.0)[:, None, None]
            widths_mm.append(2 * ndimage.distance_transform_edt(high, SPACING_MM).max())
    assert min(widths_mm) < 12.0 < max(widths_mm)


def test_the_splenic_vein_lies_behind_the_pancreas_and_reaches_the_spleen(body):
    for seed in SEEDS:
        scene = scene_of(body, seed)
        lay_splenic_vessels(scene)
        vein = scene.tissues == Tissue.PORTAL_VEIN
        assert is_joined(vein | (body == Tissue.SPLEEN), vein, body == Tissue.SPLEEN)
        along = places_mm(vein)
        along = along[(along[:, 2] > AORTA_X) & (along[:, 2] < 140.0)]
        # The pancreas ends at 65 mm; a vein of at most 10 mm lies against it.
        assert 64.0 < np.median(along[:, 1]) < 65.0 + 10.0
        assert np.abs(along[:, 0] - 140.0).max() < 20.0
        assert (scene.tissues == Tissue.ARTERY).any()


def test_mesenteric_vessels_run_before_the_aorta_the_vein_on_the_right(body):
    for seed in SEEDS:
        scene = scene_of(body, seed)
        lay_mesenteric_vessels(scene)
        artery = scene.tissues == Tissue.ARTERY
        assert is_joined(artery | (body == Tissue.AORTA), artery, body == Tissue.AORTA)
        places = places_mm(artery)
        assert places[:, 1].max() < AORTA_Y
        low = places[places[:, 0] < 100.0]
        vein = places_mm(scene.tissues == Tissue.PORTAL_VEIN)
        vein = vein[vein[:, 0] < 100.0]
        assert len(low)
        assert vein[:, 2].mean() < low[:, 2].mean() - 5.0


def test_the_mesenteric_vein_lies_in_the_groove_of_the_pancreas_and_ends_in_the_liver(
    body, monkeypatch
):
    z, y, x = open_grid_mm(SHAPE, SPACING_MM)
    tissues = body.copy()
    # A head of the pancreas to the right of the vessels, and a liver above it.
    head = (z > 90.0) & (z < 130.0) & (y > 48.0) & (y < 72.0) & (x > 55.0) & (x < 78.0)
    tissues[head] = Tissue.PANCREAS
    tissues[(z > 168.0) & (y < 75.0) & (x < 65.0)] = Tissue.LIVER
    elsewhere = (slice(40, 60), slice(5, 8), slice(60, 65))
    tissues[elsewhere] = Tissue.PORTAL_VEIN  # of another body
    pancreas_mm = ndimage.distance_transform_edt(tissues != Tissue.PANCREAS, SPACING_MM)
    liver = tissues == Tissue.LIVER

    def from_head_mm(seed):
        scene = scene_of(tissues, seed)
        lay_mesenteric_vessels(scene)
        vein = scene.tissues == Tissue.PORTAL_VEIN
        assert not vein[elsewhere].any()
        assert is_joined(vein | liver, vein, liver)
        beside_head = vein & (z > 100.0) & (z < 120.0)
        planes = np.flatnonzero(beside_head.any((1, 2)))
        return np.mean([pancreas_mm[plane][beside_head[plane]].min() for plane in planes])

    led = [from_head_mm(seed) for seed in SEEDS]
    monkeypatch.setattr(retroperitoneum, "_in_groove", lambda _scene, course, _beside, _mm: course)
    left_alone = [from_head_mm(seed) for seed in SEEDS]
    # Positions are thinned to 5, 4 and 3 mm, and between them the vein runs straight.
    assert max(led) < 6.0
    assert np.mean(led) < 0.6 * np.mean(left_alone)


def test_nodes_are_small_and_lie_near_aorta_or_adrenal_glands(body):
    sites = np.isin(body, (Tissue.AORTA, Tissue.LEFT_ADRENAL, Tissue.RIGHT_ADRENAL))
    away_mm = ndimage.distance_transform_edt(~sites, SPACING_MM)
    for seed in SEEDS:
        scene = scene_of(body, seed)
        scatter_nodes(scene)
        nodes = scene.tissues == Tissue.PELVIC_SOFT_TISSUE
        depth_mm = ndimage.distance_transform_edt(nodes, SPACING_MM)
        assert depth_mm.max() < 5.0 + 2.5
        assert away_mm[nodes].max() < 28.0 + 4.0 + 12.0


def test_crura_lie_beside_the_aorta_and_join_before_it_only_high_up(body):
    widths_mm = {"right": [], "left": []}
    joined_above = 0
    for seed in range(8):
        scene = scene_of(body, seed)
        lay_crura(scene)
        muscle = scene.tissues == Tissue.MUSCLE
        z, y, x = places_mm(muscle).T
        assert z.min() > 147.5 - 75.0 - 8.0
        assert z.max() < 147.5 + 80.0 + 8.0
        beside = np.abs(y - AORTA_Y) < 2.0
        for side, chosen in (("right", x < AORTA_X), ("left", x > AORTA_X)):
            at_celiac = beside & chosen & (np.abs(z - 147.5) < 6.0)
            away_mm = np.abs(x[at_celiac] - AORTA_X)
            assert len(away_mm)
            # Next to the wall of the aorta, not on it.
            assert AORTA_RADIUS - 1.5 < away_mm.min() < AORTA_RADIUS + 6.0
            widths_mm[side].append(np.ptp(away_mm))
        middle = (np.abs(x - AORTA_X) < 2.0) & (y < AORTA_Y)
        assert not (middle & (z < 147.5 - 30.0)).any()
        joined_above += (middle & (z > 147.5)).any()
    assert np.mean(widths_mm["right"]) > np.mean(widths_mm["left"])
    assert max(max(widths) for widths in widths_mm.values()) < 28.0
    assert joined_above


@pytest.mark.parametrize("seed", range(4))
def test_jejunum_is_laid_before_what_a_mass_has_left_of_a_kidney(body, seed):
    scene = scene_of(body, seed)
    kidney = np.argwhere(body == Tissue.LEFT_KIDNEY)
    low, high = kidney[:, 0].min(), kidney[:, 0].max()
    rest = round(4.0 / scene.spacing_mm[0])
    between = scene.tissues[low + rest : high - rest]
    between[between == Tissue.LEFT_KIDNEY] = Tissue.MESENTERY

    lay_jejunum(scene)

    assert (scene.tissues == Tissue.BOWEL_WALL).sum() > (body == Tissue.BOWEL_WALL).sum()


@pytest.mark.parametrize("held", [Tissue.FOOD, Tissue.ORAL_CONTRAST])
def test_jejunum_takes_the_place_of_bowel_whatever_that_holds(body, held):
    full, empty = scene_of(body, 3), scene_of(body, 3)
    full.tissues[full.tissues == Tissue.MESENTERY] = held
    lay_jejunum(full)
    lay_jejunum(empty)
    loops = (empty.tissues != body) & (empty.tissues != Tissue.MESENTERY)
    assert loops.any()
    np.testing.assert_array_equal(full.tissues[loops], empty.tissues[loops])


def test_jejunum_goes_on_from_the_duodenum_and_lies_before_the_left_kidney(body):
    bowel = (Tissue.BOWEL_WALL, Tissue.BOWEL_CONTENT, Tissue.BOWEL_FLUID, Tissue.PELVIC_SOFT_TISSUE)
    kidney_mm = ndimage.distance_transform_edt(body != Tissue.LEFT_KIDNEY, sampling=SPACING_MM)
    touching, held = 0, set()
    for seed in range(8):
        scene = scene_of(body, seed)
        lay_jejunum(scene)
        loops = scene.where(bowel)
        held |= set(np.unique(scene.tissues[loops]).tolist())
        assert is_joined(loops | (body == Tissue.DUODENUM), loops, body == Tissue.DUODENUM)
        # The kidney's middle is 100 mm from the front, its face 76 mm.
        assert places_mm(loops)[:, 1].max() < 100.0
        touching += kidney_mm[loops].min() < 4.0
        depth_mm = ndimage.distance_transform_edt(np.pad(loops, 1), sampling=SPACING_MM)
        # Loops of radius up to 22 mm; two that touch are deeper.
        assert 6.0 < depth_mm.max() < 35.0
    assert touching > 4
    assert Tissue.BOWEL_WALL in held
    assert len(held) > 1
