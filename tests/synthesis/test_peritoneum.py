"""Bowel and ascites lie before the organs at the back, never behind them."""

import numpy as np
import pytest

from app.synthesis import contents, variation
from app.synthesis.peritoneum import fat_behind_peritoneum, fat_in_chest
from app.synthesis.phantom import phantom_tissues
from app.synthesis.scene import Scene
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue

SPACING_MM = (20.0, 5.0, 10.0)

AT_THE_BACK = (
    Tissue.RIGHT_KIDNEY,
    Tissue.LEFT_KIDNEY,
    Tissue.PANCREAS,
    Tissue.AORTA,
    Tissue.INFERIOR_VENA_CAVA,
)
INSIDE_PERITONEUM = (
    contents.distend_bowel,
    contents.add_loops,
    contents.pack_loops,
    contents.coil_loops,
    contents.add_wide_colon,
    variation.add_ascites,
)


@pytest.fixture
def scene():
    tissues = np.full((9, 12, 15), Tissue.MESENTERY, np.uint8)
    return Scene(tissues, SPACING_MM, np.random.default_rng(3))


def first_marked(scene, z):
    """Give the row from which each line of a slice is marked; the number of rows if none is."""
    marked = np.pad(fat_behind_peritoneum(scene), ((0, 0), (0, 1), (0, 0)), constant_values=True)
    rows = marked[z].argmax(0)
    assert all(marked[z, row:, x].all() for x, row in enumerate(rows))
    return rows.tolist()


def test_fat_behind_an_organ_at_the_back_is_marked_and_fat_before_it_is_not(scene):
    scene.tissues[4, 7:9, 5] = Tissue.AORTA
    assert first_marked(scene, 4) == [12] * 5 + [9] + [12] * 9
    assert first_marked(scene, 5) == [12] * 15


def test_a_gap_of_60_mm_between_two_organs_is_marked_from_the_deeper_one_on(scene):
    scene.tissues[4, 3, 2] = Tissue.PANCREAS
    scene.tissues[4, 6, 9] = Tissue.INFERIOR_VENA_CAVA
    assert first_marked(scene, 4) == [12, 12, 4, 6, 6, 6, 6, 6, 6, 7, 12, 12, 12, 12, 12]


def test_a_wider_gap_is_not_marked(scene):
    scene.tissues[4, 3, 2] = Tissue.PANCREAS
    scene.tissues[4, 6, 10] = Tissue.INFERIOR_VENA_CAVA
    assert first_marked(scene, 4)[3:10] == [12] * 7


def test_the_fat_around_a_kidney_goes_on_above_and_below_it(scene):
    scene.tissues[4, 5:9, 7] = Tissue.LEFT_KIDNEY_MEDULLA
    # 40 mm are two slices; beside the kidney, where the colon goes up and down, it is not marked.
    assert first_marked(scene, 4)[6:9] == [12, 9, 12]
    for z, row in ((1, 12), (2, 5), (3, 5), (5, 5), (6, 5), (7, 12)):
        assert first_marked(scene, z)[6:9] == [12, row, 12]


@pytest.mark.parametrize("tissue", [Tissue.LIVER, Tissue.LUNG])
def test_fat_above_liver_and_lung_is_marked(scene, tissue):
    scene.tissues[3:5, 6, 7] = tissue
    assert np.argwhere(fat_in_chest(scene)).tolist() == [[z, 6, 7] for z in range(5, 9)]


def test_ascites_stays_out_of_the_chest():
    spacing_mm = (5.0, 3.5, 4.0)
    body = phantom_tissues(shape=(66, 84, 100), spacing_mm=spacing_mm, seed=5)
    chest = fat_in_chest(Scene(body, spacing_mm, np.random.default_rng(0)))
    assert chest.any()
    for seed in range(8):
        scene = Scene(body.copy(), spacing_mm, np.random.default_rng(seed))
        variation.add_ascites(scene)
        assert (scene.tissues[chest] == Tissue.MESENTERY).all()


@pytest.mark.parametrize("lay", INSIDE_PERITONEUM, ids=lambda lay: lay.__name__)
def test_neither_bowel_nor_ascites_lies_behind_kidneys_pancreas_and_great_vessels(lay):
    spacing_mm = (5.0, 3.5, 4.0)
    body = phantom_tissues(shape=(66, 84, 100), spacing_mm=spacing_mm, seed=5)
    held = np.isin(ORGAN_OF_TISSUE[body], AT_THE_BACK)
    behind = np.logical_or.accumulate(held, axis=1) & (body == Tissue.MESENTERY)
    num_laid = 0
    for seed in range(8):
        scene = Scene(body.copy(), spacing_mm, np.random.default_rng(seed))
        lay(scene)
        num_laid += np.count_nonzero(scene.tissues != body)
        np.testing.assert_array_equal(scene.tissues[behind], body[behind])
    assert num_laid
