"""The bile duct and the duct of the pancreas, in a body of a few blocks."""

import numpy as np
import pytest
from crude_anatomy import open_grid_mm
from scipy import ndimage

from app.synthesis.ducts import lay_bile_duct, lay_pancreatic_duct
from app.synthesis.scene import Scene
from app.synthesis.tissues import Tissue

SPACING_MM = (2.5, 2.0, 1.5)
SHAPE = (60, 60, 110)
SEEDS = range(6)


@pytest.fixture(scope="module")
def body():
    z, y, x = open_grid_mm(SHAPE, SPACING_MM)
    tissues = np.full(SHAPE, Tissue.MESENTERY, np.uint8)
    tissues[(np.abs(z - 65.0) < 14.0) & (np.abs(y - 60.0) < 11.0) & (np.abs(x - 95.0) < 45.0)] = (
        Tissue.PANCREAS
    )
    tissues[(z > 105.0) & (y < 90.0) & (x < 60.0)] = Tissue.LIVER
    return tissues


def laid(lay, body, seed):
    scene = Scene(body.copy(), SPACING_MM, np.random.default_rng(seed))
    lay(scene)
    return scene.tissues == Tissue.BILE, scene.tissues != body


def test_the_duct_of_the_pancreas_runs_along_its_middle_and_is_laid_into_it_alone(body):
    depth_mm = ndimage.distance_transform_edt(body == Tissue.PANCREAS, sampling=SPACING_MM)
    for seed in SEEDS:
        duct, changed = laid(lay_pancreatic_duct, body, seed)
        np.testing.assert_array_equal(duct, changed)
        assert (body[duct] == Tissue.PANCREAS).all()
        assert np.ptp(np.argwhere(duct)[:, 2]) * SPACING_MM[2] > 60.0
        # But for its end in the tail it is far from the gland's surface.
        assert np.quantile(depth_mm[duct], 0.05) > 4.0
        assert duct.sum() < 0.15 * (body == Tissue.PANCREAS).sum()


def test_the_bile_duct_joins_the_liver_to_the_head_of_the_pancreas(body):
    for seed in SEEDS:
        duct, changed = laid(lay_bile_duct, body, seed)
        np.testing.assert_array_equal(duct, changed)
        assert set(np.unique(body[duct])) == {Tissue.MESENTERY, Tissue.PANCREAS}
        pieces, count = ndimage.label(duct, np.ones((3, 3, 3)))
        assert np.bincount(pieces.ravel())[1:].max() > 0.95 * duct.sum(), count
        assert (ndimage.binary_dilation(duct, iterations=2) & (body == Tissue.LIVER)).any()
        # The head is the right end of the gland, where x is small.
        in_gland = np.argwhere(duct & (body == Tissue.PANCREAS)) * SPACING_MM
        assert in_gland[:, 2].max() < 50.0 + 22.0 + 9.0


@pytest.mark.parametrize("missing", [Tissue.PANCREAS, Tissue.LIVER])
def test_without_either_end_no_bile_duct_is_laid(body, missing):
    _, changed = laid(lay_bile_duct, np.where(body == missing, 22, body).astype(np.uint8), 0)
    assert not changed.any()
