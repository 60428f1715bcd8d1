import numpy as np
import pytest
from scipy import ndimage

from app.synthesis import (
    contents,
    ducts,
    fissures,
    great_vessels,
    perfusion,
    retroperitoneum,
    spine,
    variation,
    vessels,
)
from app.synthesis.crura import lay_crura
from app.synthesis.interior import beside
from app.synthesis.jejunum import lay_jejunum
from app.synthesis.phantom import phantom_tissues
from app.synthesis.scene import Scene
from app.synthesis.tissues import ORGAN_OF_TISSUE, RADIODENSITY, Tissue

SPACING_MM = (5.0, 3.5, 4.0)
SHAPE = (66, 84, 100)

BOWEL = {Tissue.STOOL, Tissue.BOWEL_CONTENT, Tissue.BOWEL_GAS}
STOMACH = {
    Tissue.STOMACH_CONTENT,
    Tissue.STOMACH_GAS,
    Tissue.DUODENUM_CONTENT,
    Tissue.DUODENUM_GAS,
}
FAT_LIKE = {Tissue.MESENTERY, Tissue.FAT}
KIDNEYS = {Tissue.RIGHT_KIDNEY_MEDULLA, Tissue.LEFT_KIDNEY_MEDULLA}

REPLACES = {
    contents.refill_bowel: BOWEL,
    contents.refill_stomach: STOMACH,
    contents.distend_bowel: {*contents.FED_BOWEL, Tissue.MESENTERY},
    contents.add_loops: {Tissue.MESENTERY},
    contents.pack_loops: {Tissue.MESENTERY},
    contents.coil_loops: {*contents.FED_BOWEL, Tissue.MESENTERY},
    contents.add_wide_colon: {*contents.FED_BOWEL, Tissue.MESENTERY},
    retroperitoneum.lay_renal_vessels: {Tissue.MESENTERY},
    retroperitoneum.lay_splenic_vessels: {Tissue.MESENTERY},
    retroperitoneum.lay_mesenteric_vessels: {Tissue.MESENTERY, Tissue.PORTAL_VEIN},
    retroperitoneum.lay_renal_pelves: {Tissue.MESENTERY, Tissue.FAT},
    great_vessels.lay_iliac_vessels: {*great_vessels._OVER},
    great_vessels.lay_azygos_veins: {Tissue.MESENTERY},
    fissures.widen_gallbladder_bed: {Tissue.LIVER, Tissue.LIVER_VESSEL},
    retroperitoneum.scatter_nodes: {Tissue.MESENTERY},
    lay_crura: {Tissue.MESENTERY},
    lay_jejunum: {*contents.FED_BOWEL, Tissue.MESENTERY},
    variation.lobulate_pancreas: {Tissue.PANCREAS},
    variation.add_strands: {Tissue.MESENTERY},
    variation.marble_muscles: {Tissue.MUSCLE},
    variation.add_ascites: {Tissue.MESENTERY, Tissue.LIVER, Tissue.LIVER_VESSEL, Tissue.SPLEEN},
    variation.add_effusion: {Tissue.LUNG},
    variation.add_masses: {*variation._SOFT, Tissue.FAT},
    variation.calcify: {Tissue.AORTA, Tissue.ARTERY},
    variation.add_gallstones: {Tissue.GALLBLADDER},
    variation.add_kidney_stones: KIDNEYS,
    variation.dilate_renal_pelvis: KIDNEYS,
    variation.add_limb: {Tissue.AIR},
    spine.mottle_marrow: {Tissue.TRABECULAR_BONE},
    spine.add_spurs: {*spine._SPUR_ROOM, Tissue.MESENTERY},
    vessels.add_liver_vessels: {Tissue.LIVER, Tissue.LIVER_VESSEL},
    vessels.add_lung_vessels: {Tissue.LUNG},
    vessels.widen_bile_ducts: {Tissue.LIVER},
    ducts.lay_pancreatic_duct: {Tissue.PANCREAS},
    ducts.lay_bile_duct: {Tissue.MESENTERY, Tissue.PANCREAS},
    perfusion.line_aorta: {Tissue.AORTA},
    perfusion.mix_cava_blood: {Tissue.INFERIOR_VENA_CAVA},
    perfusion.band_spleen: {Tissue.SPLEEN},
    perfusion.patch_liver: {Tissue.LIVER},
}
GAS_FILLED = {Tissue.COLON_WALL, Tissue.BOWEL_GAS}


