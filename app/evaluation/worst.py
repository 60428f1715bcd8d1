"""The worst results, kept as three planes each through the thick of the disagreement."""

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from app.evaluation.protocols import Score
from app.imaging.geometry import BoolVolume, ScanVolume, SpacingZYX
from app.imaging.picture import DISPLAY_WINDOW_HU, OPACITY, Plane, outline, three_planes

NUM_WORST = 10

PLANE_PIXELS = 220
"""Longest side of a drawn plane, in pixels."""

MARGIN_PIXELS = 8

# Shared, missed and added voxels; told apart by people who see no red or green as well.
BOTH_COLOR = (150, 150, 150)
MISSED_COLOR = (60, 120, 220)
ADDED_COLOR = (240, 140, 40)
OUTLINE_COLOR = (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstResult:
    """One result and what it looks like.

    Parameters
    ----------
    case, organ : str
        What was scored.
    score : Score
        DSC and NSD.
    picture : Image
        Axial, coronal and sagittal plane, RGB.
    over_scan : bool
        Whether the scan shows behind them.
    """

    case: str
    organ: str
    score: Score
    picture: Image.Image
    over_scan: bool

    @property
    def rank(self) -> float:
        """Mean of DSC and NSD: the less, the worse."""
        return (self.score.dsc + self.score.nsd) / 2


@dataclass(slots=True)
class WorstResults:
    """Keeps the worst of all results that it is offered.

    Parameters
    ----------
    results : list of WorstResult
        At most ten, worst first; the earlier offered first among equals.
    """

    results: list[WorstResult] = field(default_factory=list)

    def wants(self, score: Score) -> bool:
        """Tell whether a result would be kept; those not scored or perfect never are."""
        rank = (score.dsc + score.nsd) / 2
        if math.isnan(rank) or rank >= 1:
            return False
        return len(self.results) < NUM_WORST or rank < self.results[-1].rank

    def offer(
        self,
        case: str,
        organ: str,
        score: Score,
        mask_gt: BoolVolume,
        mask_pred: BoolVolume,
        spacing_mm: SpacingZYX,
        scan: ScanVolume | None = None,
    ) -> None:
        """Draw and keep a result if it is among the worst so far.

        Parameters
        ----------
        case, organ : str
            What was scored.
        score : Score
            DSC and NSD.
        mask_gt, mask_pred : (Z, Y, X) arrays of bool
            Reference and prediction, in LPS, cropped to the organ or somewhat beyond.
        spacing_mm : (z, y, x) floats
            Voxel spacing, in mm.
        scan : (Z, Y, X) array of int16, optional
            The scan there, in HU, to be seen behind them.
        """
        if not mask_gt.size or not self.wants(score):
            return
        picture = draw_disagreement(mask_gt, mask_pred, spacing_mm, scan)
        self.results.append(
            WorstResult(
                case=case,
                organ=organ,
                score=score,
                picture=picture,
                over_scan=scan is not None,
            )
        )
        self.results.sort(key=lambda result: result.rank)
        del self.results[NUM_WORST:]


def draw_disagreement(
    mask_gt: BoolVolume,
    mask_pred: BoolVolume,
    spacing_mm: SpacingZYX,
    scan: ScanVolume | None = None,
) -> Image.Image:
    """Draw three planes where two masks disagree most: shared, missed, added.

    Parameters
    ----------
    mask_gt, mask_pred : (Z, Y, X) arrays of bool
        Reference and prediction, in LPS, not empty in size.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    scan : (Z, Y, X) array of int16, optional
        Drawn behind them, in the soft-tissue window; black without it.

    Returns
    -------
    Image
        RGB; the patient's right is on the left, front and head are up.
    """
    wrong = mask_gt ^ mask_pred
    z, y, x = (int(wrong.sum(others).argmax()) for others in ((1, 2), (0, 2), (0, 1)))
    behind = scan
    if behind is None:
        behind = np.broadcast_to(np.int16(DISPLAY_WINDOW_HU[0]), wrong.shape)
    kinds = mask_gt.astype(np.uint8) + 2 * mask_pred.astype(np.uint8)
    planes = three_planes(behind, kinds, spacing_mm, (z, y, x))
    opacity = 1.0 if scan is None else OPACITY
    longest_mm = max(num * step for num, step in zip(wrong.shape, spacing_mm, strict=True))
    painted = [_paint(plane, PLANE_PIXELS / longest_mm, opacity) for plane in planes]
    width = sum(image.width for image in painted) + (len(painted) + 1) * MARGIN_PIXELS
    height = max(image.height for image in painted) + 2 * MARGIN_PIXELS
    picture = Image.new("RGB", (width, height), "black")
    left = MARGIN_PIXELS
    for image in painted:
        picture.paste(image, (left, MARGIN_PIXELS))
        left += image.width + MARGIN_PIXELS
    return picture


def _paint(plane: Plane, pixels_per_mm: float, opacity: float) -> Image.Image:
    """Draw one plane with square pixels over the scan; the reference is outlined.

    Its labels are 1 for the reference, 2 for the prediction, 3 for both.
    """
    rows, columns = (
        max(1, round(num * step * pixels_per_mm))
        for num, step in zip(plane.labels.shape, plane.spacing_mm, strict=True)
    )
    blocky = Image.fromarray(np.pad(plane.labels, 1))
    # One voxel of background all around, so that outlines at the border show.
    scale_rows, scale_columns = rows / plane.labels.shape[0], columns / plane.labels.shape[1]
    size = (round(columns + 2 * scale_columns), round(rows + 2 * scale_rows))
    drawn = np.asarray(blocky.resize(size, Image.Resampling.NEAREST))
    low, high = DISPLAY_WINDOW_HU
    gray = (np.clip(plane.hu, low, high) - low) * (255 / (high - low))
    smooth = Image.fromarray(np.pad(np.rint(gray).astype(np.uint8), 1, mode="edge"))
    shades = np.asarray(smooth.resize(size, Image.Resampling.BILINEAR), np.float32)[..., None]
    palette = np.array([(0, 0, 0), MISSED_COLOR, ADDED_COLOR, BOTH_COLOR], np.float32)
    # On a scan, what both agree on is left to be seen; its outline tells where it is.
    opacities = np.array([0.0, opacity, opacity, opacity if opacity == 1.0 else 0.0], np.float32)
    share = opacities[drawn][..., None]
    pixels = np.rint(shades * (1 - share) + palette[drawn] * share).astype(np.uint8)
    pixels[outline(drawn & np.uint8(1))] = OUTLINE_COLOR
    return Image.fromarray(pixels)
