"""Refine a folder of label maps with a folder of predictions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from app.data.cases import images_in
from app.data.positions import read_positions
from app.data.pseudo_labels import fuse_published, refine_plausibly
from app.errors import CascadeError, InputError, UsageError
from app.imaging.geometry import FloatVolume, LabelVolume, SpacingZYX
from app.imaging.io import Source, read_scan, write_label_map
from app.imaging.label_maps import grid_difference, read_label_map

Rule: TypeAlias = Literal["published", "plausible"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one label map.

    Parameters
    ----------
    name : str
        Of the file.
    changed : float
        Share of the labeled voxels, before or after, that have another label now.
    note : str
        What a user should know; empty if there is nothing.
    problem : str
        Why refining failed, and nothing was written; empty if all went well.
    """

    name: str
    changed: float = 0.0
    note: str = ""
    problem: str = ""


def refine_folder(
    labels: Path,
    predictions: Path,
    output: Path,
    *,
    rule: Rule,
    confidence: Path | None = None,
) -> Iterator[Outcome]:
    """Refine every label map that has a prediction of the same name.

    A prediction without a label map is written as it is: its scan had no label yet.
    So is a label map without a prediction: it is not to be lost for the next round.
    A prediction without any organ counts as none: it would teach that all is background.

    Parameters
    ----------
    labels, predictions : Path
        Folders of label maps ``X.nii.gz``.
    output : Path
        Folder for the refined ones.
    rule : str
        One of :data:`RULES`.
    confidence : Path, optional
        Folder of images ``X.nii.gz`` with the prediction's probability, 0 to 100.

    Yields
    ------
    Outcome
        For each name in either folder.

    Raises
    ------
    UsageError
        If a folder is missing, no names agree, the output is one of the inputs, or the
        rule does not ask for confidence.
    """
    if rule == "published" and confidence is not None:
        raise UsageError("--confidence: the published rule knows none; leave it out")
    given, predicted = images_in(labels, "--labels"), images_in(predictions, "--predictions")
    sure = images_in(confidence, "--confidence") if confidence is not None else {}
    inputs = (labels, predictions) if confidence is None else (labels, predictions, confidence)
    if output.resolve() in {folder.resolve() for folder in inputs}:
        raise UsageError(f"--output {output}: a folder of its own expected")
    if given and not given.keys() & predicted.keys():
        raise UsageError(f"{labels} and {predictions}: no file names in common")
    output.mkdir(parents=True, exist_ok=True)
    apply = _apply(rule)
    for name in sorted(given.keys() | predicted.keys()):
        try:
            if confidence is not None and name in given and name in predicted and name not in sure:
                raise InputError(f"--confidence {confidence}: no image of this name")
            outcome = _refine_case(
                name, given.get(name), predicted.get(name), sure.get(name), output, apply
            )
        except CascadeError as error:
            outcome = Outcome(name=name, problem=str(error))
        yield outcome


_Apply: TypeAlias = Callable[
    [LabelVolume, LabelVolume, SpacingZYX, FloatVolume | None], LabelVolume
]


def _apply(rule: Rule) -> _Apply:
    if rule == "published":
        return lambda labels, predicted, spacing_mm, confidence: fuse_published(labels, predicted)
    positions = read_positions()
    return lambda labels, predicted, spacing_mm, confidence: refine_plausibly(
        labels, predicted, spacing_mm=spacing_mm, positions=positions, confidence=confidence
    )


def _refine_case(
    name: str,
    labels_path: Path | None,
    predicted_path: Path | None,
    confidence_path: Path | None,
    output: Path,
    apply: _Apply,
) -> Outcome:
    """Write what is to be the label map of one scan, if there is anything to write."""
    path = output / f"{name}.nii.gz"
    given = None if labels_path is None else _read_labels(labels_path)
    predicted = None if predicted_path is None else _read_labels(predicted_path)
    note = ""
    if predicted is not None and not predicted[0].any():
        predicted = None
        kept = "left out" if given is None else "the label map stays as it is"
        note = f"the prediction is empty; {kept}"
    if given is not None and predicted is not None:
        changed = _refine(given, predicted, confidence_path, path, apply)
        return Outcome(name=name, changed=changed)
    if only := given or predicted:
        write_label_map(*only, path)
    return Outcome(name=name, changed=0.0 if predicted is None else 1.0, note=note)


def _refine(
    given: tuple[LabelVolume, Source],
    predicted: tuple[LabelVolume, Source],
    confidence_path: Path | None,
    output: Path,
    apply: _Apply,
) -> float:
    """Write one refined label map; give the share of labeled voxels that changed."""
    labels, source = given
    _check_same_grid(source, predicted[1])
    confidence: FloatVolume | None = None
    if confidence_path is not None:
        percent, confidence_source = _read_percent(confidence_path)
        _check_same_grid(source, confidence_source)
        confidence = percent / np.float32(100)
    refined = apply(labels, predicted[0], source.geometry.spacing_mm, confidence)
    write_label_map(refined, source, output)
    touched = int(np.count_nonzero((labels > 0) | (refined > 0)))
    return int(np.count_nonzero(labels != refined)) / max(1, touched)


def _read_labels(path: Path) -> tuple[LabelVolume, Source]:
    """Read a label map that holds organs alone, in canonical orientation."""
    label_map = read_label_map(path, organs_only=True)
    return label_map.in_lps, label_map.source


def _read_percent(path: Path) -> tuple[FloatVolume, Source]:
    """Read whole numbers from 0 to 100, in canonical orientation."""
    scan, source = read_scan(path, as_labels=True)
    low, high = int(scan.array.min()), int(scan.array.max())
    if low < 0 or high > 100:
        raise InputError(f"{path}: values from {low} to {high}, 0 to 100 expected")
    return scan.array.astype(np.float32), source


def _check_same_grid(expected: Source, came: Source) -> None:
    difference = grid_difference(expected.geometry, came.geometry)
    if difference:
        one, other = expected.header.path, came.header.path
        raise InputError(f"{other}: not on the grid of {one}: {difference}")
