"""START HERE: read, locate, crop, segment, restore, write."""

import logging
from pathlib import Path

from app.cascade.bundle import Cascade
from app.cascade.locate import Abdomen, context_of, locate
from app.cascade.memory import reset_process_peak
from app.cascade.plausibility import judge
from app.cascade.regrow import find_cuts, grow
from app.cascade.report import CaseReport
from app.cascade.restore import restore
from app.cascade.segment import ClassScores, mean_confidence, segment
from app.errors import MemoryLimitError
from app.imaging.crop import crop
from app.imaging.geometry import LabelVolume
from app.imaging.io import Source, peek, read_scan, write_label_map
from app.imaging.organ_measures import measure_organs, thin
from app.imaging.organ_volumes import organ_volumes_ml
from app.imaging.volume import Volume

logger = logging.getLogger(__name__)


def segment_scan(scan_path: Path, label_path: Path, cascade: Cascade) -> CaseReport:
    """Segment the abdominal organs of one CT scan.

    Parameters
    ----------
    scan_path : Path
        The scan, in any orientation.
    label_path : Path
        Where the label map goes: same grid, orientation and header.
    cascade : Cascade
        Both networks.

    Returns
    -------
    CaseReport
        Times, memory, box, volumes, warnings, flags. A scan without an abdomen
        gives an empty label map and a warning.
    """
    reset_process_peak()
    report = CaseReport()
    with report.step("read"):
        report.note_plan(cascade.plan(peek(scan_path)))  # refuses a scan that would not fit
        scan, source = read_scan(scan_path)
    _warn_of_odd_intensities(scan, report)
    with report.step("locate"):  # phase one: where the abdomen is
        abdomen = locate(scan, cascade.locate)
    if abdomen is None:
        report.flag("no_abdomen", "no abdominal organs found; the label map is empty")
        label_map = source.blank_label_map()
    else:
        with report.step("segment"):  # phase two: class scores on a grid of their own
            scores = _crop_and_segment(scan, source, abdomen, cascade, report)
        del scan  # makes room for the label map
        with report.step("restore"):  # slab by slab, on the scan's own grid
            label_map = restore(scores, source)
        with report.step("check"):  # does the result look like an abdomen?
            _check(label_map, scores, source, report)
    with report.step("write"):
        write_label_map(label_map, source, label_path)
    report.volumes_ml = organ_volumes_ml(label_map, source.geometry)
    return report


def _crop_and_segment(
    scan: Volume, source: Source, abdomen: Abdomen, cascade: Cascade, report: CaseReport
) -> ClassScores:
    """Score the located box, and once more a larger one if it cuts an organ."""
    scores = _score_box(scan, source, abdomen, cascade, report)
    cuts = find_cuts(scores, abdomen)
    if cuts and _fits(larger := grow(abdomen, cuts), source, cascade):
        logger.info("the box cuts the %s; trying a larger one", cuts[0].organ)
        del scores  # makes room for the next
        scores = _score_box(scan, source, larger, cascade, report)
        cuts = find_cuts(scores, larger)
    for cut in cuts:
        text = f"the {cut.organ} may be cut off by the located box"
        report.flag("cut_by_box", text, cut.organ)
    return scores


def _check(label_map: LabelVolume, scores: ClassScores, source: Source, report: CaseReport) -> None:
    """Compare the result with the anatomy and flag what should be looked at."""
    measures = measure_organs(*thin(label_map, source.geometry.spacing_mm))
    if measures:
        report.add_flags(judge(measures, mean_confidence(scores)))
    else:
        report.flag("no_organs", "phase two found no organs in the located box")


def _score_box(
    scan: Volume, source: Source, abdomen: Abdomen, cascade: Cascade, report: CaseReport
) -> ClassScores:
    """Check that the box fits the memory cap, cut it out and score it."""
    context = context_of(abdomen, cascade.segment.config.patch_mm)
    region = crop(scan, context)
    report.box = abdomen.box
    report.note_plan(cascade.plan(source.header, region.geometry.extent_mm))
    scores = segment(region, context, abdomen, cascade.segment)
    report.num_patches += scores.num_run
    report.num_skipped += scores.num_skipped
    return scores


def _fits(abdomen: Abdomen, source: Source, cascade: Cascade) -> bool:
    """Tell whether a box could be scored within the memory cap."""
    try:
        context = context_of(abdomen, cascade.segment.config.patch_mm)
        cascade.plan(source.header, source.geometry.crop(context).extent_mm)
    except MemoryLimitError as error:
        logger.info("no larger box: %s", error)
        return False
    return True


def _warn_of_odd_intensities(scan: Volume, report: CaseReport) -> None:
    # Every CT scan shows air, which is negative; a sample of the voxels tells.
    if scan.array[::4, ::8, ::8].min() >= 0:
        report.flag("odd_intensities", "no negative intensities; the scan may not be in HU")
