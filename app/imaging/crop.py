"""Boxes of voxels: found around a mask, moved between grids, cut out."""

import math

import numpy as np

from app.errors import EmptyRegionError
from app.imaging.geometry import BoolVolume, Box, IndexZYX, SpacingZYX
from app.imaging.volume import Volume

# Half a millionth of a voxel is rounding noise, not a reason for one more voxel.
_ROUNDING = 6


def bounding_box(mask: BoolVolume, spacing_mm: SpacingZYX, margin_mm: float = 0.0) -> Box:
    """Find the smallest box that holds the foreground, then grow it by a margin.

    The margin is physical, so a scan with thick slices gains fewer voxels along
    z than in-plane. The box is clipped to the volume.

    Parameters
    ----------
    mask : (Z, Y, X) array of bool
        The foreground.
    spacing_mm : (z, y, x) floats
        Distance between neighboring voxel centers, in mm.
    margin_mm : float
        Room added on all six faces, in mm, rounded up to whole voxels.

    Returns
    -------
    Box
        Half-open, never empty.

    Raises
    ------
    EmptyRegionError
        If ``mask`` holds no foreground voxel.
    """
    start, stop = [], []
    for axis, step_mm in enumerate(spacing_mm):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        if filled.size == 0:
            raise EmptyRegionError(f"the mask of shape {mask.shape} holds no foreground voxel")
        margin = math.ceil(round(margin_mm / step_mm, _ROUNDING))
        start.append(max(0, int(filled[0]) - margin))
        stop.append(min(mask.shape[axis], int(filled[-1]) + 1 + margin))
    return Box.between(start, stop)


def box_on_grid(
    box: Box,
    shape: IndexZYX,
    spacing_mm: SpacingZYX,
    new_shape: IndexZYX,
    new_spacing_mm: SpacingZYX,
    margin_mm: SpacingZYX = (0.0, 0.0, 0.0),
) -> Box:
    """Find the voxels of another grid with the same center that a box covers.

    ::

        edge i of N voxels lies (i - N/2) * step from the common center

          0    1    2    3    4        N = 4, step = 3
          |----|----|----|----|
        0  1  2  3  4  5  6            N = 6, step = 2
        |--|--|--|--|--|--|
                 center

    Parameters
    ----------
    box : Box
        On the grid of ``shape`` and ``spacing_mm``.
    shape, new_shape : (z, y, x) ints
        Sizes of the two grids, in voxels.
    spacing_mm, new_spacing_mm : (z, y, x) floats
        Spacings of the two grids, in mm.
    margin_mm : (z, y, x) floats
        Room added on both faces of each axis, in mm.

    Returns
    -------
    Box
        Rounded outwards to whole voxels and clipped to the new grid; at least
        one voxel along each axis.
    """
    start, stop = [], []
    for axis in range(3):
        step, center = spacing_mm[axis], shape[axis] / 2
        new_step, new_center = new_spacing_mm[axis], new_shape[axis] / 2
        low_mm = (box.start[axis] - center) * step - margin_mm[axis]
        high_mm = (box.stop[axis] - center) * step + margin_mm[axis]
        low = math.floor(round(low_mm / new_step + new_center, _ROUNDING))
        high = math.ceil(round(high_mm / new_step + new_center, _ROUNDING))
        first = min(max(0, low), new_shape[axis] - 1)
        start.append(first)
        stop.append(max(first + 1, min(new_shape[axis], high)))
    return Box.between(start, stop)


def widen(box: Box, least_shape: IndexZYX, shape: IndexZYX) -> Box:
    """Grow a box evenly until it has a least size, as far as the volume reaches.

    Parameters
    ----------
    box : Box
        Inside a volume of ``shape``.
    least_shape : (z, y, x) ints
        Size to reach, in voxels.
    shape : (z, y, x) ints
        Size of the volume, in voxels; no box grows beyond it.

    Returns
    -------
    Box
        Holds ``box``.
    """
    start, stop = [], []
    for axis in range(3):
        size = min(max(least_shape[axis], box.shape[axis]), shape[axis])
        first = box.start[axis] - (size - box.shape[axis]) // 2
        first = min(max(0, first), shape[axis] - size)
        start.append(first)
        stop.append(first + size)
    return Box.between(start, stop)


def crop(volume: Volume, box: Box) -> Volume:
    """Cut a box out of a volume, as a view with its own place in the world.

    Parameters
    ----------
    volume : Volume of shape (Z, Y, X)
        Scan, label map or mask.
    box : Box
        Inside the volume.

    Returns
    -------
    Volume
        A view of ``box.shape``.
    """
    return Volume(volume.array[box.slices], volume.geometry.crop(box))
