"""What counts as a score: the FLARE 2024 challenge's rules, and the same without its quirks.

``flare24`` gives the numbers of the challenge's own script:

- an organ that neither mask holds scores 1 and 1; one that only one of them
  holds scores 0 and 0;
- NSD is 0 where DSC is below 0.2;
- of aorta, inferior vena cava and esophagus only the reference's slices count,
  all but the last of them. A reference of one slice leaves nothing; the
  challenge's script stops there, here the organ is not scored (NaN);
- slices are those of the file's third axis, and the masks are laid over each
  other voxel by voxel, whatever their headers say; the spacing is what the
  reference's header states in ``pixdim``, even where its matrices say otherwise;
- a case without a prediction is left out.

``strict`` measures both masks as they are. An organ that neither mask holds is
not scored (NaN); a case without a usable prediction scores 0 for every organ.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from app.evaluation.metrics import dice, surface_dice
from app.imaging.geometry import BoolVolume, SpacingZYX
from app.labels import Organ

Protocol: TypeAlias = Literal["flare24", "strict"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

FLARE24_LEAST_DSC = 0.2
"""Below it the challenge does not measure NSD."""

FLARE24_REFERENCE_SLICES = frozenset({"aorta", "inferior_vena_cava", "esophagus"})
"""Long organs that the challenge's references do not follow to their ends."""


@dataclass(frozen=True, slots=True)
class Score:
    """How well one organ of one case agrees.

    Parameters
    ----------
    dsc, nsd : float
        0 to 1; NaN where there is nothing to score.
    """

    dsc: float
    nsd: float


WRONG = Score(0.0, 0.0)
PERFECT = Score(1.0, 1.0)
NOT_SCORED = Score(float("nan"), float("nan"))


def score_strict(
    mask_gt: BoolVolume, mask_pred: BoolVolume, *, organ: Organ, spacing_mm: SpacingZYX
) -> Score:
    """Score one organ as it is.

    Parameters
    ----------
    mask_gt, mask_pred : (Z, Y, X) arrays of bool
        Reference and prediction.
    organ : Organ
        Gives the tolerance.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    Score
        NaN if both masks are empty.
    """
    return Score(
        dice(mask_gt, mask_pred),
        surface_dice(mask_gt, mask_pred, spacing_mm=spacing_mm, tolerance_mm=organ.tolerance_mm),
    )


def counted_slices(mask_gt: BoolVolume, mask_pred: BoolVolume, *, organ: Organ) -> slice:
    """Tell which slices of two masks the challenge compares.

    Parameters
    ----------
    mask_gt, mask_pred : (Z, Y, X) arrays of bool
        Reference and prediction, as stored in their files.
    organ : Organ
        Whether only the reference's slices count.

    Returns
    -------
    slice
        Of no length for one-slice references of the organs that lose their last slice; all
        slices where one of the masks is empty, which is seen before anything is cut.
    """
    if organ.name not in FLARE24_REFERENCE_SLICES or not (mask_gt.any() and mask_pred.any()):
        return slice(0, len(mask_gt))
    slices = np.flatnonzero(mask_gt.any(axis=(1, 2)))
    return slice(int(slices[0]), int(slices[-1]))


def score_flare24(
    mask_gt: BoolVolume,
    mask_pred: BoolVolume,
    *,
    organ: Organ,
    spacing_mm: SpacingZYX,
    strict: Score | None = None,
) -> Score:
    """Score one organ as the challenge does.

    Parameters
    ----------
    mask_gt, mask_pred : (Z, Y, X) arrays of bool
        Reference and prediction, as stored in their files.
    organ : Organ
        Gives the tolerance and whether only the reference's slices count.
    spacing_mm : (z, y, x) floats
        The spacing that the reference states, in mm.
    strict : Score, optional
        Of the same masks and spacing, to save measuring them once more.

    Returns
    -------
    Score
        NaN for one-slice references of the organs that lose their last slice.
    """
    in_gt, in_pred = bool(mask_gt.any()), bool(mask_pred.any())
    if not (in_gt and in_pred):
        return WRONG if in_gt or in_pred else PERFECT
    counted = counted_slices(mask_gt, mask_pred, organ=organ)
    if counted != slice(0, len(mask_gt)):
        mask_gt, mask_pred, strict = mask_gt[counted], mask_pred[counted], None
        if len(mask_gt) == 0:
            return NOT_SCORED
    dsc = strict.dsc if strict else dice(mask_gt, mask_pred)
    if dsc < FLARE24_LEAST_DSC:
        return Score(dsc, 0.0)
    if strict:
        return strict
    return score_strict(mask_gt, mask_pred, organ=organ, spacing_mm=spacing_mm)
