"""The surface of a mask, as small pieces at the corners between voxels.

A piece of surface lies wherever the eight voxels around a corner are neither
all inside nor all outside. Its area depends on which of the eight are inside:
the corner's code. The areas are those of surface-distance [1]_, which took them
from marching cubes; here they follow from the shape that the inside voxels form.

References
----------
.. [1] Nikolov et al., "Deep learning to achieve clinically applicable
   segmentation of head and neck anatomy for radiotherapy", 2018;
   github.com/google-deepmind/surface-distance
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import BoolVolume, IndexZYX, SpacingZYX

NUM_CODES = 256
INSIDE = NUM_CODES - 1
"""Code of a corner whose eight voxels are all inside."""

SLAB_SLICES = 16
"""Layers of corners coded at a time, to bound memory."""

# Bit i of a code stands for the voxel at this offset (z, y, x) from the corner.
NEIGHBORS: tuple[IndexZYX, ...] = tuple((z, y, x) for z, y, x in product((0, 1), repeat=3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """The pieces of a mask's surface.

    Parameters
    ----------
    corners : (N, 3) array of int32
        Position of each piece, (z, y, x): corner ``i`` lies half a voxel before
        voxel ``i``. In the order of the array.
    areas_mm2 : (N,) array of float64
        Area of each piece, in mm².
    """

    corners: npt.NDArray[np.int32]
    areas_mm2: npt.NDArray[np.float64]


def find_surface(mask: BoolVolume, spacing_mm: SpacingZYX) -> Surface:
    """Find the surface of a mask; what lies beyond the array counts as outside.

    Parameters
    ----------
    mask : (Z, Y, X) array of bool
        Any shape, one slice or none included.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    Surface
        Without pieces for an empty mask.
    """
    num_layers = mask.shape[0] + 1
    # A start without pieces, so that a mask without any needs no rule of its own.
    corners = [np.empty((0, 3), np.int32)]
    codes = [np.empty(0, np.uint8)]
    for first in range(0, num_layers, SLAB_SLICES):
        last = min(first + SLAB_SLICES, num_layers)
        # Layer i of corners touches voxels i - 1 and i.
        box = _filled_box(mask, max(first - 1, 0), last)
        if box is None:
            continue
        slab = _corner_codes(mask[box])
        found = np.argwhere((slab != 0) & (slab != INSIDE)).astype(np.int32)
        found_codes = slab[tuple(found.T)]
        found += np.array([part.start for part in box], np.int32)
        # The slab's first and last layers may be those of its neighbors as well.
        own = (found[:, 0] >= first) & (found[:, 0] < last)
        corners.append(found[own])
        codes.append(found_codes[own])
    areas = piece_areas_mm2(spacing_mm)[np.concatenate(codes)]
    return Surface(corners=np.concatenate(corners), areas_mm2=areas)


def _filled_box(mask: BoolVolume, first: int, last: int) -> tuple[slice, slice, slice] | None:
    """Find what slices ``first`` to ``last`` hold, so that a stray voxel far off costs little."""
    shadow: npt.NDArray[np.bool_] = np.logical_or.reduce(mask[first:last], axis=0)
    rows, columns = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    if not rows.size:
        return None
    return (
        slice(first, min(last, mask.shape[0])),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def _corner_codes(mask: BoolVolume) -> npt.NDArray[np.uint8]:
    """Code all corners of a part of a mask.

    ::

        voxels       0   1   2      corner i lies between voxels i-1 and i,
        corners    0   1   2   3    so n voxels have n + 1 corners
    """
    num_z, num_y, num_x = mask.shape
    codes = np.zeros((num_z + 1, num_y + 1, num_x + 1), np.uint8)
    voxels = np.ascontiguousarray(mask).view(np.uint8)
    for bit, (z, y, x) in enumerate(NEIGHBORS):
        # The voxel at offset 0 lies before the corner, the one at offset 1 behind it.
        start_z, start_y, start_x = 1 - z, 1 - y, 1 - x
        codes[start_z : start_z + num_z, start_y : start_y + num_y, start_x : start_x + num_x] |= (
            voxels << np.uint8(bit)
        )
    return codes


@lru_cache(maxsize=64)
def piece_areas_mm2(spacing_mm: SpacingZYX) -> npt.NDArray[np.float64]:
    """Give the area of the piece of surface for each code.

    Parameters
    ----------
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    (256,) array of float64
        In mm²; 0 for codes 0 and 255.
    """
    areas = np.array([_piece_area(code, np.asarray(spacing_mm)) for code in range(NUM_CODES)])
    areas.setflags(write=False)
    return areas


def _piece_area(code: int, spacing_mm: npt.NDArray[np.float64]) -> float:
    """Add up the surfaces around each group of voxels on the code's smaller side."""
    # A surface seen from either side has one area.
    if code.bit_count() > len(NEIGHBORS) // 2:
        code ^= INSIDE
    voxels = {offset for bit, offset in enumerate(NEIGHBORS) if code >> bit & 1}
    area = 0.0
    while voxels:
        group = _take_group(voxels)
        area += _group_area(group, spacing_mm)
    return area


