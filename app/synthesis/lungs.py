"""How the lungs meet the organs under the diaphragm."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import BoolVolume, LabelVolume, SpacingZYX
from app.synthesis.tissues import Tissue

UNDER_DIAPHRAGM = (Tissue.LIVER, Tissue.SPLEEN, Tissue.STOMACH)

_RECESS_MM = 20.0
"""How far the lung reaches down behind a dome."""

_DIAPHRAGM_MM = 3.0

_HIGHEST_GAP_MM = 70.0

_FILLING = (Tissue.MESENTERY, Tissue.MUSCLE, Tissue.FAT, Tissue.VEIN)
"""What may give way to lung."""

_VOTING_MM = 12.0

_VALLEY_MM = 36.0
"""Gaps between the organs up to this width are bridged by the diaphragm."""


def _is_one_of(labels: LabelVolume, values: tuple[Tissue, ...]) -> BoolVolume:
    """Mark the voxels that hold one of a few values, by a table."""
    table = np.zeros(256, bool)
    table[list(values)] = True
    marked: BoolVolume = table[labels]
    return marked


def dome_height(organs: LabelVolume, spacing_mm: SpacingZYX) -> npt.NDArray[np.float32]:
    """Find the height of the diaphragm over liver, spleen and stomach.

    Parameters
    ----------
    organs : (Z, Y, X) array of uint8
        Organ map.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    (Y, X) array of float32
        Slice index of the dome in each line of voxels, narrow valleys bridged;
        -1 where there is none.
    """
    domes = _is_one_of(organs, UNDER_DIAPHRAGM)
    top = np.where(domes.any(0), len(domes) - 1 - np.argmax(domes[::-1], 0), -1)
    radius = max(1, round(_VALLEY_MM / 2 / spacing_mm[1]))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    rim = 2 * radius
    closed = ndimage.grey_closing(
        np.pad(top, rim, constant_values=-1), footprint=y**2 + x**2 <= radius**2
    )[rim:-rim, rim:-rim]
    blurred = ndimage.gaussian_filter(closed.astype(np.float32), 3.0 / spacing_mm[1])
    return np.where(closed < 0, -1.0, np.maximum(blurred, top)).astype(np.float32)


def fit_lungs(tissues: LabelVolume, organs: LabelVolume, spacing_mm: SpacingZYX) -> None:
    """Bring the lungs' base onto the organs under the diaphragm, in place.

    Going down each line of voxels: fat between lung above and liver, spleen or
    stomach below becomes lung, save a thin diaphragm; lung that lies deep under
    such an organ's dome becomes fat.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Tissue map without organs, or with those of ``organs``.
    organs : (Z, Y, X) array of uint8
        The organs that will stand.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    """
    top = dome_height(organs, spacing_mm)
    if top.max() < 0:
        return
    # Everything happens between the lowest recess and the lungs' middle.
    lowest = max(0, int(np.min(top[top >= 0]) - _RECESS_MM / spacing_mm[0]))
    part, held = tissues[lowest:], organs[lowest:] > 0
    top = np.where(top >= 0, top - lowest, -1e4)
    height = np.arange(len(part), dtype=np.float32)[:, None, None]
    lung = part == Tissue.LUNG
    under = lung & (height < top - _RECESS_MM / spacing_mm[0])
    part[under] = Tissue.MESENTERY
    lung &= ~under
    above = lung & (height > top)
    width = max(1, round(_VOTING_MM / spacing_mm[1]))
    reached = above.any(0) & (top >= 0)
    base = np.where(reached, np.argmax(above, 0), 0)
    # Neighbors speak for a line without lung above, and damp one that stands out.
    known = ndimage.uniform_filter(reached.astype(np.float32), width)
    base = ndimage.uniform_filter(np.where(reached, base, 0).astype(np.float32), width)
    base = np.where(known > 0.5, base / np.maximum(known, 0.5), 0)
    reached = (known > 0.5) & (top >= 0)
    gap = (height > top) & (height < base) & ~held
    soft = _is_one_of(part, _FILLING)
    # Where the heart or a bone lies between, or the gap is high, this is no lung base.
    # The vote of neighboring lines keeps single lines from standing out as stripes.
    solid = np.count_nonzero(gap & ~soft, axis=0) > 0.25 * np.count_nonzero(gap, axis=0)
    low = base - top <= _HIGHEST_GAP_MM / spacing_mm[0]
    base_here = reached & ~solid & low
    votes = ndimage.uniform_filter(base_here.astype(np.float32), width)
    gap &= soft & low & (votes > 0.5)
    thin = max(1.0, _DIAPHRAGM_MM / spacing_mm[0])
    part[gap & (height > top + thin)] = Tissue.LUNG
    part[gap & (height <= top + thin)] = Tissue.MUSCLE


def join_lungs(tissues: LabelVolume, zone: slice) -> None:
    """Fill a seam: fat between lung above and lung below becomes lung, in place.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Tissue map.
    zone : slice
        Slices in which the seam lies.
    """
    part = tissues[zone]
    lung: BoolVolume = part == Tissue.LUNG
    below = np.logical_or.accumulate(lung, axis=0)
    above = np.logical_or.accumulate(lung[::-1], axis=0)[::-1]
    part[below & above & _is_one_of(part, _FILLING)] = Tissue.LUNG
