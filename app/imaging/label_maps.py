"""Label maps on disk: read as they lie there, and set beside other grids."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import InputError
from app.imaging.geometry import Geometry, LabelVolume
from app.imaging.io import Source, read_scan
from app.imaging.orientation import as_lps, from_lps
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


def read_label_map(path: Path) -> LabelMap:
    """Read a label map as it lies on disk.

    Parameters
    ----------
    path : Path
        Any image of whole numbers from 0, whatever type they are stored in; those that
        stand for no organ are passed over with a warning.

    Returns
    -------
    LabelMap

    Raises
    ------
    InputError
        If the file is not a label map.
    """
    scan, source = read_scan(path, as_labels=True)
    stored = from_lps(scan.array, source.orientation)
    low, high = int(stored.min()), int(stored.max())
    if low < 0 or high > np.iinfo(np.uint8).max:
        raise InputError(
            f"{path}: values from {low} to {high}, a label map has 0 to {NUM_CLASSES - 1}; "
            "is this the scan?"
        )
    if high >= NUM_CLASSES:
        logger.warning("%s: values above %d stand for no organ", path, NUM_CLASSES - 1)
    return LabelMap(path=path, array=stored.astype(np.uint8), source=source)


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
