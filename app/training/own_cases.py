"""Which of a user's own scans a run trains on: found, written down, kept to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.config import PhaseConfig
from app.data.case_list import CASES_NAME, CaseList, read_cases, split_cases, write_cases
from app.data.cases import Refusal, find_cases
from app.errors import UsageError
from app.training.loop import STATE_NAME

PREPARED_NAME = "prepared"
"""Folder of a run for prepared cases that do not fit into memory."""

OWN_TERMS = "the terms of the scans and label maps trained on (not stated)"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnData:
    """What is trained on.

    Parameters
    ----------
    folder : Path
        In the FLARE layout, see :mod:`app.data.cases`.
    pseudo_labels : Path, optional
        Label maps for scans without one.
    labeled_organs : tuple of str, optional
        Organs labeled in every case.
    fold, num_folds : int
        Which part is held out of how many.
    flag : str
        What the user named the folder with.
    """

    folder: Path
    pseudo_labels: Path | None = None
    labeled_organs: tuple[str, ...] | None = None
    fold: int = 0
    num_folds: int = 5
    flag: str = "--data"


def settle_cases(data: OwnData, phase: PhaseConfig, output: Path) -> CaseList:
    """Find the cases of a run and write them down; a run that goes on keeps what it had.

    Parameters
    ----------
    data : OwnData
        Where to look.
    phase : PhaseConfig
        Phase one learns where any organ is, so it refuses cases with organs not labeled.
    output : Path
        Folder of the run, for ``data.json``.

    Returns
    -------
    CaseList

    Raises
    ------
    UsageError
        If there is nothing to train on, the run was begun on other cases, or files of those
        are gone.
    """
    written = output / CASES_NAME
    asked = _asked(data, phase)
    if (output / STATE_NAME).exists():
        if not written.exists():
            raise UsageError(
                f"{output}: this run was begun with --bank; choose another --output, and take its "
                "weights along with --start-from"
            )
        begun = read_cases(written)
        _check_asked(written, begun.asked, asked)
        _check_there(written, begun)
        return begun
    cases, refused = find_cases(
        data.folder,
        pseudo_labels=data.pseudo_labels,
        labeled_organs=data.labeled_organs,
        flag=data.flag,
    )
    if phase.name == "locate":
        partial = [case for case in cases if not case.labeled.all()]
        cases = [case for case in cases if case.labeled.all()]
        refused += [
            Refusal(case.labels_path, "phase one needs all 13 organs labeled") for case in partial
        ]
    found = split_cases(cases, refused, fold=data.fold, num_folds=data.num_folds)
    output.mkdir(parents=True, exist_ok=True)
    write_cases(replace(found, asked=asked), written)
    # With absolute paths, as a run that goes on reads it and finds by it what was prepared.
    return read_cases(written)


def settle_mixture(data: OwnData | None, phase: PhaseConfig, output: Path) -> CaseList | None:
    """Find the scans that a run on a bank takes besides, if any.

    Parameters
    ----------
    data, phase, output
        As for :func:`settle_cases`; None stands for a run on the bank alone.

    Returns
    -------
    CaseList or None

    Raises
    ------
    UsageError
        Also if the run was begun with scans and is to go on without, or the other way round.
    """
    had_scans = (output / CASES_NAME).exists()
    if (output / STATE_NAME).exists() and had_scans != (data is not None):
        raise UsageError(
            f"{output}: this run was begun {'with' if had_scans else 'without'} --real; give the "
            "same flags to go on with it, or choose another --output to begin anew"
        )
    return None if data is None else settle_cases(data, phase, output)


def _asked(data: OwnData, phase: PhaseConfig) -> dict[str, Any]:
    """Name what decides about the cases of a run by its flags, as JSON holds it."""
    return {
        "--phase": phase.name,
        data.flag: str(data.folder.resolve()),
        "--pseudo-labels": str(data.pseudo_labels.resolve()) if data.pseudo_labels else None,
        "--labeled-organs": list(data.labeled_organs) if data.labeled_organs else None,
        "--fold": data.fold,
        "--folds": data.num_folds,
    }


def _check_asked(written: Path, begun: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to go on with a run on other cases than it was begun with."""
    if not begun:  # an earlier version wrote it
        return
    different = [
        f"{flag} {begun.get(flag)} then, {asked.get(flag)} now"
        for flag in {**begun, **asked}
        if begun.get(flag) != asked.get(flag)
    ]
    if different:
        raise UsageError(
            f"{written}: this run was begun on other cases ({'; '.join(different)}); give the "
            "same flags to go on with it, or choose another --output to begin anew"
        )


def _check_there(written: Path, begun: CaseList) -> None:
    """Refuse to go on with a run of which files are gone, before any case is prepared."""
    cases = (*begun.train, *begun.held_out)
    gone = [path for case in cases for path in case.paths if not path.exists()]
    if gone:
        raise UsageError(
            f"{written}: {len(gone)} files of this run are gone, such as {gone[0]}; put them back "
            "to go on with it, or choose another --output to begin anew"
        )
