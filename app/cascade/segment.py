"""Phase two: score 14 classes inside the located box, on a grid of its own."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.cascade.bundle import Phase
from app.cascade.locate import Abdomen, may_hold_organs
from app.cascade.patches import score_volume
from app.imaging.geometry import Box, SpacingZYX
from app.imaging.preprocess import network_input
from app.imaging.volume import Volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """Class scores of the located region.

    Parameters
    ----------
    logits : (14, Z', Y', X') array of float16
        On the grid of ``spacing_mm`` that shares the center of ``box``.
    spacing_mm : (z, y, x) floats
        Spacing of that grid, in mm.
    box : Box
        The region, in the scan's own voxels.
    num_run, num_skipped : int
        Patches run, and patches that phase one ruled out.
    """

    logits: npt.NDArray[np.float16]
    spacing_mm: SpacingZYX
    box: Box
    num_run: int
    num_skipped: int


def segment(region: Volume, abdomen: Abdomen, phase: Phase) -> ClassScores:
    """Score every class inside the located box.

    Parameters
    ----------
    region : Volume of int16
        The abdomen's box, cut out of the scan, in HU, in canonical orientation.
    abdomen : Abdomen
        What phase one found.
    phase : Phase
        The segmenter.

    Returns
    -------
    ClassScores
        Background where phase one ruled organs out.
    """
    spacing_mm = phase.config.spacing_mm
    fine = network_input(region, phase.config)
    scored = score_volume(
        fine,
        phase.network,
        phase.config.overlap,
        lambda patch: may_hold_organs(abdomen, patch, fine.shape, spacing_mm),
    )
    logger.debug("segment: grid %s, %d patches", fine.shape, scored.num_run)
    return ClassScores(
        logits=scored.logits,
        spacing_mm=spacing_mm,
        box=abdomen.box,
        num_run=scored.num_run,
        num_skipped=scored.num_skipped,
    )
