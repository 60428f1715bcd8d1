"""A user's own scans and label maps: paired, checked, read.

The folder lies as the FLARE challenge's does::

    DATA/imagesTr/X_0000.nii.gz     scans
    DATA/labelsTr/X.nii.gz          their label maps
    DATA/dataset.json               optional; which organs were labeled in which case

Where ``dataset.json`` holds ``"labeled_organs"``, its entries name the organs that
were looked for: ``{"labeled_organs": {"X": ["liver", "spleen"], "default": [...]}}``.
Elsewhere all 13 were.

Pseudo-labels, ``PSEUDO/X.nii.gz``, speak of all 13 organs. They stand in where there is
no label map, and for the organs that nobody looked for where there is one.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.errors import CascadeError, InputError, UsageError
from app.imaging.geometry import Geometry, LabelVolume
from app.imaging.image_files import case_name, images_by_name
from app.imaging.io import read_scan
from app.imaging.label_maps import grid_difference, read_label_map
from app.imaging.volume import Volume
from app.labels import NUM_CLASSES, ORGANS

IMAGES, LABELS, DATASET_NAME = "imagesTr", "labelsTr", "dataset.json"

MOST_READERS = 8
"""Each holds a whole scan in memory while it is checked."""

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
    filler_path : Path, optional
        Pseudo-label that says where those others are.
    notes : tuple of str
        What a user should know about the scan, such as that it seems not to be in HU.
    """

    name: str
    scan_path: Path
    labels_path: Path
    labeled_organs: tuple[str, ...] = ALL_ORGANS
    filler_path: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Give all files of the case."""
        filler = () if self.filler_path is None else (self.filler_path,)
        return (self.scan_path, self.labels_path, *filler)

    @property
    def labeled(self) -> npt.NDArray[np.bool_]:
        """Tell for each of the 14 classes whether the label maps speak of it."""
        return np.ones(NUM_CLASSES, bool) if self.filler_path is not None else self.looked_for

    @property
    def looked_for(self) -> npt.NDArray[np.bool_]:
        """Tell for each of the 14 classes whether ``labels_path`` speaks of it."""
        known = np.zeros(NUM_CLASSES, bool)
        known[[0, *(_VALUES[name] for name in self.labeled_organs)]] = True
        return known


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that is not used, and why."""

    path: Path
    reason: str


