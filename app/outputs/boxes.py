"""boxes.json: where phase one found the abdomen of each scan, in voxels and in mm."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.errors import InputError
from app.imaging.geometry import Box
from app.imaging.io import Source, atomic_path

NAME = "boxes.json"


class BoxTable:
    """The boxes of all scans, kept on disk whole after every case.

    Boxes that an earlier run left stay.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        If the file is there but holds no such table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._boxes = _read(path) if path.exists() else {}

    def put(self, case: str, box: Box | None, source: Source) -> None:
        """Write the box of a case.

        Parameters
        ----------
        case : str
            Name of the case.
        box : Box or None
            In canonical orientation; None if there is no abdomen.
        source : Source
            How the scan lies in its file.

        Raises
        ------
        OutputError
            If the file cannot be written; then the table is as it was.
        """
        self._write(self._boxes | {case: None if box is None else describe(box, source)})

    def remove(self, case: str) -> None:
        """Write the table without the box of a case; one that has none changes nothing.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        if case in self:
            self._write({name: box for name, box in self._boxes.items() if name != case})

    def __contains__(self, case: str) -> bool:
        """Tell whether the table tells of a case."""
        return case in self._boxes

    def _write(self, boxes: dict[str, Any]) -> None:
        with atomic_path(self.path) as partial:
            partial.write_text(json.dumps(boxes, indent=2) + "\n", encoding="utf-8")
        self._boxes = boxes


def _read(path: Path) -> dict[str, Any]:
    try:
        boxes = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no JSON ({error}); move the file away and run again") from error
    if not isinstance(boxes, dict):
        raise InputError(f"{path}: no table of boxes; move the file away and run again")
    return boxes


def describe(box: Box, source: Source) -> dict[str, Any]:
    """Tell where a box lies, in the order (x, y, z) that other tools count in.

    Parameters
    ----------
    box : Box
        In canonical orientation.
    source : Source
        How the scan lies in its file.

    Returns
    -------
    dict
        ``voxels``: first index and first one beyond, along the axes of the file;
        ``lps_mm``: least and greatest corner in the world; ``size_mm``: along the
        axes of the file.
    """
    stored = stored_box(box, source)
    spacing_mm = source.header.geometry.spacing_mm
    corners_mm = _corners_mm(box, source)
    return {
        "voxels": {"start": stored.start[::-1], "stop": stored.stop[::-1]},
        "lps_mm": {
            "min": corners_mm.min(axis=0)[::-1].round(3).tolist(),
            "max": corners_mm.max(axis=0)[::-1].round(3).tolist(),
        },
        "size_mm": np.multiply(stored.shape, spacing_mm)[::-1].round(3).tolist(),
    }


def stored_box(box: Box, source: Source) -> Box:
    """Turn a box in canonical orientation into the voxels of the file."""
    start, stop = [0, 0, 0], [0, 0, 0]
    shape = source.header.geometry.shape
    orientation = source.orientation
    for axis, (stored_axis, flipped) in enumerate(
        zip(orientation.axes, orientation.flipped, strict=True)
    ):
        first, beyond = box.start[axis], box.stop[axis]
        if flipped:
            first, beyond = shape[stored_axis] - beyond, shape[stored_axis] - first
        start[stored_axis], stop[stored_axis] = first, beyond
    return Box.between(start, stop)


def _corners_mm(box: Box, source: Source) -> npt.NDArray[np.float64]:
    """Give the eight outer corners of a box, (z, y, x) in the world."""
    geometry = source.geometry
    steps = np.asarray(geometry.direction) * np.asarray(geometry.spacing_mm)
    # Positions are voxel centers; the box reaches half a voxel beyond those at its faces.
    corners = np.array(list(itertools.product(*zip(box.start, box.stop, strict=True)))) - 0.5
    corners_mm: npt.NDArray[np.float64] = corners @ steps.T + geometry.origin_mm
    return corners_mm
