"""What a header says about an image: its grid, and where and how its voxels lie.

Each format's own module reads its header into a :class:`Layout`; the rules that
hold for every format stand here. Formats speak of (x, y, z) axes;
:func:`grid_from_xyz` turns that into the (z, y, x) of everything else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.errors import UnsupportedScanError
from app.imaging.geometry import Geometry

MAX_EXTENT_MM = 10_000.0
"""No scanner's table moves farther: a longer grid has a wrong header."""

USUAL_SPACING_MM = (0.2, 10.0)
"""Spacings of real CT scans, with room on both sides."""

MIN_SPACING_MM = 0.01
"""Far below what CT scanners resolve, and what nothing but a wrong header gives: the finer a grid,
the more memory resampling it takes."""

MAX_VOXELS_PER_AXIS = 32_767
"""What a NIfTI-1 header can count; real scans have a few thousand slices at most."""

UNKNOWN_DIRECTION = (
    "the header does not say how the scan lies; axes were taken to grow left, back, up, "
    "so left and right may be exchanged"
)
"""Told of MetaImage and NRRD files that leave it out."""

# Headers round direction cosines; beyond this the axes are really not at right angles.
_MAX_SHEAR_DEGREES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where and how the voxels of one image lie in a file.

    Parameters
    ----------
    path : Path
        File that holds the voxels.
    geometry : Geometry
        The grid as stored.
    dtype : dtype
        Number type of a stored voxel, byte order included.
    start : int
        Where voxels begin, or the compressed stream that holds them, in bytes from
        the file's begin.
    skip : int
        Bytes before the first voxel, counted from ``start`` and uncompressed.
    compressed : bool
        Whether a gzip or zlib stream begins at ``start``.
    slope, intercept : float
        HU = slope * stored number + intercept.
    notes : tuple of str
        What a user should know about the header.
    """

    path: Path
    geometry: Geometry
    dtype: np.dtype[np.generic]
    start: int = 0
    skip: int = 0
    compressed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Size of all voxels as stored, uncompressed."""
        return math.prod(self.geometry.shape) * self.dtype.itemsize

    def counted_from_end(self) -> "Layout":
        """Give the layout whose voxels are the last bytes of the file."""
        return replace(self, start=max(0, self.path.stat().st_size - self.num_bytes))


def check_extents(path: Path, extents: Sequence[int]) -> tuple[int, int, int]:
    """Take the three spatial sizes out of all that a header gives.

    Parameters
    ----------
    path : Path
        Named in the error.
    extents : sequence of int
        Size along each axis, the fastest first; further axes may be of length 1.

    Returns
    -------
    (x, y, z) ints
        All at least 1.

    Raises
    ------
    UnsupportedScanError
        If it is not one three-dimensional volume with voxels in it.
    """
    kept = list(extents)
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if min(kept, default=0) < 1:
        raise UnsupportedScanError(f"{path}: no voxels, size {tuple(kept)}; export it again")
    if len(kept) != 3:
        raise UnsupportedScanError(
            f"{path}: {len(kept)} dimensions found, size {tuple(kept)}, 3 expected; "
            "give one volume per file"
        )
    return (kept[0], kept[1], kept[2])


def check_single_channel(path: Path, num_channels: int) -> None:
    """Refuse color and vector images."""
    if num_channels != 1:
        raise UnsupportedScanError(
            f"{path}: {num_channels} values per voxel found, 1 expected; "
            "color and vector images are not CT scans"
        )


def shear_degrees(steps_xyz: npt.NDArray[np.float64]) -> float:
    """Measure how far three axes are from right angles.

    Parameters
    ----------
    steps_xyz : (3, 3) array of float64
        Column ``j`` leads from one voxel to the next along axis ``j``; none is zero.

    Returns
    -------
    float
        Degrees; 0 for right angles.
    """
    unit = steps_xyz / np.linalg.norm(steps_xyz, axis=0)
    cosines = np.abs((unit.T @ unit)[np.triu_indices(3, 1)])
    return float(np.degrees(np.arcsin(min(1.0, cosines.max()))))


