"""Fat between liver and gallbladder."""

import numpy as np
from scipy import ndimage

from app.synthesis.fissures import widen_gallbladder_bed
from app.synthesis.scene import Scene
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue
from app.synthesis.variation import unlabel

SPACING_MM = (2.5, 2.0, 1.5)
SHAPE = (40, 44, 60)


def liver_with_gallbladder():
    z, y, x = np.ogrid[tuple(slice(size) for size in SHAPE)]
    tissues = np.full(SHAPE, Tissue.LIVER, np.uint8)
    tissues[:, :, 40:] = Tissue.MESENTERY
    tissues[:, :3] = Tissue.MUSCLE
    off = ((z - 20) * 2.5 / 16) ** 2 + ((y - 22) * 2.0 / 12) ** 2 + ((x - 34) * 1.5 / 12) ** 2
    tissues[off < 1] = Tissue.GALLBLADDER
    return tissues


def test_fat_takes_the_place_of_liver_next_to_the_gallbladder_and_of_its_label():
    before = liver_with_gallbladder()
    away_mm = ndimage.distance_transform_edt(before != Tissue.GALLBLADDER, SPACING_MM)
    shares = []
    for seed in range(8):
        tissues, labels = before.copy(), ORGAN_OF_TISSUE[before]
        widen_gallbladder_bed(Scene(tissues, SPACING_MM, np.random.default_rng(seed)))
        unlabel(labels, tissues, [])
        changed = tissues != before
        assert set(np.unique(before[changed])) == {Tissue.LIVER}
        assert set(np.unique(tissues[changed])) == {Tissue.FAT}
        np.testing.assert_array_equal(labels, ORGAN_OF_TISSUE[tissues])
        in_plane = changed & (np.abs(np.arange(SHAPE[0]) - 20) < 3)[:, None, None]
        assert away_mm[in_plane].max() < 8.5
        shares.append(changed[away_mm < 3.0].mean())
    # From a trace to a rim all around, and never the same.
    assert min(shares) < 0.25 < max(shares)
    assert len(set(shares)) == len(shares)


def test_a_patient_without_gallbladder_keeps_the_liver():
    tissues = liver_with_gallbladder()
    tissues[tissues == Tissue.GALLBLADDER] = Tissue.MESENTERY
    before = tissues.copy()
    widen_gallbladder_bed(Scene(tissues, SPACING_MM, np.random.default_rng(0)))
    np.testing.assert_array_equal(tissues, before)