@pytest.fixture(scope="module")
def body():
    return phantom_tissues(shape=SHAPE, spacing_mm=SPACING_MM, seed=5)


@pytest.fixture
def scene(body):
    return Scene(body.copy(), SPACING_MM, np.random.default_rng(4))


@pytest.mark.parametrize("change", REPLACES, ids=lambda change: change.__name__)
def test_a_variation_replaces_only_the_tissues_it_is_about(body, change):
    changed = 0
    for seed in range(6):
        scene = Scene(body.copy(), SPACING_MM, np.random.default_rng(seed))
        change(scene)
        different = scene.tissues != body
        changed += different.sum()
        assert set(np.unique(body[different])) <= set(REPLACES[change])
        assert set(np.unique(scene.tissues)) <= {int(tissue) for tissue in RADIODENSITY}
    assert changed


def test_lesions_lie_inside_organs(body, scene):
    for _ in range(5):
        variation.add_lesions(scene)

    different = scene.tissues != body
    assert different.any()
    assert set(np.unique(scene.tissues[different])) <= {Tissue.LESION, Tissue.CYST}
    assert (ORGAN_OF_TISSUE[body[different]] > 0).all()


def test_gas_lies_in_front_of_what_the_stomach_holds(scene, monkeypatch):
    """A patient on the back: gas rises to the front, which is where y is small."""
    # No food, and no bubbles: those are anywhere.
    monkeypatch.setattr(Scene, "noise", lambda self, _: np.full(self.tissues.shape, -9.0))
    lumen = scene.where((Tissue.STOMACH_CONTENT, Tissue.STOMACH_GAS))
    leveled = 0
    for seed in range(8):
        trial = Scene(scene.tissues.copy(), SPACING_MM, np.random.default_rng(seed))
        contents.refill_stomach(trial)
        gas = np.nonzero(lumen & (trial.tissues == Tissue.STOMACH_GAS))[1]
        held = (Tissue.STOMACH_CONTENT, Tissue.ORAL_CONTRAST)
        fluid = np.nonzero(lumen & trial.where(held))[1]
        if len(gas) and len(fluid):
            leveled += 1
            assert gas.max() < fluid.min()
    assert leveled


def test_a_wide_colon_is_as_wide_as_a_full_one_and_walled(body, monkeypatch):
    monkeypatch.setattr(contents, "BESIDE_COLON", (Tissue.RIGHT_KIDNEY,))
    widest_mm = []
    held_gas_alone = 0
    for seed in range(16):
        scene = Scene(body.copy(), SPACING_MM, np.random.default_rng(seed))
        contents.add_wide_colon(scene)
        changed = scene.tissues != body
        if not changed.any():
            continue
        held_gas_alone += set(np.unique(scene.tissues[changed])) <= GAS_FILLED
        kidney = ndimage.distance_transform_edt(body != Tissue.RIGHT_KIDNEY, sampling=SPACING_MM)
        assert kidney[changed].min() < 40
        depth = ndimage.distance_transform_edt(np.pad(changed, 1), sampling=SPACING_MM)
        widest_mm.append(2 * depth.max())
        lumen = changed & (scene.tissues != Tissue.COLON_WALL)
        organs = ORGAN_OF_TISSUE[scene.tissues] > 0
        assert not (beside(lumen) & organs).any()
    assert 30 < max(widest_mm) < 85
    assert held_gas_alone


def test_folds_of_the_colon_are_thin_and_leave_its_middle_open(scene):
    center = np.array(SHAPE) // 2
    part, depth_mm = scene.tube(center, 30.0, length_mm=120.0)
    folds = contents._haustral_folds(part, depth_mm, 30.0)
    tube = depth_mm > 0
    assert 0.01 < (folds & tube).sum() / tube.sum() < 0.25
    assert not (folds & (depth_mm > 0.7 * 30.0)).any()


