"""How much each rule repairs: label maps are broken on purpose, repaired and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.data.label_faults import FAULTS, imitate_prediction
from app.data.positions import Positions
from app.data.pseudo_labels import fuse_published, refine_plausibly
from app.errors import InputError
from app.evaluation.metrics import dice
from app.imaging.geometry import LabelVolume, SpacingZYX
from app.imaging.label_maps import read_label_map
from app.imaging.resample import resample_nearest
from app.labels import ORGANS

UNBROKEN, ALL_FAULTS, SHARED = "unbroken", "all four", "same fault in both"
KINDS = (UNBROKEN, *FAULTS, ALL_FAULTS, SHARED)
"""``SHARED``: all four faults, and the prediction has the very same ones beside its own."""

RULES = ("before", "prediction", "published", "plausible", "plausible, confidence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Mean Dice over the organs of one broken label map, under each rule.

    Parameters
    ----------
    case, kind : str
        The label map and how it was broken.
    dice : dict of str to float
        By rule: against the unbroken label map.
    """

    case: str
    kind: str
    dice: dict[str, float]


def read_labels(path: Path, spacing_mm: float) -> tuple[LabelVolume, SpacingZYX]:
    """Read a label map in LPS, on a grid no finer than asked for; refuse values of no organ."""
    label_map = read_label_map(path, organs_only=True)
    labels, fine = label_map.in_lps, label_map.source.geometry.spacing_mm
    z, y, x = (max(step, spacing_mm) for step in fine)
    return resample_nearest(labels, fine, (z, y, x)), (z, y, x)


def run_trials(
    path: Path, positions: Positions, *, spacing_mm: float, seed: Sequence[int]
) -> Iterator[Trial]:
    """Break a label map in each way, repair it by each rule, and compare.

    Parameters
    ----------
    path : Path
        A label map taken for true.
    positions : Positions
        Where organs lie to each other; best learnt from other patients.
    spacing_mm : float
        A finer label map is resampled to this.
    seed : sequence of int
        Start of the random faults.

    Yields
    ------
    Trial
        For each kind of fault.

    Raises
    ------
    InputError
        If the file cannot be read or holds no organ.
    """
    truth, spacing = read_labels(path, spacing_mm)
    if not truth.any():
        raise InputError(f"{path}: holds no organ to break and repair; leave it out")
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng([*seed, number])
        broken = break_labels(truth, spacing, kind, rng)
        predicted, confidence = imitate_prediction(truth, spacing, rng)
        if kind == SHARED:
            predicted = np.where(broken != truth, broken, predicted)
        repaired = {
            "before": broken,
            "prediction": predicted,
            "published": fuse_published(broken, predicted),
            "plausible": refine_plausibly(
                broken, predicted, spacing_mm=spacing, positions=positions
            ),
            "plausible, confidence": refine_plausibly(
                broken,
                predicted,
                spacing_mm=spacing,
                positions=positions,
                confidence=confidence,
            ),
        }
        scores = {rule: mean_dice(truth, labels) for rule, labels in repaired.items()}
        yield Trial(case=path.name, kind=kind, dice=scores)


def break_labels(
    truth: LabelVolume, spacing_mm: SpacingZYX, kind: str, rng: np.random.Generator
) -> LabelVolume:
    """Break a label map in one of :data:`KINDS`."""
    if kind == UNBROKEN:
        return truth
    broken = truth
    for fault in [FAULTS[kind]] if kind in FAULTS else FAULTS.values():
        broken = fault(broken, spacing_mm, rng)
    return broken


def mean_dice(truth: LabelVolume, labels: LabelVolume) -> float:
    """Average the Dice of the organs that either label map has."""
    scores = [dice(truth == organ.value, labels == organ.value) for organ in ORGANS]
    return float(np.nanmean(scores))


def as_table(trials: Sequence[Trial]) -> str:
    """Write mean Dice by kind of fault and rule as a table, the worst case in brackets."""
    lines = ["| fault | " + " | ".join(RULES) + " |", "|---" * (len(RULES) + 1) + "|"]
    for kind in KINDS:
        of_kind = [trial.dice for trial in trials if trial.kind == kind]
        if of_kind:
            cells = [_cell([scores[rule] for scores in of_kind]) for rule in RULES]
            lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(scores: Sequence[float]) -> str:
    return f"{np.mean(scores):.4f} ({min(scores):.3f})"
