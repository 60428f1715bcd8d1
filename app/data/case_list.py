"""The cases of a training run: split into trained on and held out, written down, read again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.data.cases import Case, Refusal
from app.errors import InputError, UsageError
from app.imaging.io import atomic_path

CASES_NAME = "data.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseList:
    """What a training run has to work with.

    Parameters
    ----------
    train, held_out : tuples of Case
        Sorted by name.
    refused : tuple of Refusal
        Files passed over.
    asked : dict
        The flags that the list was made by, as JSON holds them; empty in one that an earlier
        version wrote.
    """

    train: tuple[Case, ...]
    held_out: tuple[Case, ...]
    refused: tuple[Refusal, ...]
    asked: Mapping[str, Any] = field(default_factory=dict)


def split_cases(
    cases: Sequence[Case], refused: Sequence[Refusal], *, fold: int, num_folds: int
) -> CaseList:
    """Hold out one fold: every so-manieth case by name, so that the split never depends on chance.

    Parameters
    ----------
    cases, refused
        From :func:`app.data.cases.find_cases`.
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
        If a fold is asked for that does not exist or holds no case, or nothing is left to
        train on.
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
    if num_folds > 1 and not held_out:
        raise UsageError(
            f"fold {fold} of {num_folds}: holds none of the {len(cases)} usable cases; one of 0 to "
            f"{len(cases) - 1} expected (--folds 1 holds out none)"
        )
    return CaseList(train=tuple(train), held_out=tuple(held_out), refused=tuple(refused))


def write_cases(found: CaseList, path: Path) -> None:
    """Write down what is trained on, what is held out, what was refused and why."""
    record = {
        "asked": dict(found.asked),
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
            asked=dict(record.get("asked", {})),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a list of cases ({error}); put back the one that the run was begun with, "
            "or choose another --output"
        ) from error


def _as_json(case: Case) -> dict[str, Any]:
    return {
        "name": case.name,
        # Absolute: a run may go on from another folder.
        "scan": str(case.scan_path.absolute()),
        "labels": str(case.labels_path.absolute()),
        "labeled_organs": list(case.labeled_organs),
        "filler": str(case.filler_path.absolute()) if case.filler_path is not None else None,
        "notes": list(case.notes),
    }


def _from_json(entry: Mapping[str, Any]) -> Case:
    return Case(
        name=entry["name"],
        scan_path=Path(entry["scan"]),
        labels_path=Path(entry["labels"]),
        labeled_organs=tuple(entry["labeled_organs"]),
        filler_path=Path(entry["filler"]) if entry.get("filler") else None,
        notes=tuple(entry.get("notes", ())),
    )
