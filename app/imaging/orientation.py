"""Turn a volume into the canonical orientation and back, without copying it.

Canonical is LPS: array axis 0 grows towards Superior, axis 1 towards Posterior,
axis 2 towards Left. A scan that lies obliquely is turned to the nearest of the
48 axis-aligned orientations; the rest of its tilt stays in the geometry.
"""

from dataclasses import dataclass, replace
from itertools import permutations
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import Geometry, IndexZYX
from app.imaging.volume import Volume

AnyScalar = TypeVar("AnyScalar", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How a stored array relates to the canonical one.

    Parameters
    ----------
    axes : (z, y, x) ints
        Stored axis that runs along canonical axis 0, 1 and 2.
    flipped : (z, y, x) bools
        Whether that stored axis grows against the canonical one.
    """

    axes: IndexZYX
    flipped: tuple[bool, bool, bool]


def nearest_orientation(geometry: Geometry) -> Orientation:
    """Find the axis permutation and flips that bring a grid closest to LPS.

    All six permutations are compared, so that two stored axes never claim the
    same canonical axis, not even at a tilt of 45 degrees.

    Parameters
    ----------
    geometry : Geometry
        The grid as stored.

    Returns
    -------
    Orientation
        Identity for an LPS scan.
    """
    direction = np.asarray(geometry.direction)
    along = np.abs(direction)
    z, y, x = max(
        permutations(range(3)), key=lambda axes: sum(along[i, axis] for i, axis in enumerate(axes))
    )
    down = (direction[0, z] < 0, direction[1, y] < 0, direction[2, x] < 0)
    return Orientation(axes=(z, y, x), flipped=(bool(down[0]), bool(down[1]), bool(down[2])))


def to_lps(volume: Volume) -> tuple[Volume, Orientation]:
    """Turn a volume into canonical orientation.

    Parameters
    ----------
    volume : Volume of shape (Z, Y, X) as stored
        Any of the 48 orientations, tilted or not.

    Returns
    -------
    Volume
        A view of the same voxels at the same places in the world.
    Orientation
        What :func:`from_lps` needs to undo it.
    """
    orientation = nearest_orientation(volume.geometry)
    array = as_lps(volume.array, orientation)
    return Volume(array, turn_geometry(volume.geometry, orientation)), orientation


def as_lps(array: npt.NDArray[AnyScalar], orientation: Orientation) -> npt.NDArray[AnyScalar]:
    """Turn an array as stored into canonical orientation.

    Parameters
    ----------
    array : (Z, Y, X) ndarray as stored
        Scan or label map.
    orientation : Orientation
        How it was stored.

    Returns
    -------
    ndarray
        A view; what is written to it lands in ``array``.
    """
    return _flip(np.transpose(array, orientation.axes), orientation.flipped)


def from_lps(array: npt.NDArray[AnyScalar], orientation: Orientation) -> npt.NDArray[AnyScalar]:
    """Turn an array in canonical orientation back to how it was stored.

    Parameters
    ----------
    array : (Z, Y, X) ndarray
        Canonical orientation.
    orientation : Orientation
        As given by :func:`to_lps`.

    Returns
    -------
    ndarray
        A view in the stored axis order.
    """
    return np.transpose(_flip(array, orientation.flipped), np.argsort(orientation.axes))


def turn_geometry(geometry: Geometry, orientation: Orientation) -> Geometry:
    """Give the grid of a turned array: same voxels, another first corner.

    Parameters
    ----------
    geometry : Geometry
        The grid as stored.
    orientation : Orientation
        How it was stored.

    Returns
    -------
    Geometry
        The grid in canonical orientation.
    """
    axes = list(orientation.axes)
    steps = np.asarray(geometry.direction) * np.asarray(geometry.spacing_mm)
    last = np.asarray(geometry.shape) - 1
    from_end = np.zeros(3)
    from_end[axes] = orientation.flipped
    origin = np.asarray(geometry.origin_mm) + steps @ (from_end * last)
    sign = np.where(orientation.flipped, -1.0, 1.0)
    direction = np.asarray(geometry.direction)[:, axes] * sign
    nz, ny, nx = (geometry.shape[axis] for axis in axes)
    sz, sy, sx = (geometry.spacing_mm[axis] for axis in axes)
    oz, oy, ox = origin.tolist()
    return replace(
        geometry,
        shape=(nz, ny, nx),
        spacing_mm=(sz, sy, sx),
        origin_mm=(oz, oy, ox),
        direction=tuple((row[0], row[1], row[2]) for row in direction.tolist()),
    )


def lps_geometry(geometry: Geometry) -> Geometry:
    """Give the grid that :func:`to_lps` gives a volume of the given grid, as stored."""
    return turn_geometry(geometry, nearest_orientation(geometry))


def _flip(
    array: npt.NDArray[AnyScalar], flipped: tuple[bool, bool, bool]
) -> npt.NDArray[AnyScalar]:
    z, y, x = (slice(None, None, -1 if turn else 1) for turn in flipped)
    return array[z, y, x]
