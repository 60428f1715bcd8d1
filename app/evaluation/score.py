"""START HERE: pair the files of two folders, score every organ, keep the worst to look at."""

import csv
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.errors import InputError, UsageError
from app.evaluation.boxes import BoxScore, score_box
from app.evaluation.overlay import Overlay, Slices, lay_over
from app.evaluation.pairs import LoadedPair, find_pairs, load_pair, read_scan_of
from app.evaluation.protocols import (
    PROTOCOLS,
    WRONG,
    Protocol,
    Score,
    counted_slices,
    score_flare24,
    score_strict,
)
from app.evaluation.worst import WorstResults
from app.imaging.geometry import BoolVolume, Box, ScanVolume, SpacingZYX
from app.imaging.io import ScanHeader, as_text, atomic_path
from app.imaging.nifti import stated_spacing
from app.imaging.orientation import as_lps
from app.labels import ORGANS, Organ

logger = logging.getLogger(__name__)

COLUMNS = ("case", "organ", "dsc", "nsd", "volume_ref_ml", "volume_pred_ml")

SURROUNDINGS_MM = 25.0
"""What a picture shows around an organ, if there is a scan to show."""

SAME = 0.5e-4
"""Scores that differ by less are written alike to four digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganResult:
    """One row of the table of scores.

    Parameters
    ----------
    case, organ : str
        What was scored.
    score : Score
        DSC and NSD.
    volume_ref_ml, volume_pred_ml : float
        Volume in reference and prediction, in ml.
    """

    case: str
    organ: str
    score: Score
    volume_ref_ml: float
    volume_pred_ml: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An organ that the two protocols score differently.

    Parameters
    ----------
    case, organ : str
        What was scored.
    scores : dict of Protocol to Score
        Both scores; no entry where a protocol leaves the case out.
    """

    case: str
    organ: str
    scores: dict[Protocol, Score]


@dataclass(slots=True, kw_only=True)
class Evaluation:
    """Everything two folders gave.

    Parameters
    ----------
    results : dict of Protocol to list of OrganResult
        Scores, case by case.
    missing : list of str
        Cases without a prediction.
    extra : list of Path
        Predictions without a reference.
    problems : dict of Protocol to list of str
        Files that a protocol could not use, and why.
    worst : WorstResults
        Pictures of the worst results.
    boxes : list of BoxScore
        How well located boxes hold the organs, where boxes were given.
    """

    worst: WorstResults
    boxes: list[BoxScore] = field(default_factory=list)
    results: dict[Protocol, list[OrganResult]] = field(
        default_factory=lambda: {name: [] for name in PROTOCOLS}
    )
    missing: list[str] = field(default_factory=list)
    extra: list[Path] = field(default_factory=list)
    problems: dict[Protocol, list[str]] = field(
        default_factory=lambda: {name: [] for name in PROTOCOLS}
    )


def evaluate(
    predictions: Path,
    references: Path,
    *,
    protocol: Protocol,
    scans: Path | None = None,
    boxes: Mapping[str, Box | None] | None = None,
) -> Evaluation:
    """Score all predictions of a folder under both protocols.

    One pair of label maps is in memory at a time.

    Parameters
    ----------
    predictions, references : Path
        Folders of label maps; files of one name belong together.
    protocol : Protocol
        By whose scores the worst results are picked.
    scans : Path, optional
        Folder of the scans, to be drawn behind the worst results.
    boxes : mapping of str to Box or None, optional
        Phase one's box of each case, in voxels of the scan in canonical orientation; see
        :func:`app.evaluation.boxes.read_boxes`. A case is scored by it where its prediction
        lies on the grid of its reference.

    Returns
    -------
    Evaluation
        A file that cannot be used is reported in it and the others go on.

    Raises
    ------
    UsageError
        If the folders hold nothing to score.
    """
    pairs, extra = find_pairs(predictions, references, scans)
    evaluation = Evaluation(worst=WorstResults(), extra=extra)
    for pair in pairs:
        started = time.perf_counter()
        if pair.prediction_path is None:
            evaluation.missing.append(pair.case)
        try:
            loaded = load_pair(pair)
        except InputError as error:
            for name in PROTOCOLS:
                evaluation.problems[name].append(str(error))
            continue
        _score_pair(loaded, evaluation, protocol, _Backdrop(pair.scan_path, loaded, evaluation))
        if boxes and pair.case in boxes and loaded.aligned is not None:
            box = boxes[pair.case]
            evaluation.boxes.append(score_box(pair.case, box, loaded.reference.in_lps))
        logger.info("%s: %.2f s", pair.case, time.perf_counter() - started)
    if not evaluation.results[protocol] and not evaluation.problems[protocol]:
        raise UsageError(
            f"--predictions {predictions}: no label map named as a reference in {references}"
        )
    return evaluation


class _Backdrop:
    """The scan behind the pictures of a case, read only if one of them is drawn."""

    def __init__(self, path: Path | None, loaded: LoadedPair, evaluation: Evaluation) -> None:
        self._path, self._reference, self._evaluation = path, loaded.reference, evaluation
        self._scan: ScanVolume | None = None

    def read(self) -> ScanVolume | None:
        """Give the scan as the reference lies; None, told once, if it cannot be used."""
        if self._scan is None and self._path is not None:
            try:
                self._scan = read_scan_of(self._path, self._reference)
            except InputError as error:
                for name in PROTOCOLS:
                    self._evaluation.problems[name].append(str(error))
                self._path = None
        return self._scan


