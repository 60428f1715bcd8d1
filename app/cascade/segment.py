"""Phase two: score 14 classes inside the located box, on a grid of its own."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.cascade.bundle import Phase
from app.cascade.locate import Abdomen, coarse_places
from app.cascade.patches import score_volume
from app.imaging.crop import box_on_grid
from app.imaging.geometry import BoolVolume, Box, FloatVolume, SpacingZYX
from app.imaging.preprocess import network_input
from app.imaging.volume import Volume
from app.labels import CLASS_NAMES

logger = logging.getLogger(__name__)

RULED_OUT = 10.0
"""How far organ scores lie below the background's where phase one located nothing."""


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
        The region scored, in the scan's own voxels.
    inside : Box
        The located box on that grid; background beyond it.
    seen : (Z', Y', X') array of bool
        What phase two looked at; background beyond it.
    num_run : int
        Patches run.
    """

    logits: npt.NDArray[np.float16]
    spacing_mm: SpacingZYX
    box: Box
    inside: Box
    seen: BoolVolume
    num_run: int


def segment(region: Volume, context: Box, abdomen: Abdomen, phase: Phase) -> ClassScores:
    """Score every class inside the located box.

    Parameters
    ----------
    region : Volume of int16
        ``context`` cut out of the scan, in HU, in canonical orientation.
    context : Box
        The abdomen's box and the surroundings that the network is to see.
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
    inside = box_on_grid(
        abdomen.box.relative_to(context),
        context.shape,
        abdomen.geometry.spacing_mm,
        fine.shape,
        spacing_mm,
    )
    located = np.zeros(fine.shape, bool)
    located[inside.slices] = True
    places = coarse_places(abdomen, context, fine.shape, spacing_mm)
    wanted = located & abdomen.foreground[np.ix_(*places)]
    scored = score_volume(
        fine, phase.network, phase.config.overlap, wanted, on_patch=phase.on_patch
    )
    logger.debug("segment: grid %s, %d patches", fine.shape, scored.num_run)
    _rule_out(~located, scored.logits)
    return ClassScores(
        logits=scored.logits,
        spacing_mm=spacing_mm,
        box=context,
        inside=inside,
        seen=scored.seen & located,
        num_run=scored.num_run,
    )


def mean_confidence(scores: ClassScores) -> dict[str, float]:
    """Tell how sure the network was of the voxels it gave to each organ.

    Parameters
    ----------
    scores : ClassScores
        Of the located region.

    Returns
    -------
    dict of str to float
        Mean probability of the best class, 0 to 1, by organ; absent organs are
        left out.
    """
    totals, counts = np.zeros(len(CLASS_NAMES)), np.zeros(len(CLASS_NAMES), np.int64)
    # Slice by slice, so that no float32 copy of all scores arises.
    for plane in np.moveaxis(scores.logits, 1, 0):
        labels = plane.argmax(axis=0)
        organs = labels > 0
        columns = plane[:, organs].astype(np.float32)
        best = best_probability(columns)
        totals += np.bincount(labels[organs], weights=best, minlength=len(CLASS_NAMES))
        counts += np.bincount(labels[organs], minlength=len(CLASS_NAMES))
    return {
        name: float(total / count)
        for name, total, count in zip(CLASS_NAMES, totals, counts, strict=True)
        if count
    }


def best_probability(scores: FloatVolume) -> FloatVolume:
    """Give the greatest softmax of class scores, classes first, 0 to 1."""
    best: FloatVolume = 1 / np.exp(scores - scores.max(axis=0)).sum(axis=0)
    return best


def _rule_out(where: BoolVolume, logits: npt.NDArray[np.float16]) -> None:
    """Make voxels background, in place."""
    logits[1:, where] = logits[0, where] - np.float16(RULED_OUT)