def test_packed_loops_lie_near_an_organ_and_hold_fluid_or_nothing(body, monkeypatch):
    monkeypatch.setattr(contents, "BESIDE_BOWEL", (Tissue.LEFT_KIDNEY,))
    distance_mm = ndimage.distance_transform_edt(body != Tissue.LEFT_KIDNEY, sampling=SPACING_MM)
    held = set()
    for seed in range(12):
        scene = Scene(body.copy(), SPACING_MM, np.random.default_rng(seed))
        contents.pack_loops(scene)
        changed = scene.tissues != body
        held |= set(np.unique(scene.tissues[changed]).tolist())
        # A cube of 60 mm each way, worked out on every second voxel of 5 x 3.5 x 4 mm.
        assert distance_mm[changed].max(initial=0) < np.sqrt(3) * 60 + 20
    assert {Tissue.BOWEL_WALL, Tissue.BOWEL_FLUID} <= held


def test_coiled_loops_are_as_wide_as_small_bowel_and_kept_apart_by_fat(body, monkeypatch):
    monkeypatch.setattr(contents, "BESIDE_BOWEL", (Tissue.LEFT_KIDNEY,))
    # Room without bowel of the body's own, so that what lies there afterwards is what was laid.
    plain = body.copy()
    plain[np.isin(plain, [int(tissue) for tissue in contents.FED_BOWEL])] = Tissue.MESENTERY
    laid = np.isin(np.arange(256), [int(tissue) for tissue in contents.FED_BOWEL])
    pieces, widths_mm, held = 0, [], set()
    for seed in range(8):
        scene = Scene(plain.copy(), SPACING_MM, np.random.default_rng(seed))
        contents.coil_loops(scene)
        bowel = laid[scene.tissues]
        held |= set(np.unique(scene.tissues[bowel]).tolist())
        pieces += ndimage.label(bowel)[1]
        depth_mm = ndimage.distance_transform_edt(np.pad(bowel, 1), sampling=SPACING_MM)
        widths_mm.append(2 * depth_mm.max())
        organs = ORGAN_OF_TISSUE[scene.tissues] > 0
        lumen = bowel & (scene.tissues != Tissue.BOWEL_WALL)
        assert lumen.sum() < 0.9 * bowel.sum()
        assert not (organs != (ORGAN_OF_TISSUE[body] > 0)).any()
    assert {Tissue.BOWEL_WALL, Tissue.BOWEL_FLUID} <= held
    assert pieces > 3 * 8
    # Of radius 8 to 16 mm, a quarter more or less; loops may touch where the rim of fat is thin.
    assert 2 * 8 * 0.75 < np.median(widths_mm) < 2 * 16 * 1.5


def test_what_is_turned_around_a_place_is_turned_in_the_scene(scene):
    corner = np.array([1, 40, 97])

    part, at = scene.around(corner, reach_mm=10.0)

    # 10 mm are 2 slices, 3 rows and 3 columns of 5 x 3.5 x 4 mm; the scene ends at 0 and 100.
    assert part.tissues.shape == (4, 7, 6)
    assert at.tolist() == [1, 3, 3]
    part.tissues[tuple(at)] = Tissue.CYST
    assert scene.tissues[1, 40, 97] == Tissue.CYST


@pytest.mark.parametrize("center", [(1, 40, 97), (20, 30, 50)])
def test_a_window_shows_what_the_scene_would(body, monkeypatch, center):
    def marked(seed):
        scene = Scene(body.copy(), SPACING_MM, np.random.default_rng(seed))
        part, ball = scene.ball(np.array(center), 25.0)
        part.turn(ball & (part.noise(20.0) > 0.2) & (part.noise_of_lines(30.0) < 0.3), Tissue.CYST)
        part, depth_mm = scene.tube(np.array(center), 15.0, length_mm=60.0, margin_mm=4.0)
        part.turn(depth_mm > -4.0, Tissue.MASS)
        return scene.tissues, part.tissues.size

    for seed in range(4):
        in_window, window_size = marked(seed)
        with monkeypatch.context() as patched:
            patched.setattr(Scene, "_window", lambda scene, at, reach_mm: (scene, np.array(at)))
            whole, whole_size = marked(seed)
        np.testing.assert_array_equal(in_window, whole)
        assert (whole == Tissue.MASS).any()
        assert window_size < 0.7 * whole_size


