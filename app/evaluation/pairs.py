"""Predictions and references: found by name, read, put side by side."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import CascadeError, InputError, UsageError
from app.imaging.geometry import LabelVolume
from app.imaging.io import SCAN_SUFFIXES, Source, read_scan
from app.imaging.orientation import as_lps, from_lps
from app.labels import NUM_CLASSES

logger = logging.getLogger(__name__)

GRID_TOLERANCE = 0.1
"""How far apart the corners of two grids may lie to count as one grid, in voxels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A reference and, where there is one, the prediction of the same name.

    Parameters
    ----------
    case : str
        Name of both files without suffix.
    reference_path : Path
        The reference.
    prediction_path : Path or None
        The prediction.
    """

    case: str
    reference_path: Path
    prediction_path: Path | None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPair:
    """A reference and its prediction in memory.

    Parameters
    ----------
    case : str
        Name of the case.
    reference : LabelMap
        The reference, as it lies on disk.
    aligned : (Z, Y, X) array of uint8, or None
        The prediction turned to lie as the reference does; None where it
        cannot be used.
    as_stored : (Z, Y, X) array of uint8, or None
        The prediction's voxels laid over the reference's without a look at
        either header; None where not even their numbers agree.
    problem : str
        Why the prediction cannot be used; empty if it can, or is missing.
    """

    case: str
    reference: LabelMap
    aligned: LabelVolume | None
    as_stored: LabelVolume | None
    problem: str = ""


def find_pairs(predictions: Path, references: Path) -> tuple[list[Pair], list[Path]]:
    """Find the prediction for each reference: the file of the same name, whatever its format.

    Parameters
    ----------
    predictions, references : Path
        Folders; files that are not images are passed over.

    Returns
    -------
    list of Pair
        One for each reference, sorted by name.
    list of Path
        Predictions without a reference.

    Raises
    ------
    UsageError
        If a folder is missing, two files have one name, or there is no reference.
    """
    found = _label_maps(predictions, "--predictions")
    wanted = _label_maps(references, "--references")
    if not wanted:
        raise UsageError(
            f"--references {references}: no label map in it; "
            f"expected files that end in {', '.join(SCAN_SUFFIXES)}"
        )
    pairs = [
        Pair(case=case, reference_path=path, prediction_path=found.get(case))
        for case, path in sorted(wanted.items())
    ]
    return pairs, [path for case, path in sorted(found.items()) if case not in wanted]


def _label_maps(folder: Path, flag: str) -> dict[str, Path]:
    """List the images of a folder by name."""
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: no such folder")
    named: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((end for end in SCAN_SUFFIXES if path.name.lower().endswith(end)), None)
        if suffix is None or path.name.startswith(".") or not path.is_file():
            continue
        case = path.name[: -len(suffix)]
        if case in named:
            raise UsageError(f"{path} and {named[case]} have one name; keep one of them")
        named[case] = path
    return named


def load_pair(pair: Pair) -> LoadedPair:
    """Read a reference and its prediction and lay one over the other.

    Parameters
    ----------
    pair : Pair
        The files.

    Returns
    -------
    LoadedPair
        A prediction that cannot be used is told in ``problem``.

    Raises
    ------
    InputError
        If the reference cannot be read.
    """
    reference = read_label_map(pair.reference_path)
    if pair.prediction_path is None:
        return LoadedPair(case=pair.case, reference=reference, aligned=None, as_stored=None)
    try:
        prediction = read_label_map(pair.prediction_path)
    except CascadeError as error:
        return LoadedPair(
            case=pair.case, reference=reference, aligned=None, as_stored=None, problem=str(error)
        )
    as_stored = prediction.array if prediction.array.shape == reference.array.shape else None
    problem = _grid_difference(reference, prediction)
    if problem:
        aligned = None
    elif prediction.source.orientation == reference.source.orientation:
        aligned = prediction.array
    else:
        in_lps = as_lps(prediction.array, prediction.source.orientation)
        aligned = from_lps(in_lps, reference.source.orientation)
    return LoadedPair(
        case=pair.case,
        reference=reference,
        aligned=aligned,
        as_stored=as_stored,
        problem=problem,
    )


def read_label_map(path: Path) -> LabelMap:
    """Read a label map as it lies on disk.

    Parameters
    ----------
    path : Path
        Any image of whole numbers from 0; those that stand for no organ are
        passed over with a warning.

    Returns
    -------
    LabelMap

    Raises
    ------
    InputError
        If the file is not a label map.
    """
    scan, source = read_scan(path)
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


def _grid_difference(reference: LabelMap, prediction: LabelMap) -> str:
    """Say how the grids of two label maps differ; empty if they are one grid.

    Both are compared in LPS, so that files that store one grid in two orders agree.
    """
    expected, came = reference.source.geometry, prediction.source.geometry
    if came.shape != expected.shape:
        found = f"{came.shape} voxels (z, y, x), not {expected.shape}"
    else:
        apart_mm = float(np.abs(came.corners_mm() - expected.corners_mm()).max())
        if apart_mm <= GRID_TOLERANCE * min(expected.spacing_mm):
            return ""
        found = (
            f"corners up to {apart_mm:.3g} mm apart "
            f"(spacing {_rounded(came.spacing_mm)} and {_rounded(expected.spacing_mm)} mm, "
            f"origin {_rounded(came.origin_mm)} and {_rounded(expected.origin_mm)} mm, z, y, x)"
        )
    return f"{prediction.path}: not on the grid of its reference {reference.path}: {found}"


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
