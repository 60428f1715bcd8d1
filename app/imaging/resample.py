"""From one regular grid to another along the same axes.

Two grids that are resampled into each other share their center and their axes,
so that a grid is known by its shape and spacing alone, and going there and back
never shifts a volume. Images and scores are interpolated linearly, labels by
nearest neighbor.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import Box, FloatVolume, IndexZYX, LabelVolume, SpacingZYX

if TYPE_CHECKING:
    from scipy import sparse


def resampled_shape(
    shape: IndexZYX, spacing_mm: SpacingZYX, new_spacing_mm: SpacingZYX
) -> IndexZYX:
    """Find how many voxels of a new spacing cover a grid.

    Parameters
    ----------
    shape : (z, y, x) ints
        Size of the grid, in voxels.
    spacing_mm, new_spacing_mm : (z, y, x) floats
        Present and new spacing, in mm.

    Returns
    -------
    (z, y, x) ints
        At least 1 along each axis.
    """
    z, y, x = (
        max(1, math.ceil(round(size * old / new, 6)))
        for size, old, new in zip(shape, spacing_mm, new_spacing_mm, strict=True)
    )
    return (z, y, x)


def positions(
    num_out: int, step_out: float, num_in: int, step_in: float
) -> npt.NDArray[np.float64]:
    """Give the place of each output voxel's center along one axis, in input voxels.

    Parameters
    ----------
    num_out, num_in : int
        Voxels along the axis.
    step_out, step_in : float
        Spacing along the axis, in mm.

    Returns
    -------
    (num_out,) array of float64
        Fractional index; may lie outside ``0 ... num_in - 1``.
    """
    from_center = (np.arange(num_out, dtype=np.float64) - (num_out - 1) / 2) * (step_out / step_in)
    shifted: npt.NDArray[np.float64] = from_center + (num_in - 1) / 2
    return shifted


# Grids are cubes for the most part, and scans of one spacing come one after the other.
@lru_cache(maxsize=256)
def linear_weights(
    num_out: int, step_out: float, num_in: int, step_in: float
) -> "sparse.csr_array":
    """Build the matrix that interpolates linearly along one axis.

    Where the output is coarser than the input, the triangle that weighs the
    inputs is widened to the output's step, so that fine structure is averaged
    and not skipped. Beyond its ends the input goes on with its last value.

    Returns
    -------
    (num_out, num_in) sparse array of float32
        Rows sum to 1. Kept for the next call, so not to be changed.
    """
    # Here, since its import takes longer than that of NumPy, and sizes are planned without.
    from scipy import sparse

    width = max(1.0, step_out / step_in)
    center = np.clip(positions(num_out, step_out, num_in, step_in), 0, num_in - 1)
    first = np.floor(center - width).astype(np.int64)
    taps = first[:, None] + np.arange(math.ceil(2 * width) + 2)
    weight = np.maximum(0.0, 1.0 - np.abs(taps - center[:, None]) / width)
    row = np.broadcast_to(np.arange(num_out)[:, None], taps.shape)
    column = np.clip(taps, 0, num_in - 1)
    weight /= weight.sum(axis=1, keepdims=True)
    used = weight > 0
    matrix = sparse.coo_array(
        (weight[used].astype(np.float32), (row[used], column[used])), shape=(num_out, num_in)
    )
    return matrix.tocsr()


def grid_weights(
    shape: IndexZYX,
    spacing_mm: SpacingZYX,
    source_shape: IndexZYX,
    source_spacing_mm: SpacingZYX,
) -> "tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]":
    """Build the matrices that interpolate linearly from one grid to another.

    Parameters
    ----------
    shape, spacing_mm : (z, y, x)
        The grid to fill, in voxels and mm.
    source_shape, source_spacing_mm : (z, y, x)
        The grid to draw on; it shares its center with the other.

    Returns
    -------
    three sparse arrays of shapes (Z, Z'), (Y, Y'), (X, X')
        See :func:`linear_weights`.
    """
    along_z, along_y, along_x = (
        linear_weights(*axis)
        for axis in zip(shape, spacing_mm, source_shape, source_spacing_mm, strict=True)
    )
    return along_z, along_y, along_x


def columns_of(matrix: "sparse.csr_array") -> slice:
    """Find the columns that a matrix draws on."""
    if matrix.nnz == 0:
        return slice(0, 0)
    return slice(int(matrix.indices.min()), int(matrix.indices.max()) + 1)


def resample_linear(
    volume: npt.NDArray[np.int16] | FloatVolume,
    spacing_mm: SpacingZYX,
    new_spacing_mm: SpacingZYX,
    new_shape: IndexZYX | None = None,
    part: Box | None = None,
) -> FloatVolume:
    """Resample an image to another spacing.

    One slice at a time is turned into float32 and shrunk in-plane, so that a
    large int16 scan is never copied whole.

    Parameters
    ----------
    volume : (Z, Y, X) array of int16 or float32
        The image; a view with negative strides is welcome.
    spacing_mm, new_spacing_mm : (z, y, x) floats
        Present and new spacing, in mm.
    new_shape : (z, y, x) ints, optional
        Size of the new grid; by default what covers the volume.
    part : Box, optional
        The part of the new grid that is wanted, in its own voxels; by default all of it.

    Returns
    -------
    (Z', Y', X') array of float32
        On the grid of the new spacing that shares the volume's center, or on that part.
    """
    shape: IndexZYX = volume.shape
    if new_shape is None:
        new_shape = resampled_shape(shape, spacing_mm, new_spacing_mm)
    if part is None:
        part = Box(start=(0, 0, 0), stop=new_shape)
    weights = grid_weights(new_shape, new_spacing_mm, shape, spacing_mm)
    rows = [matrix[wanted] for matrix, wanted in zip(weights, part.slices, strict=True)]
    drawn_on = tuple(columns_of(matrix) for matrix in rows)
    along_z, along_y, along_x = (
        matrix[:, columns] for matrix, columns in zip(rows, drawn_on, strict=True)
    )
    source = volume[drawn_on]
    stack = np.empty((len(source), *part.shape[1:]), np.float32)
    for plane, shrunk in zip(source, stack, strict=True):
        lines = along_y @ plane.astype(np.float32)
        shrunk[...] = (along_x @ np.ascontiguousarray(lines.T)).T
    resampled: FloatVolume = (along_z @ stack.reshape(len(source), -1)).reshape(part.shape)
    return resampled


def resample_nearest(
    labels: LabelVolume,
    spacing_mm: SpacingZYX,
    new_spacing_mm: SpacingZYX,
    new_shape: IndexZYX | None = None,
) -> LabelVolume:
    """Resample a label map to another spacing by nearest neighbor.

    Parameters and result are those of :func:`resample_linear`, in uint8.
    """
    shape: IndexZYX = labels.shape
    if new_shape is None:
        new_shape = resampled_shape(shape, spacing_mm, new_spacing_mm)
    nearest = (
        np.clip(np.rint(positions(num_out, step_out, num_in, step_in)), 0, num_in - 1).astype(int)
        for num_out, step_out, num_in, step_in in zip(
            new_shape, new_spacing_mm, shape, spacing_mm, strict=True
        )
    )
    resampled: LabelVolume = labels[np.ix_(*nearest)]
    return resampled