def test_a_lobulated_pancreas_stays_a_pancreas_in_part(scene):
    before = (scene.tissues == Tissue.PANCREAS).sum()

    variation.lobulate_pancreas(scene)

    assert 0.3 * before < (scene.tissues == Tissue.PANCREAS).sum() < before


@pytest.mark.parametrize("removed", [(), (Tissue.LEFT_KIDNEY,)])
def test_no_variation_but_a_removal_changes_what_an_organ_covers(body, monkeypatch, removed):
    """The label map is cut from the body, so an organ's tissue may only become a part of it."""
    monkeypatch.setattr(variation, "REMOVED_SHARE", dict.fromkeys(removed, 1.0))
    monkeypatch.setattr(variation, "VARIATIONS", [(one, 1.0) for one in (
        contents.pack_loops, contents.coil_loops, contents.add_wide_colon, contents.refill_bowel,
        contents.add_loops,
    )])  # fmt: skip
    organs = ORGAN_OF_TISSUE[body]
    for seed in range(4):
        tissues = body.copy()
        variation.vary(tissues, SPACING_MM, np.random.default_rng(seed))
        kept = (organs > 0) & ~np.isin(organs, removed)
        np.testing.assert_array_equal(tissues[kept], body[kept])


def test_what_is_laid_near_an_organ_lies_near_it(scene):
    """The right kidney lies on the side where x is small."""
    for _ in range(10):
        z, y, x = scene.place((Tissue.MESENTERY,), near=Tissue.RIGHT_KIDNEY, reach_mm=30.0)
        assert scene.tissues[z, y, x] == Tissue.MESENTERY
        assert x < SHAPE[2] / 2
    assert scene.place((Tissue.MESENTERY,), near=Tissue.BRAIN) is None


def test_gas_may_rise_above_a_level_in_each_loop_of_bowel(scene):
    bowel = np.ones(SHAPE, bool)
    filled = np.full(SHAPE, Tissue.BOWEL_GAS, np.uint8)

    contents._let_gas_rise(scene, filled, bowel)

    gas = filled == Tissue.BOWEL_GAS
    assert gas.any()
    assert not gas.all()
    # Whoever lies on the back has the gas in front: along y it never comes after fluid.
    assert (np.diff(gas.astype(np.int8), axis=1) <= 0).all()
    num_rows = gas.sum(axis=1)
    assert len(np.unique(num_rows)) > 1  # loops differ
    assert np.abs(np.diff(num_rows, axis=1)).astype(bool).mean() < 0.2  # and are level inside


@pytest.mark.parametrize("rim_mm", [12.0, 60.0])
def test_tense_ascites_lifts_liver_and_spleen_off_the_wall_and_takes_their_labels(
    body, monkeypatch, rim_mm
):
    monkeypatch.setattr(variation, "_TENSE_SHARE", 1.0)
    monkeypatch.setattr(variation, "_RIM_MM", (rim_mm, rim_mm))
    monkeypatch.setattr(variation, "_LEFT_SHARE", (0.55, 0.55))
    monkeypatch.setattr(variation, "REMOVED_SHARE", {})
    monkeypatch.setattr(variation, "VARIATIONS", [(variation.add_ascites, 1.0)])
    tissues, labels = body.copy(), ORGAN_OF_TISSUE[body]

    removed = variation.vary(tissues, SPACING_MM, np.random.default_rng(1))
    variation.unlabel(labels, tissues, removed)

    assert removed == []
    # What is labeled is what is left of the organ, and only liver and spleen gave way.
    np.testing.assert_array_equal(labels, ORGAN_OF_TISSUE[tissues])
    gone = labels != ORGAN_OF_TISSUE[body]
    assert set(np.unique(body[gone])) <= {Tissue.LIVER, Tissue.LIVER_VESSEL, Tissue.SPLEEN}
    wall_mm = ndimage.distance_transform_edt(~np.isin(body, variation._WALL), SPACING_MM)
    for organ in (Tissue.LIVER, Tissue.SPLEEN):
        before, after = ORGAN_OF_TISSUE[body] == organ, labels == organ
        assert 0.55 * before.sum() <= after.sum() < before.sum()
        # The rim is lumpy and coarsely measured: what went lay nearer the wall than what is left.
        assert np.median(wall_mm[before & ~after]) < np.percentile(wall_mm[after], 25)


