"""START HERE: read, locate, segment, restore, write."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.cascade.bundle import Cascade
from app.cascade.confidence import confidence_map
from app.cascade.locate import Abdomen, locate
from app.cascade.memory import reset_process_peak, return_freed_memory
from app.cascade.plausibility import judge, judge_agreement, judge_pieces
from app.cascade.regrow import Cut, find_cuts, grow
from app.cascade.report import CaseReport
from app.cascade.restore import restore, take_back_specks
from app.cascade.segment import (
    ClassScores,
    Region,
    blank_scores,
    enlarge,
    mean_confidence,
    reach_down,
    reach_out,
    region_of,
    rule_out_surroundings,
    segment,
)
from app.cascade.tighten import close_in, tighten
from app.errors import MemoryLimitError, ScoresError
from app.imaging import organ_placement
from app.imaging.geometry import LabelVolume
from app.imaging.hounsfield import shows_no_air
from app.imaging.io import Source, peek, read_scan, write_label_map
from app.imaging.organ_statistics import measure_statistics
from app.imaging.organ_volumes import organ_volumes_ml
from app.imaging.volume import Volume
from app.labels import CLASS_NAMES

logger = logging.getLogger(__name__)


def segment_scan(
    scan_path: Path,
    label_path: Path,
    cascade: Cascade,
    *,
    organs: Collection[int] | None = None,
    statistics: bool = False,
    confidence_path: Path | None = None,
    before_replaced: Callable[[], None] | None = None,
    on_replaced: Callable[[], None] | None = None,
) -> CaseReport:
    """Segment the abdominal organs of one CT scan.

    Parameters
    ----------
    scan_path : Path
        The scan, in any orientation.
    label_path : Path
        Where the label map goes: same grid, orientation and header.
    cascade : Cascade
        Both networks.
    organs : collection of int, optional
        Label values to keep; all by default.
    statistics : bool
        Whether to measure the HU of each organ, too.
    confidence_path : Path, optional
        Where an image of how sure the network is goes, if one is wanted.
    before_replaced : callable, optional
        Called when the label map is complete and before anything is written; what it
        raises is raised on, and an earlier label map stays.
    on_replaced : callable, optional
        Called as soon as the label map is in place, and before anything else is written.

    Returns
    -------
    CaseReport
        Times, memory, box, volumes, warnings, flags. A scan without an abdomen
        gives an empty label map and a warning.
    """
    report = CaseReport(observer=cascade.observer)
    scan, source = _read(scan_path, cascade, report)
    scores = score_scan(scan, source, cascade, report, organs=organs)  # locate, segment
    measured_scan = scan if statistics else None
    del scan  # makes room for the label map
    label_map = label_scan(scores, source, report, organs=organs, scan=measured_scan)  # restore
    del measured_scan
    if before_replaced is not None:
        before_replaced()
    with report.step("write"):
        write_label_map(label_map, source, label_path)
    if on_replaced is not None:
        on_replaced()
    if confidence_path is not None:
        del label_map  # makes room for an image of the same size
        with report.step("confidence"):
            write_label_map(confidence_map(scores, source), source, confidence_path)
    return report


def locate_scan(scan_path: Path, cascade: Cascade) -> tuple[CaseReport, Source]:
    """Find the box around the abdominal organs, and leave it at that.

    Parameters
    ----------
    scan_path : Path
        The scan, in any orientation.
    cascade : Cascade
        Of which only phase one is run.

    Returns
    -------
    CaseReport
        Without organ volumes; its box is None if there is no abdomen.
    Source
        How the scan lies, to tell where in the file the box is.
    """
    report = CaseReport(observer=cascade.observer)
    scan, source = _read(scan_path, cascade, report)
    with report.step("locate"), _named(source, "phase one"):
        abdomen = locate(scan, cascade.locate)
    if abdomen is None:
        report.flag("no_abdomen", "no abdominal organs found")
    else:
        report.box = abdomen.box
    return report, source


def score_scan(
    scan: Volume,
    source: Source,
    cascade: Cascade,
    report: CaseReport,
    *,
    organs: Collection[int] | None = None,
) -> ClassScores | None:
    """Run both phases on a scan in memory.

    Parameters
    ----------
    scan : Volume of int16
        HU, in canonical orientation.
    source : Source
        How it lay before it was turned.
    cascade : Cascade
        Both networks.
    report : CaseReport
        Told what happens.
    organs : collection of int, optional
        Label values of which it is told if the box cuts them; all are looked for.

    Returns
    -------
    ClassScores or None
        None if the scan shows no abdominal organs.
    """
    _warn_of_odd_intensities(scan, report)
    with report.step("locate"), _named(source, "phase one"):  # where the abdomen is
        abdomen = locate(scan, cascade.locate)
        # Phase two needs the room.
        cascade.locate.network.release()
        return_freed_memory()
    if abdomen is None:
        report.flag("no_abdomen", "no abdominal organs found; the label map is empty")
        return None
    report.located_mm3 = abdomen.volume_mm3
    with report.step("segment"), _named(source, "phase two"):  # class scores, on their own grid
        return _segment_abdomen(scan, source, abdomen, cascade, report, organs)


def label_scan(
    scores: ClassScores | None,
    source: Source,
    report: CaseReport,
    *,
    organs: Collection[int] | None = None,
    scan: Volume | None = None,
) -> LabelVolume:
    """Turn class scores into a label map, and measure it.

    Parameters
    ----------
    scores : ClassScores or None
        From :func:`score_scan`.
    source : Source
        How the scan lay.
    report : CaseReport
        Told the volumes, what should be looked at, and the statistics if ``scan``
        is given.
    organs : collection of int, optional
        Label values to keep; all by default. All are checked, for what the others look
        like tells of the scan; then those not to be kept become background.
    scan : Volume of int16, optional
        The scan, if the HU of the organs are to be measured.

    Returns
    -------
    (Z, Y, X) array of uint8
        Label map of the whole scan in canonical orientation.
    """
    if scores is None:
        label_map = labeled = source.blank_label_map()
        volumes_ml = organ_volumes_ml(labeled, source.geometry)
    else:
        with report.step("restore"):  # slab by slab, on the scan's own grid
            doubtful_mm3 = take_back_specks(scores)
            labeled_mm3 = np.count_nonzero(scores.labels) * scores.region.voxel_mm3
            scores = close_in(scores, source.geometry)
            report.box = scores.region.box
            label_map = restore(scores, source)
        labeled = label_map[scores.region.box.slices]  # all else is background
        with report.step("check"):  # does the result look like an abdomen?
            volumes_ml = organ_volumes_ml(labeled, source.geometry)
            report.add_flags(judge_agreement(report.located_mm3, labeled_mm3))
            _check(label_map, scores, volumes_ml, doubtful_mm3, source, report, organs)
    if organs is not None:
        _leave_only(labeled, organs)
    asked_for = _names_of(organs)
    report.volumes_ml = {name: ml for name, ml in volumes_ml.items() if name in asked_for}
    if scan is not None:
        with report.step("measure"):
            report.organs = measure_statistics(scan.array, label_map, source.geometry, organs)
    return label_map


def _read(scan_path: Path, cascade: Cascade, report: CaseReport) -> tuple[Volume, Source]:
    return_freed_memory()  # what an earlier scan left
    reset_process_peak()
    with report.step("read"):
        report.note_plan(cascade.plan(peek(scan_path)))  # refuses a scan that would not fit
        scan, source = read_scan(scan_path)
    report.warnings += source.notes
    return scan, source


@contextmanager
def _named(source: Source, phase: str) -> Iterator[None]:
    """Name scan and phase where a network's scores are no numbers."""
    try:
        yield
    except ScoresError as error:
        raise ScoresError(f"{source.header.path}: {phase}: {error}") from error


