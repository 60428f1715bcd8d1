"""Where voxels lie: a grid in space and a box of voxels, both in (z, y, x) order."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import SupportsInt, TypeAlias

import numpy as np
import numpy.typing as npt

IndexZYX: TypeAlias = tuple[int, int, int]
SpacingZYX: TypeAlias = tuple[float, float, float]
BoolVolume: TypeAlias = npt.NDArray[np.bool_]
FloatVolume: TypeAlias = npt.NDArray[np.float32]
LabelVolume: TypeAlias = npt.NDArray[np.uint8]
ScanVolume: TypeAlias = npt.NDArray[np.int16]

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A half-open region of voxels: ``start <= index < stop``.

    Parameters
    ----------
    start, stop : (z, y, x) ints
        First voxel inside and first voxel beyond, along each axis.
    """

    start: IndexZYX
    stop: IndexZYX

    def relative_to(self, other: "Box") -> "Box":
        """Give this box in the voxels of another that holds it."""
        offset = np.asarray(other.start)
        return Box.between(np.asarray(self.start) - offset, np.asarray(self.stop) - offset)

    def union(self, other: "Box") -> "Box":
        """Give the smallest box that holds this one and another."""
        return Box.between(
            np.minimum(self.start, other.start).tolist(),
            np.maximum(self.stop, other.stop).tolist(),
        )

    @classmethod
    def between(cls, start: Sequence[SupportsInt], stop: Sequence[SupportsInt]) -> "Box":
        """Make a box from any two sequences of three numbers."""
        z0, y0, x0 = (int(index) for index in start)
        z1, y1, x1 = (int(index) for index in stop)
        return cls(start=(z0, y0, x0), stop=(z1, y1, x1))

    @property
    def shape(self) -> IndexZYX:
        """Extent along z, y and x, in voxels."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return (z1 - z0, y1 - y0, x1 - x0)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index that cuts the box out of an array of shape (Z, Y, X)."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return (slice(z0, z1), slice(y0, y1), slice(x0, x1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A regular grid in space.

    Parameters
    ----------
    shape : (z, y, x) ints
        Number of voxels along each array axis.
    spacing_mm : (z, y, x) floats
        Distance between neighboring voxel centers, in mm.
    origin_mm : (z, y, x) floats
        World position of the first voxel's center, LPS, in mm.
    direction : 3 rows of 3 floats
        Column ``j`` is the world direction (z, y, x) of array axis ``j``.
    """

    shape: IndexZYX
    spacing_mm: SpacingZYX
    origin_mm: SpacingZYX = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, float, float], ...] = IDENTITY

    @property
    def extent_mm(self) -> SpacingZYX:
        """Size of the grid along each array axis, outer edges included, in mm."""
        (nz, ny, nx), (sz, sy, sx) = self.shape, self.spacing_mm
        return (nz * sz, ny * sy, nx * sx)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, in ml."""
        sz, sy, sx = self.spacing_mm
        return sz * sy * sx / 1000.0

    def crop(self, box: Box) -> "Geometry":
        """Give the grid of the voxels inside a box."""
        offset = np.asarray(self.direction) @ (np.multiply(box.start, self.spacing_mm))
        z, y, x = (np.asarray(self.origin_mm) + offset).tolist()
        return replace(self, shape=box.shape, origin_mm=(z, y, x))

    def corners_mm(self) -> npt.NDArray[np.float64]:
        """Give the centers of the first voxel and of the last one along each axis.

        Two grids of one shape whose corners agree are the same grid.

        Returns
        -------
        (4, 3) array of float64
            World positions (z, y, x), in mm.
        """
        steps = np.asarray(self.direction) * np.asarray(self.spacing_mm)
        ends = steps * (np.asarray(self.shape) - 1)
        origin = np.asarray(self.origin_mm, np.float64)
        return np.vstack([origin, *(origin + ends[:, axis] for axis in range(3))])
