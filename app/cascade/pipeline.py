"""START HERE: read, locate, crop, segment, restore, write."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.cascade.bundle import Phase, open_phase
from app.cascade.engine import Precision
from app.cascade.locate import Abdomen, locate
from app.cascade.memory import (
    MIB,
    MemoryPlan,
    plan_memory,
    process_peak,
    reset_process_peak,
)
from app.cascade.regrow import find_cuts, grow
from app.cascade.restore import restore
from app.cascade.segment import ClassScores, segment
from app.imaging.crop import crop
from app.imaging.geometry import Box, Geometry, LabelVolume, SpacingZYX
from app.imaging.io import ScanHeader, peek, read_scan, write_label_map
from app.imaging.volume import Volume
from app.labels import NUM_CLASSES, ORGANS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """Both phases, ready to run, and the memory they may use.

    Parameters
    ----------
    locate, segment : Phase
        Phase one and phase two.
    memory_limit_bytes : int
        Scans that need more are refused.
    """

    locate: Phase
    segment: Phase
    memory_limit_bytes: int

    @property
    def least_region_mm(self) -> SpacingZYX:
        """Size of one patch of phase two."""
        config = self.segment.config
        (nz, ny, nx), (sz, sy, sx) = config.patch_shape, config.spacing_mm
        return (nz * sz, ny * sy, nx * sx)

    def plan(self, header: ScanHeader, region_mm: SpacingZYX | None = None) -> MemoryPlan:
        """Check that a scan fits the memory cap; see :func:`plan_memory`."""
        return plan_memory(
            header,
            locate=self.locate.config,
            segment=self.segment.config,
            limit_bytes=self.memory_limit_bytes,
            region_mm=region_mm,
        )


@dataclass(slots=True, kw_only=True)
class CaseReport:
    """What happened to one scan.

    Parameters
    ----------
    seconds : dict of str to float
        Wall time of each step, in s.
    planned_mib, peak_mib : float
        Memory planned for, and the process's highest use, in MiB.
    box : Box or None
        Located region, in voxels of the scan in canonical orientation.
    num_patches, num_skipped : int
        Patches phase two ran, and patches that phase one ruled out.
    volumes_ml : dict of str to float
        Volume of each organ, in ml.
    warnings : list of str
        What a user should look at.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    planned_mib: float = 0.0
    peak_mib: float = 0.0
    box: Box | None = None
    num_patches: int = 0
    num_skipped: int = 0
    volumes_ml: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step and log it with the peak memory so far."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started
        self.peak_mib = process_peak() / MIB
        logger.info("%s: %.2f s, peak %.0f MiB", name, self.seconds[name], self.peak_mib)


def open_cascade(
    weights: Path,
    *,
    memory_limit_bytes: int,
    threads: int | None = None,
    precision: Precision = "auto",
) -> Cascade:
    """Open both phases of a weights folder.

    Parameters
    ----------
    weights : Path
        Folder that holds ``locate`` and ``segment``.
    memory_limit_bytes : int
        Scans that need more are refused.
    threads, precision
        As for :class:`app.cascade.engine.CpuNetwork`.

    Returns
    -------
    Cascade
        Ready to run.
    """
    phases = {
        name: open_phase(weights / name, name, threads=threads, precision=precision)
        for name in ("locate", "segment")
    }
    return Cascade(**phases, memory_limit_bytes=memory_limit_bytes)


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
        Times, memory, box, volumes, warnings. A scan without an abdomen gives
        an empty label map and a warning.
    """
    report = CaseReport()
    reset_process_peak()
    with report.step("read"):
        header = peek(scan_path)
        report.planned_mib = cascade.plan(header).peak_bytes / MIB
        scan, source = read_scan(scan_path)
    report.warnings += _suspicions(scan)
    with report.step("locate"):
        abdomen = locate(scan, cascade.locate, least_region_mm=cascade.least_region_mm)
    if abdomen is None:
        report.warnings.append("no abdominal organs found; the label map is empty")
        label_map = source.blank_label_map()
    else:
        with report.step("segment"):
            scores = _segment_abdomen(scan, header, abdomen, cascade, report)
        del scan  # makes room for the label map
        with report.step("restore"):
            label_map = restore(scores, source)
    report.volumes_ml = organ_volumes_ml(label_map, source.geometry)
    if abdomen is not None and not any(report.volumes_ml.values()):
        report.warnings.append("phase two found no organs in the located box")
    with report.step("write"):
        write_label_map(label_map, source, label_path)
    return report


def _segment_abdomen(
    scan: Volume, header: ScanHeader, abdomen: Abdomen, cascade: Cascade, report: CaseReport
) -> ClassScores:
    """Score the located box, and once more a larger one if it cuts an organ."""
    scores = _segment_box(scan, header, abdomen, cascade, report)
    cuts = find_cuts(scores, abdomen)
    if cuts:
        logger.info("the box cuts the %s; trying a larger one", cuts[0].organ)
        abdomen = grow(abdomen, cuts)
        del scores  # makes room for the next
        scores = _segment_box(scan, header, abdomen, cascade, report)
        cuts = find_cuts(scores, abdomen)
    report.warnings += [f"the {cut.organ} may be cut off by the located box" for cut in cuts]
    return scores


def _segment_box(
    scan: Volume, header: ScanHeader, abdomen: Abdomen, cascade: Cascade, report: CaseReport
) -> ClassScores:
    """Check that the box fits the memory cap, then score it."""
    region = crop(scan, abdomen.box)
    plan = cascade.plan(header, region.geometry.extent_mm)
    report.box, report.planned_mib = abdomen.box, plan.peak_bytes / MIB
    scores = segment(region, abdomen, cascade.segment)
    report.num_patches += scores.num_run
    report.num_skipped += scores.num_skipped
    return scores


def organ_volumes_ml(label_map: LabelVolume, geometry: Geometry) -> dict[str, float]:
    """Measure every organ of a label map.

    Parameters
    ----------
    label_map : (Z, Y, X) array of uint8
        The label map.
    geometry : Geometry
        Its grid.

    Returns
    -------
    dict of str to float
        Volume in ml by organ name, absent organs included.
    """
    # Slice by slice, for counting turns what it counts into 8-byte integers.
    counts = sum(
        (np.bincount(plane.ravel(), minlength=NUM_CLASSES) for plane in label_map),
        np.zeros(NUM_CLASSES, np.int64),
    )
    return {organ.name: float(counts[organ.value]) * geometry.voxel_ml for organ in ORGANS}


def _suspicions(scan: Volume) -> list[str]:
    """Say what makes a scan look unlike a CT scan in HU."""
    sample = scan.array[::4, ::8, ::8]
    if sample.min() >= 0:
        return ["no negative intensities; the scan may not be in HU"]
    return []