def _segment_abdomen(
    scan: Volume,
    source: Source,
    abdomen: Abdomen,
    cascade: Cascade,
    report: CaseReport,
    organs: Collection[int] | None,
) -> ClassScores:
    """Score the located region, then what lies beyond if its end cuts an organ."""
    phase, found = cascade.segment, abdomen
    region = region_of(found, phase.config)
    report.note_plan(cascade.plan(source.header, region.extent_mm))  # refuses what would not fit
    abdomen = reach_out(found, region, phase.config)
    lower = reach_down(found, abdomen, region, phase.config)
    if lower is not None and _fits(lower[1], source, cascade, report):
        abdomen, region = lower
    scores = blank_scores(region)
    segment(scan, abdomen, phase, scores)
    cuts, looked = find_cuts(scores), None
    if cascade.second_look:
        organs_cut = [cut for cut in cuts if not cut.is_tube]
        looked = _look_beyond(cuts, scan, source, abdomen, scores, cascade, report)
        if looked is None and len(organs_cut) < len(cuts):
            # Where there is no memory for a tube's end, there may be for an organ's.
            looked = _look_beyond(organs_cut, scan, source, abdomen, scores, cascade, report)
        if looked is not None:
            abdomen, scores = looked
    if abdomen.box != found.box:
        scores = tighten(found, abdomen, scores)
    if looked is not None:
        cuts = find_cuts(scores)
    rule_out_surroundings(scores)
    report.num_patches = scores.patches.num_run
    asked_for = _names_of(organs)
    # Once, though cut at several faces.
    told = (cut.organ for cut in cuts if cut.organ in asked_for and not cut.is_tube)
    for organ in dict.fromkeys(told):
        text = f"the {organ.replace('_', ' ')} may be cut off by the located box"
        report.flag("cut_by_box", text, organ)
    return scores