def _score_pair(
    loaded: LoadedPair, evaluation: Evaluation, protocol: Protocol, backdrop: _Backdrop
) -> None:
    """Add the scores of one case under both protocols."""
    if loaded.problem:
        evaluation.problems["strict"].append(loaded.problem)
    if loaded.problem_as_stored:
        evaluation.problems["flare24"].append(loaded.problem_as_stored)
    header = loaded.reference.source.header
    spacing_mm, stated_mm = header.geometry.spacing_mm, _stated_spacing(header)
    aligned = lay_over(loaded.reference.array, loaded.aligned)
    # Where headers disagree the challenge lays other voxels over each other.
    same = loaded.as_stored is loaded.aligned
    as_stored = aligned if same else lay_over(loaded.reference.array, loaded.as_stored)
    for organ in ORGANS:
        masks = aligned.masks(organ)
        strict = WRONG
        if loaded.aligned is not None:
            strict = score_strict(*masks, organ=organ, spacing_mm=spacing_mm)
        scored: list[tuple[Protocol, Score, Overlay, tuple[BoolVolume, BoolVolume]]] = [
            ("strict", strict, aligned, masks)
        ]
        if loaded.as_stored is not None:
            masks = masks if same else as_stored.masks(organ)
            known = strict if same and stated_mm == spacing_mm else None
            flare24 = score_flare24(*masks, organ=organ, spacing_mm=stated_mm, strict=known)
            scored.append(("flare24", flare24, as_stored, masks))
        for name, score, overlay, (mask_gt, mask_pred) in scored:
            result = OrganResult(
                case=loaded.case,
                organ=organ.name,
                score=score,
                volume_ref_ml=np.count_nonzero(mask_gt) * header.geometry.voxel_ml,
                volume_pred_ml=np.count_nonzero(mask_pred) * header.geometry.voxel_ml,
            )
            evaluation.results[name].append(result)
            if name == protocol and evaluation.worst.wants(score):
                _draw(name, evaluation.worst, loaded, result, overlay, organ, backdrop)


def _stated_spacing(header: ScanHeader) -> SpacingZYX:
    """Give the spacing that the challenge measures by."""
    if header.nifti_header is None:
        return header.geometry.spacing_mm
    return stated_spacing(header.nifti_header, header.path)


def _draw(
    protocol: Protocol,
    worst: WorstResults,
    loaded: LoadedPair,
    result: OrganResult,
    overlay: Overlay,
    organ: Organ,
    backdrop: _Backdrop,
) -> None:
    """Keep a picture of what a protocol counts, with surroundings where there is a scan."""
    source = loaded.reference.source
    box = overlay.box(organ)
    if any(part.start == part.stop for part in box):
        return  # in neither label map: nothing to see
    scan = backdrop.read()
    if scan is not None:
        spacing_mm = source.header.geometry.spacing_mm
        box = _grown(box, SURROUNDINGS_MM, spacing_mm, overlay.reference.shape)
    mask_gt, mask_pred = overlay.masks(organ, box)
    counted = slice(None)
    if protocol == "flare24":
        counted = counted_slices(mask_gt, mask_pred, organ=organ)
    worst.offer(
        result.case,
        result.organ,
        result.score,
        as_lps(mask_gt[counted], source.orientation),
        as_lps(mask_pred[counted], source.orientation),
        source.geometry.spacing_mm,
        None if scan is None else as_lps(scan[box][counted], source.orientation),
    )


def _grown(box: Slices, margin_mm: float, spacing_mm: SpacingZYX, shape: tuple[int, ...]) -> Slices:
    """Grow a box by a margin on all faces, within the volume."""
    return tuple(
        slice(
            max(0, part.start - round(margin_mm / step)),
            min(size, part.stop + round(margin_mm / step)),
        )
        for part, step, size in zip(box, spacing_mm, shape, strict=True)
    )


def find_differences(evaluation: Evaluation) -> list[Difference]:
    """List the organs that the two protocols score differently.

    Parameters
    ----------
    evaluation : Evaluation
        Scores of both protocols.

    Returns
    -------
    list of Difference
        In the order of the strict scores, which leave no case out.
    """
    by_protocol = {
        name: {(result.case, result.organ): result.score for result in results}
        for name, results in evaluation.results.items()
    }
    found = []
    for key in by_protocol["strict"]:
        scores = {name: table[key] for name, table in by_protocol.items() if key in table}
        if len(scores) < len(PROTOCOLS) or not _alike(*scores.values()):
            found.append(Difference(case=key[0], organ=key[1], scores=scores))
    return found


def _alike(one: Score, other: Score) -> bool:
    return all(
        math.isclose(a, b, rel_tol=0, abs_tol=SAME) or (math.isnan(a) and math.isnan(b))
        for a, b in ((one.dsc, other.dsc), (one.nsd, other.nsd))
    )


def write_scores(path: Path, results: list[OrganResult]) -> None:
    """Write the table of scores as CSV.

    Parameters
    ----------
    path : Path
        File to write.
    results : list of OrganResult
        A row for each; what is not scored is written ``nan``.
    """
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in results:
            numbers = (row.score.dsc, row.score.nsd, row.volume_ref_ml, row.volume_pred_ml)
            table.writerow((as_text(row.case), row.organ, *(f"{number:.6f}" for number in numbers)))
