"""How well located boxes hold the organs."""

import csv
import json
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from app.errors import UnreadableScanError
from app.imaging.crop import bounding_box
from app.imaging.geometry import Box, LabelVolume
from app.imaging.io import as_text, atomic_path

RECORD_NAME = "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxScore:
    """One case's box against the organs of its reference.

    Parameters
    ----------
    case : str
        Name of the case.
    recall : float
        Share of the reference's organ voxels inside the box; 1 if it has none.
    volume_ratio : float or None
        Volume of the box over that of the smallest box around the organs; None where
        there is no box or are no organs.
    found : bool
        Whether there is a box.
    has_organs : bool
        Whether the reference labels any organ.
    """

    case: str
    recall: float
    volume_ratio: float | None
    found: bool
    has_organs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSummary:
    """The boxes of all cases in a few numbers.

    Parameters
    ----------
    num_cases : int
        Cases that have a box or were searched for one.
    num_without_organs_boxed : int
        Cases whose reference labels nothing and that got a box nevertheless.
    least_recall : float or None
        Smallest share of organ voxels that a box holds; None if no case has organs.
    largest_volume_ratio, mean_volume_ratio : float or None
        Volume of the box over that of the smallest one; None if there is none.
    """

    num_cases: int
    num_without_organs_boxed: int
    least_recall: float | None
    largest_volume_ratio: float | None
    mean_volume_ratio: float | None


def summarize_boxes(scores: Collection[BoxScore]) -> BoxSummary:
    """Tell the worst box and the mean size.

    Parameters
    ----------
    scores : collection of BoxScore
        One for each case.

    Returns
    -------
    BoxSummary
    """
    ratios = [score.volume_ratio for score in scores if score.volume_ratio is not None]
    return BoxSummary(
        num_cases=len(scores),
        num_without_organs_boxed=sum(score.found for score in scores if not score.has_organs),
        least_recall=min((score.recall for score in scores if score.has_organs), default=None),
        largest_volume_ratio=max(ratios, default=None),
        mean_volume_ratio=fmean(ratios) if ratios else None,
    )


def read_boxes(predictions: Path) -> dict[str, Box | None]:
    """Read the located box of every segmented case from the record beside the label maps.

    Parameters
    ----------
    predictions : Path
        Folder that ``predict`` wrote to.

    Returns
    -------
    dict of str to Box or None
        By case name; in voxels of the scan in canonical orientation. Empty if there is no
        record: the label maps are another tool's.

    Raises
    ------
    UnreadableScanError
        If there is a record that ``predict`` has not written.
    """
    record = predictions / RECORD_NAME
    if not record.exists():
        return {}
    try:
        cases = json.loads(record.read_text())["cases"]
        return {
            case["name"]: Box.between(case["box"]["start"], case["box"]["stop"])
            if case["box"]
            else None
            for case in cases
            if case["status"] == "ok"
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableScanError(
            f"{record}: expected the record that predict writes ({error}); "
            "give the folder that predict wrote to"
        ) from error


def score_box(case: str, box: Box | None, organs: LabelVolume) -> BoxScore:
    """Compare one box with the organs of a reference.

    Parameters
    ----------
    case : str
        Name of the case.
    box : Box or None
        What was located.
    organs : (Z, Y, X) array of uint8
        The reference in canonical orientation; any value above 0 is an organ.

    Returns
    -------
    BoxScore
    """
    total = int(np.count_nonzero(organs))
    inside = 0 if box is None else int(np.count_nonzero(organs[box.slices]))
    ratio = None
    if box is not None and total:
        ideal = bounding_box(organs > 0, (1.0, 1.0, 1.0))
        ratio = math.prod(box.shape) / math.prod(ideal.shape)
    return BoxScore(
        case=case,
        recall=inside / total if total else 1.0,
        volume_ratio=ratio,
        found=box is not None,
        has_organs=total > 0,
    )


def write_boxes(path: Path, scores: Iterable[BoxScore]) -> None:
    """Write a CSV with a row for each case."""
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "found", "has_organs", "organ_recall", "volume_ratio"])
        for score in scores:
            ratio = "" if score.volume_ratio is None else f"{score.volume_ratio:.4f}"
            found = (score.found, score.has_organs, f"{score.recall:.6f}", ratio)
            rows.writerow([as_text(score.case), *found])