def find_cases(
    data: Path,
    *,
    pseudo_labels: Path | None = None,
    labeled_organs: Sequence[str] | None = None,
    flag: str = "--data",
) -> tuple[list[Case], list[Refusal]]:
    """Pair the scans of a folder with their label maps and check every pair.

    Parameters
    ----------
    data : Path
        Folder in the FLARE layout.
    pseudo_labels : Path, optional
        Label maps of all organs, for scans that have none in ``labelsTr`` and for organs
        that were not looked for there.
    labeled_organs : sequence of str, optional
        Organs labeled in every label map of ``labelsTr``, in place of what ``dataset.json``
        says.
    flag : str
        What the user named the folder with.

    Returns
    -------
    list of Case
        Sorted by name.
    list of Refusal
        Scans without a partner, label maps without a scan, files that cannot be read to
        their end, pairs whose grids differ, label maps with values that stand for no organ
        or for one not listed as labeled. A case whose pseudo-label alone is refused stays.

    Raises
    ------
    UsageError
        If the folder does not lie as expected, a listed organ does not exist, or organs are
        listed of no case, but not those of one that is here.
    """
    scans: dict[str, Path] = {}
    for path in images_in(data / IMAGES, flag).values():
        name = case_name(path)
        if name in scans:
            raise UsageError(f"{scans[name]} and {path} are both of the scan {name}; keep one")
        scans[name] = path
    labels = images_in(data / LABELS, flag) if (data / LABELS).is_dir() else {}
    pseudo = images_in(pseudo_labels, "--pseudo-labels") if pseudo_labels is not None else {}
    dataset = data / DATASET_NAME
    listed = _listed_organs(dataset, labeled_organs)
    either = pseudo | labels
    refused = _check_listed(dataset, listed, scans.keys() & labels.keys())
    refused += [Refusal(path, "no scan of this name") for path in _without(either, scans)]
    refused += [Refusal(path, "no label map of this name") for path in _without(scans, either)]
    paired = [
        _pair(name, scans[name], labels, pseudo, listed)
        for name in sorted(scans.keys() & either.keys())
    ]
    readers = min(MOST_READERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(readers) as pool:  # unpacking a file leaves the interpreter's lock
        checked = list(pool.map(_check, paired))
    refused += [one for _, problems in checked for one in problems]
    return [case for case, _ in checked if case is not None], refused


def read_case(case: Case) -> tuple[Volume, Volume]:
    """Read a scan and its label map, both in canonical orientation.

    Returns
    -------
    Volume of int16
        The scan, in HU.
    Volume of uint8
        The label map, on the scan's grid. Organs that were not looked for are those of the
        pseudo-label, where there is one and the label map has no organ.

    Raises
    ------
    InputError
        If a file is unreadable or the two do not belong together.
    """
    scan, _ = read_scan(case.scan_path)
    labels = _read_labels(case.labels_path, scan.geometry)
    if case.filler_path is not None:
        filler = _read_labels(case.filler_path, scan.geometry)
        fills = (labels == 0) & ~case.looked_for[filler]
        labels[fills] = filler[fills]
    return scan, Volume(labels, scan.geometry)


def _read_labels(path: Path, geometry: Geometry) -> LabelVolume:
    """Read a label map, which must lie on its scan's grid and hold organs alone."""
    label_map = read_label_map(path, organs_only=True)
    difference = grid_difference(geometry, label_map.source.geometry)
    if difference:
        raise InputError(f"{path}: not on its scan's grid: {difference}; resample it")
    return label_map.in_lps


def images_in(folder: Path, flag: str) -> dict[str, Path]:
    """List the images of a folder by name without suffix.

    Raises
    ------
    UsageError
        If the folder, given with ``flag``, is missing or two files have one name.
    """
    if not folder.is_dir():
        raise UsageError(f"{flag}: no folder {folder}; docs/TRAINING.md says how data must lie")
    return images_by_name(folder, flag)


def _without(some: Mapping[str, Path], others: Mapping[str, Path]) -> Iterator[Path]:
    return (path for name, path in sorted(some.items()) if name not in others)


def _listed_organs(dataset: Path, everywhere: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Give the labeled organs by case as they are listed; ``"default"`` stands for all others."""
    listed: dict[str, Any] = {}
    if everywhere is not None:
        listed = {"default": everywhere}
    elif dataset.is_file():
        try:
            listed = dict(json.loads(dataset.read_text(encoding="utf-8")).get("labeled_organs", {}))
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"{dataset}: labeled_organs must be an object ({error})") from error
    for case, names in listed.items():
        are_names = isinstance(names, list | tuple)
        unknown = [name for name in names if name not in ALL_ORGANS] if are_names else [names]
        if unknown or not names:
            raise UsageError(
                f"labeled organs of {case}: {unknown or 'none'} found, a list of some of "
                f"{', '.join(ALL_ORGANS)} expected"
            )
    return {case: tuple(names) for case, names in listed.items()}


def _check_listed(
    dataset: Path, listed: Mapping[str, Sequence[str]], cases: Collection[str]
) -> list[Refusal]:
    """Find misspelled cases: an organ nobody looked for in them would be taught as background."""
    absent = sorted(listed.keys() - set(cases) - {"default"})
    others = sorted(set(cases) - listed.keys())
    if not absent or not others:  # a list of more cases than are here harms none
        return []
    some, rest = ", ".join(absent[:3]), ", ".join(others[:3])
    if "default" in listed:
        return [Refusal(dataset, f'no scan of {some}, and "default" is taken for {rest}')]
    raise UsageError(
        f"{dataset}: lists the labeled organs of {some}, which is no labeled scan here, but not "
        f'those of {rest}; correct the name (X of labelsTr/X.nii.gz), or list a "default"'
    )


def _pair(
    name: str,
    scan: Path,
    labels: Mapping[str, Path],
    pseudo: Mapping[str, Path],
    listed: Mapping[str, tuple[str, ...]],
) -> Case:
    """Make a case of a scan and the label maps of its name, of which there is at least one."""
    if name not in labels:
        return Case(name=name, scan_path=scan, labels_path=pseudo[name])
    organs = listed.get(name, listed.get("default", ALL_ORGANS))
    return Case(
        name=name,
        scan_path=scan,
        labels_path=labels[name],
        labeled_organs=organs,
        filler_path=pseudo.get(name) if set(organs) < set(ALL_ORGANS) else None,
    )


def _check(case: Case) -> tuple[Case | None, list[Refusal]]:
    """Read all files of a case to their end; give what can be trained on and what is wrong."""
    try:
        scan, source = read_scan(case.scan_path)
    except CascadeError as error:
        return None, [_refusal(case.scan_path, error)]
    geometry = scan.geometry
    del scan  # a label map is as large
    try:
        _check_labels(case.labels_path, geometry, case.looked_for)
    except CascadeError as error:
        return None, [_refusal(case.labels_path, error)]
    case = replace(case, notes=source.notes)
    if case.filler_path is not None:
        try:
            _read_labels(case.filler_path, geometry)
        except CascadeError as error:
            return replace(case, filler_path=None), [_refusal(case.filler_path, error)]
    return case, []


def _check_labels(path: Path, geometry: Geometry, looked_for: npt.NDArray[np.bool_]) -> None:
    """Refuse a label map with an organ that was not looked for in it."""
    counts = np.bincount(_read_labels(path, geometry).ravel(), minlength=NUM_CLASSES)
    unlisted = [ORGANS[value - 1].name for value in np.flatnonzero((counts > 0) & ~looked_for)]
    if unlisted:
        raise InputError(
            f"{path}: holds {', '.join(unlisted)}, not listed as labeled; list or remove them"
        )


def _refusal(path: Path, error: CascadeError) -> Refusal:
    """Note why a file is not used; the note names the file by itself."""
    return Refusal(path, str(error).removeprefix(f"{path}: "))
