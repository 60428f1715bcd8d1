"""What years do to bones."""

import numpy as np
from scipy import ndimage

from app.synthesis.appearance import draw_appearance
from app.synthesis.scene import Scene
from app.synthesis.spine import add_spurs, age_bones, mottle_marrow
from app.synthesis.tissues import Tissue

SHAPE, SPACING_MM = (80, 72, 88), (2.0, 1.5, 1.8)

BONES = (Tissue.TRABECULAR_BONE, Tissue.CORTICAL_BONE)


def body():
    """Give fat with a spine and the aorta before it."""
    tissues = np.full(SHAPE, Tissue.MESENTERY, np.uint8)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    from_spine = np.hypot((y - 50) * 1.5, (x - 40) * 1.8)
    tissues[:, from_spine < 21] = Tissue.CORTICAL_BONE
    tissues[:, from_spine < 18] = Tissue.TRABECULAR_BONE
    tissues[:, np.hypot((y - 27) * 1.5, (x - 46) * 1.8) < 10] = Tissue.AORTA
    return tissues


def changed_by(change, tissues, seed):
    scene = Scene(tissues.copy(), SPACING_MM, np.random.default_rng(seed))
    change(scene)
    return scene.tissues, scene.tissues != tissues


def test_spurs_are_bone_on_the_spine_and_leave_the_aorta_as_it_is():
    before = body()
    spine_mm = ndimage.distance_transform_edt(~np.isin(before, BONES), sampling=SPACING_MM)
    grew = 0
    for seed in range(6):
        after, spurs = changed_by(add_spurs, before, seed)
        assert set(np.unique(before[spurs])) <= {Tissue.MESENTERY, Tissue.TRABECULAR_BONE}
        assert (after[spurs] == Tissue.CORTICAL_BONE).all()
        assert spine_mm[spurs].max(initial=0) < 9 * 1.4 * 1.5
        grew += (spurs & (before == Tissue.MESENTERY)).any()
    assert grew


def test_marrow_is_mottled_inside_its_bone():
    before = body()
    found = set()
    for seed in range(12):
        after, patches = changed_by(mottle_marrow, before, seed)
        assert set(np.unique(before[patches])) <= {Tissue.TRABECULAR_BONE}
        assert patches.sum() < 0.6 * (before == Tissue.TRABECULAR_BONE).sum()
        found |= set(np.unique(after[patches]).tolist())
    assert {Tissue.FAT, Tissue.DISC} <= found


def test_bones_are_as_bright_as_those_of_patients_and_nothing_else_changes():
    """Means of 226 HU below 30 and 89 HU above 90 years, with 38 to 44 HU between patients."""
    rng = np.random.default_rng(0)
    look = draw_appearance(rng)
    kept = look.hu.copy()
    drawn = np.array([age_bones(look, rng).hu for _ in range(2000)])

    np.testing.assert_array_equal(look.hu, kept)
    spongy, cortex = drawn[:, Tissue.TRABECULAR_BONE], drawn[:, Tissue.CORTICAL_BONE]
    assert 130 < np.median(spongy) < 150
    assert 0.2 < np.mean(spongy < 100) < 0.35
    assert 0.05 < np.mean(spongy > 226) < 0.15
    assert spongy.min() >= 10
    assert (cortex > spongy + 149).all()
    assert 200 < np.percentile(cortex - spongy, 10) < 230
    drawn[:, BONES] = kept[list(BONES)]
    assert (drawn == kept).all()
