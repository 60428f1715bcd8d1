"""A small copy of a scan and its label map for the page's viewer.

For looking at, not for measuring: 8 bits a voxel over a window of soft tissue,
on a grid of 2 mm or coarser, so that a page of twenty cases can still be mailed.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import Geometry, IndexZYX, LabelVolume, SpacingZYX
from app.imaging.resample import resample_linear, resample_nearest, resampled_shape
from app.imaging.volume import Volume

FINEST_MM = 2.0
"""Least distance between voxels of the copy, in mm."""

MOST_VOXELS = 9_000_000
"""A larger copy is made coarser; compressed, this many voxels take about 3.5 MB."""

VIEWING_WINDOW_HU = (-200.0, 300.0)
"""What the 256 gray values stand for, in HU: a step is 2 HU, below the noise of a scan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewingCopy:
    """Scan and label map as the viewer shows them.

    Parameters
    ----------
    gray : Volume of uint8
        0 is the lower end of :data:`VIEWING_WINDOW_HU` and all below, 255 the upper.
    labels : Volume of uint8
        Organ values, on the same grid.
    """

    gray: Volume
    labels: Volume


def viewing_copy(scan: Volume, labels: LabelVolume) -> ViewingCopy:
    """Make the copy that the viewer shows.

    Parameters
    ----------
    scan : Volume of int16
        In HU, in canonical orientation.
    labels : (Z, Y, X) array of uint8
        On the scan's grid.

    Returns
    -------
    ViewingCopy
        On a coarser grid that shares the scan's center and axes.
    """
    spacing_mm = viewing_spacing_mm(scan.geometry.shape, scan.geometry.spacing_mm)
    hu = resample_linear(scan.array, scan.geometry.spacing_mm, spacing_mm)
    geometry = _recentered(scan.geometry, hu.shape, spacing_mm)
    coarse = resample_nearest(labels, scan.geometry.spacing_mm, spacing_mm)
    return ViewingCopy(gray=Volume(_to_gray(hu), geometry), labels=Volume(coarse, geometry))


def viewing_spacing_mm(shape: IndexZYX, spacing_mm: SpacingZYX) -> SpacingZYX:
    """Choose the copy's grid: as fine as :data:`FINEST_MM` and :data:`MOST_VOXELS` allow.

    Parameters
    ----------
    shape : (z, y, x) ints
        Size of the scan, in voxels.
    spacing_mm : (z, y, x) floats
        Its spacing, in mm; an axis that is coarser than the copy stays as it is.

    Returns
    -------
    (z, y, x) floats
        Spacing of the copy, in mm.
    """
    least_mm = FINEST_MM
    while True:
        z, y, x = (max(least_mm, step_mm) for step_mm in spacing_mm)
        if math.prod(resampled_shape(shape, spacing_mm, (z, y, x))) <= MOST_VOXELS:
            return (z, y, x)
        least_mm *= 1.02


def _to_gray(hu: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Map the window to 0 ... 255, in place until the last step."""
    low, high = VIEWING_WINDOW_HU
    hu -= np.float32(low)
    hu *= np.float32(255.0 / (high - low))
    np.clip(hu, 0, 255, out=hu)
    return np.rint(hu, out=hu).astype(np.uint8)


def _recentered(geometry: Geometry, shape: IndexZYX, spacing_mm: SpacingZYX) -> Geometry:
    """Give the grid of another size and spacing that has the same center."""
    to_center = np.subtract(geometry.shape, 1) / 2 * geometry.spacing_mm
    to_new_center = np.subtract(shape, 1) / 2 * np.asarray(spacing_mm)
    origin = geometry.origin_mm + np.asarray(geometry.direction) @ (to_center - to_new_center)
    z, y, x = origin.tolist()
    return replace(geometry, shape=shape, spacing_mm=spacing_mm, origin_mm=(z, y, x))
