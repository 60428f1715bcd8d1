"""How well two masks agree: DSC and NSD.

NSD is the surface Dice of surface-distance (see :mod:`app.evaluation.surface`):
the share of both surfaces that lies within a tolerance of the other one.
"""

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from app.evaluation.surface import Surface, find_surface
from app.imaging.geometry import BoolVolume, SpacingZYX

# A tree works with rounded world coordinates: neighbors at just the tolerance are
# looked for a little further out and then measured exactly.
_ROUNDING = 1.0 + 1e-9


def dice(mask_gt: BoolVolume, mask_pred: BoolVolume) -> float:
    """Measure the overlap of two masks: twice what they share over what they hold together.

    Parameters
    ----------
    mask_gt, mask_pred : (Z, Y, X) arrays of bool
        Reference and prediction.

    Returns
    -------
    float
        0 to 1; NaN if both are empty.
    """
    held = np.count_nonzero(mask_gt) + np.count_nonzero(mask_pred)
    if held == 0:
        return float("nan")
    return 2.0 * np.count_nonzero(mask_gt & mask_pred) / held


def surface_dice(
    mask_gt: BoolVolume,
    mask_pred: BoolVolume,
    *,
    spacing_mm: SpacingZYX,
    tolerance_mm: float,
) -> float:
    """Measure which share of both surfaces lies within a tolerance of the other (NSD).

    Memory beyond the masks grows with the surfaces, not with the volume.

    Parameters
    ----------
    mask_gt, mask_pred : (Z, Y, X) arrays of bool
        Reference and prediction; voxels beyond the arrays count as outside.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    tolerance_mm : float
        Largest distance that counts as agreement, in mm.

    Returns
    -------
    float
        0 to 1; 0 if one mask is empty, NaN if both are.
    """
    surface_gt = find_surface(mask_gt, spacing_mm)
    surface_pred = find_surface(mask_pred, spacing_mm)
    total_mm2 = surface_gt.areas_mm2.sum() + surface_pred.areas_mm2.sum()
    if total_mm2 == 0:
        return float("nan")
    close_gt, close_pred = _within(surface_gt, surface_pred, spacing_mm, tolerance_mm)
    close_mm2 = surface_gt.areas_mm2[close_gt].sum() + surface_pred.areas_mm2[close_pred].sum()
    return float(close_mm2 / total_mm2)


def _within(
    one: Surface, other: Surface, spacing_mm: SpacingZYX, tolerance_mm: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Mark the pieces of each surface that the other comes close to."""
    num_one, num_other = len(one.corners), len(other.corners)
    if num_one == 0 or num_other == 0:
        return np.zeros(num_one, np.bool_), np.zeros(num_other, np.bool_)
    # Most pieces of a good prediction coincide with the reference's: no search for those.
    rows_one, rows_other = _as_numbers(one.corners, other.corners)
    close_one = np.isin(rows_one, rows_other, assume_unique=True)
    close_other = np.isin(rows_other, rows_one, assume_unique=True)
    for close, here, there in ((close_one, one, other), (close_other, other, one)):
        apart = np.flatnonzero(~close)
        if apart.size:
            found = _reach(here.corners[apart], there.corners, spacing_mm, tolerance_mm)
            close[apart] = found
    return close_one, close_other


def _as_numbers(
    *corners: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int64], ...]:
    """Turn corners into single numbers that are equal where the corners are."""
    _, num_y, num_x = np.max([rows.max(axis=0) for rows in corners], axis=0).astype(np.int64) + 1
    return tuple((rows[:, 0] * num_y + rows[:, 1]) * num_x + rows[:, 2] for rows in corners)


def _reach(
    corners: npt.NDArray[np.int32],
    others: npt.NDArray[np.int32],
    spacing_mm: SpacingZYX,
    tolerance_mm: float,
) -> npt.NDArray[np.bool_]:
    """Mark the corners that have one of the others within the tolerance."""
    tree = cKDTree(others * np.asarray(spacing_mm), balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(
        corners * np.asarray(spacing_mm), distance_upper_bound=tolerance_mm * _ROUNDING
    )
    found = nearest < len(others)
    steps_mm = (others[nearest[found]] - corners[found]) * np.asarray(spacing_mm)
    found[found] = np.sqrt((steps_mm**2).sum(axis=1)) <= tolerance_mm
    return np.asarray(found, np.bool_)
