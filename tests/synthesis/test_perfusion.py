"""What contrast agent reaches unevenly: vena cava, aortic wall, spleen and liver."""

import numpy as np
import pytest
from crude_anatomy import open_grid_mm
from scipy import ndimage

from app.synthesis.perfusion import band_spleen, line_aorta, mix_cava_blood, patch_liver
from app.synthesis.scene import Scene
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue

SPACING_MM = (2.5, 2.0, 1.5)
SHAPE = (80, 60, 110)
KIDNEY_Z = 80.0
AORTA_RADIUS = 12.0
"""In mm, as all that :func:`body` is made of."""

SEEDS = range(8)


@pytest.fixture(scope="module")
def body():
    z, y, x = open_grid_mm(SHAPE, SPACING_MM)
    tissues = np.full(SHAPE, Tissue.MESENTERY, np.uint8)
    tissues[(np.hypot(y - 90.0, x - 90.0) < AORTA_RADIUS) & (z >= 0.0)] = Tissue.AORTA
    tissues[(np.hypot(y - 90.0, x - 60.0) < 11.0) & (z > 10.0)] = Tissue.INFERIOR_VENA_CAVA
    for middle, kidney in ((20.0, Tissue.RIGHT_KIDNEY), (130.0, Tissue.LEFT_KIDNEY)):
        tissues[np.sqrt(((z - KIDNEY_Z) / 2) ** 2 + (y - 90) ** 2 + (x - middle) ** 2) < 18] = (
            kidney
        )
    tissues[(z > 130.0) & (y < 60.0) & (x < 80.0)] = Tissue.LIVER
    tissues[(z > 120.0) & (y < 70.0) & (x > 110.0)] = Tissue.SPLEEN
    return tissues


def scene_of(body, seed):
    return Scene(body.copy(), SPACING_MM, np.random.default_rng(seed))


@pytest.mark.parametrize(("change", "organ", "part"), [
    (mix_cava_blood, Tissue.INFERIOR_VENA_CAVA, Tissue.RENAL_BLOOD),
    (line_aorta, Tissue.AORTA, Tissue.THROMBUS),
    (band_spleen, Tissue.SPLEEN, Tissue.SPLEEN_PULP),
    (patch_liver, Tissue.LIVER, Tissue.LIVER_PATCH),
])  # fmt: skip
def test_a_part_of_one_organ_is_changed_and_stays_the_organs(body, change, organ, part):
    shares = []
    for seed in SEEDS:
        scene = scene_of(body, seed)
        change(scene)
        changed = scene.tissues != body
        assert (body[changed] == organ).all()
        assert (scene.tissues[changed] == part).all()
        np.testing.assert_array_equal(ORGAN_OF_TISSUE[scene.tissues], ORGAN_OF_TISSUE[body])
        shares.append(changed.sum() / (body == organ).sum())
    assert min(shares) < np.median(shares) < max(shares)
    assert 0.05 < np.median(shares) < 0.9


def test_blood_of_the_kidneys_flows_in_at_their_height_and_fills_the_vessel_further_up(body):
    heights = np.arange(SHAPE[0]) * SPACING_MM[0]
    cava = body == Tissue.INFERIOR_VENA_CAVA
    filled = []
    for seed in SEEDS:
        scene = scene_of(body, seed)
        mix_cava_blood(scene)
        renal = scene.tissues == Tissue.RENAL_BLOOD
        filled.append(renal.sum((1, 2)) / np.maximum(cava.sum((1, 2)), 1))
    average = np.mean(filled, axis=0)
    assert average[(heights > 10.0) & (heights < KIDNEY_Z - 45.0)].max() < 0.3
    assert average[heights > KIDNEY_Z + 80.0].min() > 0.7
    at_the_veins = average[np.abs(heights - KIDNEY_Z) < 6.0]
    assert 0.2 < at_the_veins.mean() < 0.8


def test_where_no_kidney_shows_all_blood_of_the_cava_is_of_one_kind(body):
    no_kidney = np.where(np.isin(body, (Tissue.RIGHT_KIDNEY, Tissue.LEFT_KIDNEY)), 22, body)
    shares = set()
    for seed in SEEDS:
        scene = scene_of(no_kidney.astype(np.uint8), seed)
        mix_cava_blood(scene)
        shares.add(float((scene.tissues == Tissue.RENAL_BLOOD).sum()))
    assert shares == {0.0, float((body == Tissue.INFERIOR_VENA_CAVA).sum())}


def test_a_thrombus_lies_against_the_wall_and_leaves_a_lumen(body):
    aorta = body == Tissue.AORTA
    depth_mm = ndimage.distance_transform_edt(np.pad(aorta, ((9, 9), (0, 0), (0, 0)), "edge"),
                                              sampling=SPACING_MM)[9:-9]  # fmt: skip
    for seed in SEEDS:
        scene = scene_of(body, seed)
        line_aorta(scene)
        clotted = scene.tissues == Tissue.THROMBUS
        assert depth_mm[clotted].max() < 0.7 * AORTA_RADIUS
        open_lumen = (scene.tissues == Tissue.AORTA) & (depth_mm > 0.75 * AORTA_RADIUS)
        assert open_lumen.any((1, 2)).all()
        # Nearer to the wall there is more of it.
        outer, inner = (clotted[aorta & near].mean() for near in (depth_mm < 3, depth_mm > 6))
        assert outer >= inner


@pytest.mark.parametrize("change", [mix_cava_blood, line_aorta, band_spleen, patch_liver])
def test_a_scene_without_the_organ_is_left_alone(change):
    tissues = np.full((9, 8, 7), Tissue.MESENTERY, np.uint8)
    change(Scene(tissues, SPACING_MM, np.random.default_rng(0)))
    assert (tissues == Tissue.MESENTERY).all()
