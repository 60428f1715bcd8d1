"""A user's own scans and label maps: paired, checked, split into trained on and held out.

The folder lies as the FLARE challenge's does::

    DATA/imagesTr/X_0000.nii.gz     scans
    DATA/labelsTr/X.nii.gz          their label maps
    DATA/dataset.json               optional; which organs were labeled in which case

Where ``dataset.json`` holds ``"labeled_organs"``, its entries name the organs that
were looked for: ``{"labeled_organs": {"X": ["liver", "spleen"], "default": [...]}}``.
Elsewhere all 13 were.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.errors import CascadeError, InputError, UsageError
from app.imaging.io import SCAN_SUFFIXES, atomic_path, peek, read_scan
from app.imaging.label_maps import grid_difference
from app.imaging.orientation import nearest_orientation, turn_geometry
from app.imaging.volume import Volume
from app.labels import NUM_CLASSES, ORGANS

IMAGES, LABELS, DATASET_NAME = "imagesTr", "labelsTr", "dataset.json"
CASES_NAME = "data.json"

ALL_ORGANS = tuple(organ.name for organ in ORGANS)
_VALUES = {organ.name: organ.value for organ in ORGANS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A scan and its label map.

    Parameters
    ----------
    name : str
        Without suffix.
    scan_path, labels_path : Path
        The files.
    labeled_organs : tuple of str
        Organs that were looked for when the label map was made; what others show is unknown.
    """

    name: str
    scan_path: Path
    labels_path: Path
    labeled_organs: tuple[str, ...] = ALL_ORGANS

    @property
    def labeled(self) -> npt.NDArray[np.bool_]:
        """Tell for each of the 14 classes whether the label map speaks of it."""
        known = np.zeros(NUM_CLASSES, bool)
        known[[0, *(_VALUES[name] for name in self.labeled_organs)]] = True
        return known


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that is not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseList:
    """What a training run has to work with.

    Parameters
    ----------
    train, held_out : tuples of Case
        Sorted by name.
    refused : tuple of Refusal
        Files passed over.
    """

    train: tuple[Case, ...]
    held_out: tuple[Case, ...]
    refused: tuple[Refusal, ...]


def find_cases(
    data: Path,
    *,
    pseudo_labels: Path | None = None,
    labeled_organs: Sequence[str] | None = None,
) -> tuple[list[Case], list[Refusal]]:
    """Pair the scans of a folder with their label maps and check every pair.

    Parameters
    ----------
    data : Path
        Folder in the FLARE layout.
    pseudo_labels : Path, optional
        Label maps for scans that have none in ``labelsTr``.
    labeled_organs : sequence of str, optional
        Organs labeled in every case, in place of what ``dataset.json`` says.

    Returns
    -------
    list of Case
        Sorted by name.
    list of Refusal
        Scans without a partner, label maps without a scan, pairs whose grids differ,
        label maps with values that stand for no organ or for one not listed as labeled.

    Raises
    ------
    UsageError
        If the folder does not lie as expected, or a listed organ does not exist.
    """
    scans = {
        name.removesuffix("_0000"): path
        for name, path in images_in(data / IMAGES, "--data").items()
    }
    labels = images_in(data / LABELS, "--data") if (data / LABELS).is_dir() else {}
    if pseudo_labels is not None:
        labels = images_in(pseudo_labels, "--pseudo-labels") | labels
    listed = _listed_organs(data / DATASET_NAME, labeled_organs)
    refused = [Refusal(path, "no scan of this name") for path in _without(labels, scans)]
    refused += [Refusal(path, "no label map of this name") for path in _without(scans, labels)]
    paired = [
        Case(
            name=name,
            scan_path=scans[name],
            labels_path=labels[name],
            labeled_organs=listed.get(name, listed["default"]),
        )
        for name in sorted(scans.keys() & labels.keys())
    ]
    with ThreadPoolExecutor() as pool:  # unpacking a file leaves the interpreter's lock
        problems = list(pool.map(_problem_of, paired))
    refused += [
        Refusal(case.labels_path, problem)
        for case, problem in zip(paired, problems, strict=True)
        if problem
    ]
    usable = [case for case, problem in zip(paired, problems, strict=True) if not problem]
    return usable, refused


def read_case(case: Case) -> tuple[Volume, Volume]:
    """Read a scan and its label map, both in canonical orientation.

    Returns
    -------
    Volume of int16
        The scan, in HU.
    Volume of uint8
        The label map, on the scan's grid.

    Raises
    ------
    InputError
        If a file is unreadable or the two do not belong together.
    """
    scan, _ = read_scan(case.scan_path)
    labels, _ = read_scan(case.labels_path)
    difference = grid_difference(scan.geometry, labels.geometry)
    if difference:
        raise InputError(f"{case.labels_path}: not on its scan's grid: {difference}; resample it")
    return scan, Volume(labels.array.astype(np.uint8), scan.geometry)


