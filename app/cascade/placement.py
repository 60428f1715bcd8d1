"""Where patches lie on a volume: few that cover what is wanted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import BoolVolume, IndexZYX

_Marks: TypeAlias = npt.NDArray[np.bool_]

COARSE_STEPS = (16, 8, 1)
"""From and to what multiples of voxels a second look's patches reach; see ``place_patches``."""


def patch_starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """Place the fewest patches that cover an axis, evenly spread.

    ::

        size 20, patch 8, overlap at least 2

        |0 1 2 3 4 5 6 7 8 9 ...            19|
        [--------------]                        start 0
                    [--------------]            start 6
                                [-----------]   start 12

        size 5, patch 8: the patch reaches 1 voxel into the air before the
        volume and 2 voxels into the air behind it

             |0 1 2 3 4|
          [--------------]                      start -1

    Parameters
    ----------
    size : int
        Length of the axis, in voxels.
    patch : int
        Length of a patch, in voxels.
    overlap : float
        Least share of a patch that neighbors have in common.

    Returns
    -------
    tuple of int
        First voxel of each patch, rising; one negative start for a short axis.
    """
    spare = size - patch
    if spare <= 0:
        return (-(-spare // 2),)
    stride = max(1, math.floor(round(patch * (1 - overlap), 6)))
    num_steps = math.ceil(spare / stride)
    return tuple(round(step * spare / num_steps) for step in range(num_steps + 1))


def place_patches(
    wanted: BoolVolume,
    patch_shape: IndexZYX,
    overlap: float,
    anchor: IndexZYX | None = None,
) -> list[IndexZYX]:
    """Place few patches that together cover what is wanted.

    All of a row share their slices. A row covers what is wanted in its slices, a line
    within it what is wanted in that line, so that patches follow the shape rather than
    fill its box: ::

         +-------+                two patches instead of four,
         | o o   |                lines first
         |   o o |
         +-------+
               +-------+
               | o o o |
               +-------+

    Parameters
    ----------
    wanted : (Z, Y, X) array of bool
        What must be covered.
    patch_shape : (z, y, x) ints
        Size of a patch, in voxels.
    overlap : float
        Least share of a patch that neighbors along an axis have in common.
    anchor : (z, y, x) ints, optional
        How many voxels of the scan's grid lie before the volume. If it is given, what is
        wanted counts from and to a multiple of 16 voxels of that grid, or of 8 if that takes
        fewer patches, or of 1: a voxel of it more or less, which may be a matter of rounding,
        then moves no patch in most cases, and takes none more.

    Returns
    -------
    list of (z, y, x) ints
        First voxels of the patches, row by row; empty if nothing is wanted. A patch
        reaches beyond the volume only where the volume is smaller than a patch.
    """
    steps = (1,) if anchor is None else COARSE_STEPS
    axes = list(zip(patch_shape, anchor or (0, 0, 0), strict=True))
    choices = [
        _place(wanted, [_Axis(patch, overlap, step, before) for patch, before in axes])
        for step in steps
    ]
    # The first, that is coarsest, wins a tie.
    return min(choices, key=len)


@dataclass(frozen=True, slots=True)
class _Axis:
    """How patches lie along an axis: from and to multiples of a step, counted from an anchor."""

    patch: int
    overlap: float
    step: int
    before: int

    def starts_over(self, wanted: _Marks) -> list[int]:
        """Place patches from the first wanted voxel to the last."""
        places = np.flatnonzero(wanted)
        if not places.size:
            return []
        if wanted.size <= self.patch:
            return list(patch_starts(wanted.size, self.patch, self.overlap))
        first, stop = int(places[0]), int(places[-1]) + 1
        first -= (self.before + first) % self.step
        stop += -(self.before + stop) % self.step
        # Real surroundings are better for a network than the air beyond the volume.
        return [
            min(max(0, first + start), wanted.size - self.patch)
            for start in patch_starts(stop - first, self.patch, self.overlap)
        ]


def _place(wanted: BoolVolume, axes: Sequence[_Axis]) -> list[IndexZYX]:
    along_z, *plane = axes
    starts: list[IndexZYX] = []
    for z in along_z.starts_over(_along(wanted, (1, 2))):
        in_row = _along(wanted[max(0, z) : z + along_z.patch], 0)
        by_lines = _place_in_plane(in_row, plane)
        by_columns = [(y, x) for x, y in _place_in_plane(in_row.T, plane[::-1])]
        fewer = min(by_lines, by_columns, key=len)
        starts += [(z, y, x) for y, x in fewer]
    return starts


def _place_in_plane(wanted: _Marks, axes: Sequence[_Axis]) -> list[tuple[int, int]]:
    along_y, along_x = axes
    starts = []
    for y in along_y.starts_over(_along(wanted, 1)):
        in_line = _along(wanted[max(0, y) : y + along_y.patch], 0)
        starts += [(y, x) for x in along_x.starts_over(in_line)]
    return starts


def _along(wanted: _Marks, axes: int | tuple[int, int]) -> _Marks:
    """Tell where anything is wanted along the given axes."""
    return np.asarray(wanted.any(axis=axes))