def _take_group(voxels: set[IndexZYX]) -> list[IndexZYX]:
    """Remove one voxel and all that it reaches through shared faces."""
    group = [voxels.pop()]
    for member in group:
        touching = {other for other in voxels if len(_axes_between(member, other)) == 1}
        voxels -= touching
        group += sorted(touching)
    return group


def _axes_between(one: IndexZYX, other: IndexZYX) -> list[int]:
    """List the axes along which two of the eight voxels differ."""
    return [axis for axis in range(3) if one[axis] != other[axis]]


def _group_area(group: list[IndexZYX], spacing_mm: npt.NDArray[np.float64]) -> float:
    """Give the area of the triangles that marching cubes puts around up to four joined voxels.

    Their corners are the centers of the edges of the cube of eight voxel centers, so that
    few kinds of triangle occur. In units of the voxel's faces:

    ========  ==========================================================================
    tip       cuts off one voxel; all triangles parallel to it are multiples of it
    wall      half of the cut that is square to one axis
    ramp      half of the cut that is parallel to one axis and oblique to the two others
    ========  ==========================================================================
    """
    faces = np.prod(spacing_mm) / spacing_mm
    tip = float(np.linalg.norm(faces)) / 8
    walls = faces / 2
    ramps = [float(np.linalg.norm(np.delete(faces, axis))) / 4 for axis in range(3)]

    # How many pairs share a face along each axis tells the shape.
    joints = [0, 0, 0]
    for index, one in enumerate(group):
        for other in group[:index]:
            axes = _axes_between(one, other)
            if len(axes) == 1:
                joints[axes[0]] += 1
    if len(group) == 1:
        return tip
    if len(group) == 2:  # a bar
        return 2 * ramps[joints.index(1)]
    if len(group) == 3:  # an L
        return float(walls[joints.index(0)]) + 3 * tip
    if sum(joints) == 4:  # a square
        return 2 * float(walls[joints.index(0)])
    if _is_tripod(group):
        return 6 * tip
    # A chain that turns twice; its middle link decides which ramps there are.
    middle = _middle_axis(group)
    return 4 * tip + sum(ramp for axis, ramp in enumerate(ramps) if axis != middle)


def _num_joints(voxel: IndexZYX, group: list[IndexZYX]) -> int:
    return sum(len(_axes_between(voxel, other)) == 1 for other in group)


def _is_tripod(group: list[IndexZYX]) -> bool:
    return any(_num_joints(voxel, group) == 3 for voxel in group)


def _middle_axis(chain: list[IndexZYX]) -> int:
    one, other = (voxel for voxel in chain if _num_joints(voxel, chain) == 2)
    return _axes_between(one, other)[0]
