import numpy as np

from app.synthesis.lungs import fit_lungs, join_lungs
from app.synthesis.tissues import Tissue


def test_fat_between_lung_and_liver_becomes_lung_above_a_diaphragm():
    tissues = np.full((20, 30, 32), Tissue.MESENTERY, np.uint8)
    tissues[14:] = Tissue.LUNG
    organs = np.zeros_like(tissues)
    organs[:5] = Tissue.LIVER
    fit_lungs(tissues, organs, (3.0, 2.0, 1.5))
    column = tissues[:, 15, 16].tolist()
    # Liver fills 0 to 4; one slice of 3 mm is diaphragm; the gap 6 to 13 is lung now.
    assert column[5] == Tissue.MUSCLE
    assert set(column[6:]) == {Tissue.LUNG}


def test_a_seam_between_two_lungs_is_closed_and_fat_under_the_lung_is_kept():
    tissues = np.full((9, 2, 3), Tissue.MESENTERY, np.uint8)
    tissues[2:4] = Tissue.LUNG
    tissues[6:] = Tissue.LUNG
    join_lungs(tissues, slice(0, 9))
    assert (tissues[2:] == Tissue.LUNG).all()
    assert (tissues[:2] == Tissue.MESENTERY).all()