def spans_space(steps_xyz: npt.NDArray[np.float64]) -> bool:
    """Tell whether three steps are finite, not zero and at right angles."""
    # Numbers too large to be squared become infinite, which is no right angle either.
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(steps_xyz, axis=0)
        if not np.isfinite(lengths).all() or not lengths.all():
            return False
        return shear_degrees(steps_xyz) <= _MAX_SHEAR_DEGREES


def grid_from_xyz(
    path: Path,
    size_xyz: tuple[int, int, int],
    steps_xyz: npt.NDArray[np.float64],
    origin_xyz: npt.ArrayLike,
) -> Geometry:
    """Make a grid from what a header says in (x, y, z) order, if it can be one.

    Parameters
    ----------
    path : Path
        Named in the error.
    size_xyz : 3 ints
        Voxels along each stored axis, the fastest first.
    steps_xyz : (3, 3) array of float64
        Column ``j`` leads from one voxel to the next along axis ``j``: LPS, mm.
    origin_xyz : 3 floats
        Center of the first voxel: LPS, mm.

    Returns
    -------
    Geometry
        The grid as stored, in (z, y, x) order.

    Raises
    ------
    UnsupportedScanError
        If a number is missing, axes are not at right angles, or the grid is
        larger or finer than any scan.
    """
    origin = np.asarray(origin_xyz, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        spacing = np.linalg.norm(steps_xyz, axis=0)
        extent = spacing * size_xyz
    if not (np.isfinite(origin).all() and np.isfinite(extent).all() and spacing.all()):
        raise UnsupportedScanError(
            f"{path}: spacing {_told(spacing)} mm, origin {_told(origin)} mm (x, y, z): "
            "must be numbers, the spacing positive; export it again"
        )
    if extent.max() > MAX_EXTENT_MM:
        raise UnsupportedScanError(
            f"{path}: spacing {_told(spacing)} mm (x, y, z) makes the scan "
            f"{extent.max() / 1000:.3g} m long; correct the header or export it again"
        )
    if max(size_xyz) > MAX_VOXELS_PER_AXIS:
        raise UnsupportedScanError(
            f"{path}: {size_xyz} voxels (x, y, z) found, at most {MAX_VOXELS_PER_AXIS:,} along an "
            "axis are read; correct the header or crop the scan to the abdomen"
        )
    if spacing.min() < (1 - 1e-6) * MIN_SPACING_MM:  # headers hold it in 32 bits
        raise UnsupportedScanError(
            f"{path}: spacing {_told(spacing)} mm (x, y, z) found, at least {MIN_SPACING_MM:g} mm "
            "expected; correct the header or export it again"
        )
    if not spans_space(steps_xyz):
        raise UnsupportedScanError(
            f"{path}: axes are {shear_degrees(steps_xyz):.1f} degrees away from right angles "
            "(a tilted gantry, or an affine registration); resample it to a grid with "
            "right angles"
        )
    direction = (steps_xyz / spacing + 0.0)[::-1, ::-1].tolist()  # -0 becomes 0
    (nx, ny, nz), (sx, sy, sz), (ox, oy, oz) = size_xyz, spacing.tolist(), origin.tolist()
    return Geometry(
        shape=(nz, ny, nx),
        spacing_mm=(sz, sy, sx),
        origin_mm=(oz, oy, ox),
        direction=tuple((z, y, x) for z, y, x in direction),
    )


def spacing_notes(geometry: Geometry) -> tuple[str, ...]:
    """Say so where a spacing is one that CT scans do not have."""
    least, most = USUAL_SPACING_MM
    if all(least <= step <= most for step in geometry.spacing_mm):
        return ()
    spacing = " x ".join(f"{step:.3g}" for step in geometry.spacing_mm)
    return (f"unusual voxel spacing, {spacing} mm (z, y, x); check the header",)


def _told(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)
