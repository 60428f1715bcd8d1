"""Predictions and references: found by name, read, put side by side."""

import logging
from dataclasses import dataclass
from pathlib import Path

from app.errors import CascadeError, InputError, UsageError
from app.imaging.geometry import Geometry, LabelVolume, ScanVolume
from app.imaging.image_files import CHANNEL, images_by_name
from app.imaging.io import SCAN_SUFFIXES, read_scan
from app.imaging.label_maps import LabelMap, grid_difference, read_label_map
from app.imaging.orientation import as_lps, from_lps

logger = logging.getLogger(__name__)


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
    scan_path : Path or None
        The scan that both label.
    """

    case: str
    reference_path: Path
    prediction_path: Path | None
    scan_path: Path | None = None


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
    problem_as_stored : str
        The same for a look at the voxels alone.
    """

    case: str
    reference: LabelMap
    aligned: LabelVolume | None
    as_stored: LabelVolume | None
    problem: str = ""
    problem_as_stored: str = ""


def find_pairs(
    predictions: Path, references: Path, scans: Path | None = None
) -> tuple[list[Pair], list[Path]]:
    """Find the prediction for each reference: the file of the same name, whatever its format.

    Parameters
    ----------
    predictions, references : Path
        Folders; files that are not images are passed over.
    scans : Path, optional
        Folder of scans: ``X.nii.gz`` or ``X_0000.nii.gz`` belongs to the reference ``X``.

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
    found = images_by_name(predictions, "--predictions")
    wanted = images_by_name(references, "--references")
    scanned = {} if scans is None else images_by_name(scans, "--scans")
    if not wanted:
        raise UsageError(
            f"--references {references}: no label map in it; "
            f"expected files that end in {', '.join(SCAN_SUFFIXES)}"
        )
    pairs = [
        Pair(
            case=case,
            reference_path=path,
            prediction_path=found.get(case),
            scan_path=scanned.get(case, scanned.get(f"{case}{CHANNEL}")),
        )
        for case, path in sorted(wanted.items())
    ]
    return pairs, [path for case, path in sorted(found.items()) if case not in wanted]


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
    reference = _read(pair.reference_path)
    if pair.prediction_path is None:
        return LoadedPair(case=pair.case, reference=reference, aligned=None, as_stored=None)
    try:
        prediction = _read(pair.prediction_path)
    except CascadeError as error:
        return LoadedPair(
            case=pair.case,
            reference=reference,
            aligned=None,
            as_stored=None,
            problem=str(error),
            problem_as_stored=str(error),
        )
    as_stored: LabelVolume | None = prediction.array
    problem_as_stored = ""
    if prediction.array.shape != reference.array.shape:
        as_stored = None
        problem_as_stored = (
            f"{prediction.path}: stored as {prediction.array.shape} voxels, its reference "
            f"{reference.path} as {reference.array.shape} (slices, rows, columns), and the "
            "challenge's rules turn nothing; store it as the reference is, or use --protocol strict"
        )
    problem = _grid_difference(reference, prediction.path, prediction.source.geometry)
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
        problem_as_stored=problem_as_stored,
    )


def _read(path: Path) -> LabelMap:
    """Read a label map and tell what its header leaves in doubt."""
    label_map = read_label_map(path)
    for note in label_map.source.header.notes:
        logger.warning("%s: %s", path, note)
    return label_map


def read_scan_of(path: Path, reference: LabelMap) -> ScanVolume:
    """Read the scan that a reference labels, laid under it.

    Parameters
    ----------
    path : Path
        The scan.
    reference : LabelMap
        The reference.

    Returns
    -------
    (Z, Y, X) array of int16
        HU, in the order and direction of the reference's file.

    Raises
    ------
    InputError
        If the file is not a scan on the reference's grid.
    """
    scan, source = read_scan(path)
    problem = _grid_difference(reference, path, source.geometry)
    if problem:
        raise InputError(problem)
    return from_lps(scan.array, reference.source.orientation)


def _grid_difference(reference: LabelMap, path: Path, came: Geometry) -> str:
    """Say how the grid of a file differs from a reference's; empty if they are one grid."""
    found = grid_difference(reference.source.geometry, came)
    return f"{path}: not on the grid of its reference {reference.path}: {found}" if found else ""