def split_cases(
    cases: Sequence[Case], refused: Sequence[Refusal], *, fold: int, num_folds: int
) -> CaseList:
    """Hold out one fold: every so-manieth case by name, so that the split never depends on chance.

    Parameters
    ----------
    cases, refused
        From :func:`find_cases`.
    fold : int
        The fold to hold out, 0 to ``num_folds - 1``.
    num_folds : int
        How many folds there are; 1 holds nothing out.

    Returns
    -------
    CaseList

    Raises
    ------
    UsageError
        If a fold is asked for that does not exist or nothing is left to train on.
    """
    if not 0 <= fold < num_folds:
        raise UsageError(f"fold {fold}: one of 0 to {num_folds - 1} expected")
    ordered = sorted(cases, key=lambda case: case.name)
    held_out = ordered[fold::num_folds] if num_folds > 1 else []
    train = [case for case in ordered if case not in held_out]
    if not train:
        reasons = "; ".join(f"{one.path}: {one.reason}" for one in list(refused)[:3])
        raise UsageError(
            f"nothing to train on: {len(cases)} cases usable, {len(held_out)} of them held out "
            f"(--folds 1 holds out none), {len(refused)} files refused: {reasons or 'none'}"
        )
    return CaseList(train=tuple(train), held_out=tuple(held_out), refused=tuple(refused))


def write_cases(found: CaseList, path: Path) -> None:
    """Write down what is trained on, what is held out, what was refused and why."""
    record = {
        "train": [_as_json(case) for case in found.train],
        "held_out": [_as_json(case) for case in found.held_out],
        "refused": [{"path": str(one.path), "reason": one.reason} for one in found.refused],
    }
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_cases(path: Path) -> CaseList:
    """Read what :func:`write_cases` wrote.

    Raises
    ------
    InputError
        If the file is not such a list.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return CaseList(
            train=tuple(_from_json(entry) for entry in record["train"]),
            held_out=tuple(_from_json(entry) for entry in record["held_out"]),
            refused=tuple(Refusal(Path(one["path"]), one["reason"]) for one in record["refused"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a list of cases ({error}); remove it") from error


def _as_json(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        "scan": str(case.scan_path),
        "labels": str(case.labels_path),
        "labeled_organs": list(case.labeled_organs),
    }


def _from_json(entry: Mapping[str, Any]) -> Case:
    return Case(
        name=entry["name"],
        scan_path=Path(entry["scan"]),
        labels_path=Path(entry["labels"]),
        labeled_organs=tuple(entry["labeled_organs"]),
    )


def images_in(folder: Path, flag: str) -> dict[str, Path]:
    """List the images of a folder by name without suffix.

    Raises
    ------
    UsageError
        If the folder, given with ``flag``, is missing or two files have one name.
    """
    if not folder.is_dir():
        raise UsageError(f"{flag}: no folder {folder}; docs/TRAINING.md says how data must lie")
    named: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((end for end in SCAN_SUFFIXES if path.name.lower().endswith(end)), None)
        if suffix is None or path.name.startswith("."):
            continue
        name = path.name[: -len(suffix)]
        if name in named:
            raise UsageError(f"{path} and {named[name]} have one name; keep one of them")
        named[name] = path
    return named


def _without(some: Mapping[str, Path], others: Mapping[str, Path]) -> Iterator[Path]:
    return (path for name, path in sorted(some.items()) if name not in others)


def _listed_organs(dataset: Path, everywhere: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Give the labeled organs by case; ``"default"`` stands for cases that are not listed."""
    listed: dict[str, Any] = {}
    if everywhere is not None:
        listed = {"default": everywhere}
    elif dataset.is_file():
        try:
            listed = dict(json.loads(dataset.read_text(encoding="utf-8")).get("labeled_organs", {}))
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"{dataset}: labeled_organs must be an object ({error})") from error
    for case, names in listed.items():
        unknown = sorted(set(names) - set(ALL_ORGANS))
        if unknown or not names:
            raise UsageError(
                f"labeled organs of {case}: {unknown or 'none'} found; known are "
                f"{', '.join(ALL_ORGANS)}"
            )
    return {"default": ALL_ORGANS} | {case: tuple(names) for case, names in listed.items()}


def _problem_of(case: Case) -> str:
    """Say why a pair cannot be trained on; empty if it can."""
    try:
        header = peek(case.scan_path).geometry
        labels, _ = read_scan(case.labels_path)
    except CascadeError as error:
        return str(error)
    difference = grid_difference(
        turn_geometry(header, nearest_orientation(header)), labels.geometry
    )
    if difference:
        return f"not on its scan's grid: {difference}; resample it"
    low, high = int(labels.array.min()), int(labels.array.max())
    if low < 0 or high >= NUM_CLASSES:
        return f"values from {low} to {high}; a label map has 0 to {NUM_CLASSES - 1}"
    counts = np.bincount(labels.array.ravel(), minlength=NUM_CLASSES)
    unlisted = [ORGANS[value - 1].name for value in np.flatnonzero((counts > 0) & ~case.labeled)]
    if unlisted:
        return f"holds {', '.join(unlisted)}, not listed as labeled; list or remove them"
    return ""
