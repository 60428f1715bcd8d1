import dataclasses
from pathlib import Path

import numpy as np
import pytest

from app.cascade.bundle import Phase, open_phase
from app.cascade.locate import coarse_places, locate
from app.config import LOCATE
from app.imaging.geometry import Box, Geometry
from app.imaging.io import read_scan
from app.imaging.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
SPACING_MM = (5.0, 2.0, 1.0)


class Bright:
    """A locator that takes what is brighter than plain tissue for organs."""

    patch_shape = (32, 64, 32)
    num_channels = 1

    def run(self, patch):
        return patch[None] - 1


PHASE = Phase(config=dataclasses.replace(LOCATE, patch_shape=Bright.patch_shape), network=Bright())


def scan_with(*regions, shape=(60, 100, 120)):
    hu = np.full(shape, 50, np.int16)
    for region in regions:
        hu[region] = 350
    return Volume(hu, Geometry(shape=shape, spacing_mm=SPACING_MM))


ORGANS = np.s_[20:30, 30:60, 40:80]  # 50 x 60 x 40 mm: 120 ml


def find(scan):
    return locate(scan, PHASE)


def test_box_holds_the_organs_with_a_margin_in_mm():
    box = find(scan_with(ORGANS)).box
    # 10 mm are 2 slices, 5 rows or 10 columns; the coarse grid adds up to 4 mm.
    for start, expected, step in zip(box.start, (18, 25, 30), SPACING_MM, strict=True):
        assert expected - 4 / step - 1 <= start <= expected
    for stop, expected, step in zip(box.stop, (32, 65, 90), SPACING_MM, strict=True):
        assert expected <= stop <= expected + 4 / step + 1


def test_scan_without_organs_gives_none():
    assert find(scan_with()) is None


def test_speck_is_no_abdomen():
    assert find(scan_with(np.s_[20:24, 30:40, 40:60])) is None  # 8 ml


def test_far_false_component_does_not_stretch_the_box():
    far = np.s_[45:50, 30:50, 40:60]
    assert find(scan_with(ORGANS, far)).box == find(scan_with(ORGANS)).box


def test_organs_torn_along_z_stay_together():
    box = find(scan_with(ORGANS, np.s_[34:39, 30:50, 40:60])).box
    assert box.stop[0] >= 39 + 2


def test_box_at_the_edge_is_clipped_to_the_scan():
    box = find(scan_with(np.s_[0:10, 0:30, 80:120])).box
    assert box.start[:2] == (0, 0)
    assert box.stop[2] == 120


def test_fine_voxels_know_their_place_on_the_coarse_grid():
    abdomen = find(scan_with(ORGANS))
    # Of the grid of 2 x 1.5 x 1.5 mm, in y half a millimeter larger than the scan at either end,
    # the part from 50, 40 and 0 mm.
    part = Box(start=(25, 27, 0), stop=(100, 107, 80))
    places = coarse_places(abdomen, (150, 134, 80), (2.0, 1.5, 1.5), part)
    organs = abdomen.foreground[np.ix_(*places)]
    filled = [np.flatnonzero(organs.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    # Organs lie at 100 ... 150, 60 ... 120 and 40 ... 80 mm.
    for rows, step, start, low, high in zip(
        filled, (2.0, 1.5, 1.5), (50, 40, 0), (100, 60, 40), (150, 120, 80), strict=True
    ):
        assert rows[0] * step + start == pytest.approx(low, abs=4)
        assert (rows[-1] + 1) * step + start == pytest.approx(high, abs=4)


def test_places_beyond_the_coarse_grid_are_those_at_its_edge():
    abdomen = find(scan_with(ORGANS))
    shape = (151, 134, 81)
    places = coarse_places(abdomen, shape, (2.0, 1.5, 1.5), Box(start=(0, 0, 0), stop=shape))
    for rows, size in zip(places, abdomen.foreground.shape, strict=True):
        assert (rows[0], rows[-1]) == (0, size - 1)


@pytest.mark.parametrize("shape", [(1, 100, 120), (60, 1, 120), (2, 3, 4)])
def test_scan_of_hardly_any_slices_is_no_crash(shape):
    assert find(scan_with(shape=shape)) is None


@pytest.mark.realdata
def test_abdomen_of_a_real_torso_is_found_without_its_pelvis():
    path = ROOT / ".." / "shared" / "data" / "ct" / "torso_3mm_0000.nii.gz"
    if not path.exists():
        pytest.skip(f"no real scan at {path}")
    if not (ROOT / "weights" / "locate" / "manifest.json").exists():
        pytest.skip("no weights for phase one")
    scan, _ = read_scan(path)
    labels, _ = read_scan(path.with_name("torso_3mm_labels.nii.gz"))
    phase = open_phase(ROOT / "weights" / "locate", "locate", threads=1, precision="f32")
    box = locate(scan, phase).box
    # Aorta and vena cava go on below the abdomen; the other organs must be whole.
    organs = (labels.array > 0) & (labels.array != 5) & (labels.array != 6)
    assert organs[box.slices].sum() > 0.99 * organs.sum()
    # The scan is 336 mm long and its lowest 110 mm show the pelvis.
    assert box.start[0] * 3 > 110