def _look_beyond(
    cuts: list[Cut],
    scan: Volume,
    source: Source,
    abdomen: Abdomen,
    scores: ClassScores,
    cascade: Cascade,
    report: CaseReport,
) -> tuple[Abdomen, ClassScores] | None:
    """Score what lies beyond cuts, too; None if there are none or memory does not suffice."""
    if not cuts:
        return None
    phase = cascade.segment
    larger = grow(abdomen, scores, cuts)
    region = region_of(larger, phase.config, seen=scores.region)
    if not _fits(region, source, cascade, report):
        return None
    logger.info("the box cuts the %s; looking beyond", cuts[0].organ)
    return_freed_memory()  # what the first look left
    scores = enlarge(scores, region)
    segment(scan, larger, phase, scores)
    return larger, scores


def _check(
    label_map: LabelVolume,
    scores: ClassScores,
    volumes_ml: Mapping[str, float],
    doubtful_mm3: Mapping[int, float],
    source: Source,
    report: CaseReport,
    organs: Collection[int] | None,
) -> None:
    """Compare the result with the anatomy and flag what should be looked at."""
    coarse, spacing_mm = organ_placement.thin(label_map, source.geometry.spacing_mm)
    measures = organ_placement.measure_placement(coarse, spacing_mm)
    if not measures:
        report.flag("no_organs", "phase two found no organs in the located box")
        return
    # Thinned voxels give a volume that is nearly right; what is told must be what is written.
    measures = {
        name: replace(measure, volume_ml=volumes_ml[name]) for name, measure in measures.items()
    }
    flags = judge(measures, mean_confidence(scores)) + judge_pieces(doubtful_mm3)
    asked_for = {None, *_names_of(organs)}  # None: what is said of the scan
    report.add_flags([flag for flag in flags if flag.organ in asked_for])


def _names_of(organs: Collection[int] | None) -> set[str]:
    return {
        CLASS_NAMES[value] for value in (range(1, len(CLASS_NAMES)) if organs is None else organs)
    }


def _leave_only(label_map: LabelVolume, organs: Collection[int]) -> None:
    """Turn all but some organs into background, in place and slice by slice."""
    kept = np.arange(len(CLASS_NAMES), dtype=np.uint8)
    kept[[value for value in kept if value not in organs]] = 0
    for plane in label_map:
        plane[...] = kept[plane]


def _fits(region: Region, source: Source, cascade: Cascade, report: CaseReport) -> bool:
    """Tell whether a region can be scored within the memory cap, and note the plan if so."""
    try:
        report.note_plan(cascade.plan(source.header, region.extent_mm))
    except MemoryLimitError as error:
        logger.info("no second look: %s", error)
        return False
    return True


def _warn_of_odd_intensities(scan: Volume, report: CaseReport) -> None:
    if shows_no_air(scan.array):
        report.flag(
            "odd_intensities",
            "next to no number lies where HU have air and fat; the scan may not be in HU",
        )