def test_where_fluid_took_the_place_of_an_organ_its_label_goes_on_both_grids():
    labels = np.full((3, 4, 5), Tissue.LIVER, np.uint8)
    labels[0] = Tissue.SPLEEN
    fine = np.full((6, 8, 10), Tissue.LIVER, np.uint8)
    fine[2:4, 2:4, 4:6] = Tissue.FLUID  # the whole of one voxel
    fine[4, 2:4, 4:6] = Tissue.FLUID  # half of another, beside what is left
    fine[2:4, 0, 0:2] = Tissue.FLUID  # half of a third,
    fine[2:4, 1, 0:2] = Tissue.MUSCLE  # beside the wall

    variation.unlabel(labels, fine, [int(Tissue.SPLEEN)])

    assert not labels[0].any()
    np.testing.assert_array_equal(np.argwhere(labels[1:] == 0), [[0, 0, 0], [0, 1, 2]])


def test_fat_of_the_gallbladder_bed_takes_the_label_of_the_liver_alone():
    labels = np.full((2, 3, 4), Tissue.LIVER, np.uint8)
    labels[1] = Tissue.GALLBLADDER
    fine = np.full((4, 6, 8), Tissue.LIVER, np.uint8)
    fine[2:] = Tissue.FAT
    fine[0:2, 2:4, 4:6] = Tissue.FAT

    variation.unlabel(labels, fine, [])

    np.testing.assert_array_equal(np.argwhere(labels == 0), [[0, 1, 2]])


def test_fluid_beside_an_organ_takes_no_label_though_its_border_shows_another_tissue():
    labels = np.full((2, 3, 4), Tissue.PANCREAS, np.uint8)
    labels[1] = Tissue.AORTA
    fine = np.repeat(np.repeat(np.repeat(labels, 2, 0), 2, 1), 2, 2)
    fine[0, 0, 0] = fine[2, 0, 0] = Tissue.FLUID  # of the fat that the border's voxels hold in part
    fine[1, 1, 1] = Tissue.MESENTERY  # a cleft between lobules
    fine[3, 1, 1] = Tissue.CALCIFICATION  # a plaque in the wall

    variation.unlabel(labels, fine, [])

    assert (labels[0] == Tissue.PANCREAS).all()
    assert (labels[1] == Tissue.AORTA).all()


def test_a_removed_organ_leaves_fat_and_is_named(body, monkeypatch):
    monkeypatch.setattr(
        variation, "REMOVED_SHARE", {Tissue.GALLBLADDER: 1.0, Tissue.RIGHT_KIDNEY: 1.0}
    )
    monkeypatch.setattr(variation, "VARIATIONS", ())
    tissues = body.copy()

    removed = variation.vary(tissues, SPACING_MM, np.random.default_rng(0))

    assert removed == [Tissue.GALLBLADDER, Tissue.RIGHT_KIDNEY]
    gone = np.isin(ORGAN_OF_TISSUE[body], removed)
    assert (tissues[gone] == Tissue.MESENTERY).all()
    np.testing.assert_array_equal(tissues[~gone], body[~gone])


def test_the_same_seed_gives_the_same_patient(body):
    first, second = body.copy(), body.copy()

    removed = variation.vary(first, SPACING_MM, np.random.default_rng(9))

    assert variation.vary(second, SPACING_MM, np.random.default_rng(9)) == removed
    np.testing.assert_array_equal(first, second)


def test_what_is_not_there_is_not_changed():
    """A patch may hold nothing but air, or no air at all."""
    for tissue in (Tissue.AIR, Tissue.LIVER):
        tissues = np.full((12, 14, 16), tissue, np.uint8)
        scene = Scene(tissues, SPACING_MM, np.random.default_rng(1))
        for change, _ in variation.VARIATIONS:
            change(scene)
        allowed = {
            Tissue.AIR: set(range(256)),
            Tissue.LIVER: {
                Tissue.LIVER,
                Tissue.LESION,
                Tissue.CYST,
                Tissue.VEIN,
                Tissue.LIVER_VESSEL,
                Tissue.LIVER_PATCH,
                Tissue.BILE,
            },
        }
        assert set(np.unique(scene.tissues)) <= allowed[tissue]
