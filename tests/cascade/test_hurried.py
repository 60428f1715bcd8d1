"""What `--fast` saves, whichever weights are shipped."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.cascade.bundle import HURRIED_COARSENING, hurried, read_manifest
from app.cascade.locate import Abdomen
from app.cascade.placement import patch_starts
from app.cascade.segment import region_of
from app.imaging.geometry import Box, Geometry

ROOT = Path(__file__).resolve().parents[2]
SCAN_SPACING_MM = (2.5, 0.83, 0.77)
# From the 5th to the 95th percentile of boxes around the organs of 250 people, in mm.
USUAL_MM = (range(220, 390, 34), range(180, 275, 19), range(265, 360, 19))


def num_patches(config, box_mm):
    """Count the patches that phase two lays over the located box of a long scan."""
    geometry = Geometry(shape=(400, 512, 512), spacing_mm=SCAN_SPACING_MM)
    shape = [round(size / step) for size, step in zip(box_mm, SCAN_SPACING_MM, strict=True)]
    box = Box.between((50, 40, 30), np.add((50, 40, 30), shape).tolist())
    abdomen = Abdomen(
        box=box, geometry=geometry, foreground=np.ones((1, 1, 1), bool), spacing_mm=(4.0, 4.0, 4.0)
    )
    window = region_of(abdomen, config).window
    return math.prod(
        len(patch_starts(size, patch, config.overlap))
        for size, patch in zip(window.shape, config.patch_shape, strict=True)
    )


def test_hurry_coarsens_the_grid_and_leaves_the_networks_and_the_other_cascade_alone(cascade):
    fast = hurried(cascade)
    expected = np.multiply(cascade.segment.config.spacing_mm, HURRIED_COARSENING)
    assert fast.segment.config.spacing_mm == tuple(expected.tolist())
    assert fast.segment.network is cascade.segment.network
    assert fast.locate is cascade.locate
    assert cascade.segment.config.overlap > fast.segment.config.overlap == 0
    assert cascade.second_look
    assert not fast.second_look


def test_hurry_takes_half_the_patches_in_boxes_of_usual_size(cascade):
    config = read_manifest(ROOT / "weights" / "segment", "segment").config
    shipped = replace(cascade, segment=replace(cascade.segment, config=config))
    boxes = list(itertools.product(*USUAL_MM))
    thorough = sum(num_patches(config, box_mm) for box_mm in boxes)
    fast = sum(num_patches(hurried(shipped).segment.config, box_mm) for box_mm in boxes)
    assert fast < 0.55 * thorough


def test_a_box_smaller_than_a_patch_takes_one_patch():
    config = read_manifest(ROOT / "weights" / "segment", "segment").config
    least = tuple(np.multiply(config.patch_shape, config.spacing_mm) - 30)
    assert num_patches(config, least) == 1
