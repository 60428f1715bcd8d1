"""Label maps on disk: read as they lie there, and set beside other grids."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import InputError
from app.imaging.geometry import Geometry, LabelVolume
from app.imaging.io import Source, read_scan
from app.imaging.orientation import as_lps, from_lps
from app.imaging.segments import SUFFIX, organs_by_value
from app.imaging.volume import Volume
from app.labels import NUM_CLASSES

logger = logging.getLogger(__name__)

GRID_TOLERANCE = 0.1
"""How far apart the corners of two grids may lie to count as one grid, in voxels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMap:
    """A label map as it lies on disk.

    Parameters
    ----------
    path : Path
        The file.
    array : (Z, Y, X) array of uint8
        In the order and direction of the file, not turned to LPS.
    source : Source
        How that relates to LPS.
    """

    path: Path
    array: LabelVolume
    source: Source

    @property
    def in_lps(self) -> LabelVolume:
        """The label map in canonical orientation, as a view."""
        return as_lps(self.array, self.source.orientation)


def read_label_map(
    path: Path, *, stands_for: Mapping[int, int] | None = None, organs_only: bool = False
) -> LabelMap:
    """Read a label map as it lies on disk.

    Parameters
    ----------
    path : Path
        Any image of whole numbers from 0, whatever type they are stored in.
    stands_for : dict of int to int, optional
        The label value that each stored one, 0 to 255, stands for. By default that is what
        the segments of a segmentation of 3D Slicer are called; others are taken as they
        are, and those of no organ are told in a warning.
    organs_only : bool
        Whether values of no organ are refused in place of that.

    Returns
    -------
    LabelMap

    Raises
    ------
    InputError
        If the file is not a label map, or holds what ``stands_for``, or no segment, names, or
        what is refused.
    """
    if stands_for is None and path.name.lower().endswith(SUFFIX):
        named = organs_by_value(path)
        stands_for = named if len(named) > 1 else None
    scan, source = read_scan(path, as_labels=True)
    stored = from_lps(scan.array, source.orientation)
    low, high = int(stored.min()), int(stored.max())
    if low < 0 or high > np.iinfo(np.uint8).max:
        raise InputError(
            f"{path}: values from {low} to {high}, a label map has 0 to {NUM_CLASSES - 1}; "
            "is this the scan?"
        )
    array = stored.astype(np.uint8)
    if stands_for is not None:
        _translate(array, stands_for, path)
    elif high >= NUM_CLASSES and organs_only:
        raise InputError(
            f"{path}: values from {low} to {high}, 0 to {NUM_CLASSES - 1} expected; correct it"
        )
    elif high >= NUM_CLASSES:
        logger.warning("%s: values above %d stand for no organ", path, NUM_CLASSES - 1)
    return LabelMap(path=path, array=array, source=source)


def _translate(array: LabelVolume, stands_for: Mapping[int, int], path: Path) -> None:
    """Put in the place of each value what it stands for."""
    table = np.zeros(256, np.uint8)
    for stored, value in stands_for.items():
        table[stored] = value
    found: set[int] = set()
    for plane in array:  # one by one, as an index takes 8 bytes a voxel
        found.update(np.flatnonzero(np.bincount(plane.ravel())).tolist())
        plane[...] = table[plane]
    if odd := sorted(found - stands_for.keys()):
        raise InputError(
            f"{path}: {', '.join(map(str, odd[:9]))} stand for no organ; give the organs the "
            "values of labels.json, and take out all else"
        )


def read_pair(scan_path: Path, label_path: Path) -> tuple[Volume, LabelVolume]:
    """Read a scan and its label map.

    Parameters
    ----------
    scan_path, label_path : Path
        In any orientation, but on the same grid.

    Returns
    -------
    Volume of int16
        The scan, in canonical orientation.
    (Z, Y, X) array of uint8
        The label map, in canonical orientation.

    Raises
    ------
    InputError
        If one of them cannot be used, or the two do not lie on the same grid.
    """
    # The label map first: read as int16 like any image, it is shrunk before the scan comes.
    label_map = read_label_map(label_path)
    scan, source = read_scan(scan_path)
    difference = grid_difference(source.geometry, label_map.source.geometry)
    if difference:
        raise InputError(
            f"{label_path}: not on the grid of its scan {scan_path}: {difference}; segment it again"
        )
    return scan, label_map.in_lps


def grid_difference(expected: Geometry, came: Geometry) -> str:
    """Say how two grids differ; empty if they are one grid.

    Parameters
    ----------
    expected, came : Geometry
        Both in LPS, so that files that store one grid in two orders agree.

    Returns
    -------
    str
        Part of a sentence.
    """
    if came.shape != expected.shape:
        return f"{came.shape} voxels (z, y, x), not {expected.shape}"
    apart_mm = float(np.abs(came.corners_mm() - expected.corners_mm()).max())
    if apart_mm <= GRID_TOLERANCE * min(expected.spacing_mm):
        return ""
    return (
        f"corners up to {apart_mm:.3g} mm apart "
        f"(spacing {_rounded(came.spacing_mm)} and {_rounded(expected.spacing_mm)} mm, "
        f"origin {_rounded(came.origin_mm)} and {_rounded(expected.origin_mm)} mm, z, y, x)"
    )


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
