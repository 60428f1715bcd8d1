"""START HERE: run this system, and another in turn with it, on one scan; compare the two."""

import logging
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.benchmark.cases import Scan
from app.benchmark.systems import Measurement, System
from app.errors import InputError
from app.imaging.geometry import LabelVolume
from app.imaging.image_files import image_files
from app.imaging.label_maps import grid_difference, read_label_map
from app.labels import NUM_CLASSES, ORGANS

logger = logging.getLogger(__name__)

Agreement = dict[str, float | None]
"""DSC of each organ; None for an organ that neither label map holds."""


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of one system on one scan; the same scan, so the same label map.

    Parameters
    ----------
    system : str
        Its name.
    measurements : sequence of Measurement
        At least one.
    """

    system: str
    measurements: Sequence[Measurement]

    @property
    def seconds(self) -> float:
        """Median wall time, in s."""
        return statistics.median(run.wall_s for run in self.measurements)

    @property
    def peak_mib(self) -> float | None:
        """Highest peak, in MiB; None if any run's is not known."""
        peaks = [run.peak_mib for run in self.measurements]
        known = [peak for peak in peaks if peak is not None]
        return max(known) if len(known) == len(peaks) else None

    @property
    def memory_area_mib_s(self) -> float | None:
        """Median area below the memory curve, in MiB·s; None where a run has no curve."""
        return self._median_area(lambda run: run.curve.memory_area_mib_s)

    @property
    def cpu_area_s(self) -> float | None:
        """Median processor time, in CPU·s; None where a run has no curve."""
        return self._median_area(lambda run: run.curve.cpu_area_s)

    @property
    def num_patches(self) -> int | None:
        """Patches that the networks ran in the last run; None if it did not record them."""
        return self.measurements[-1].num_patches

    @property
    def steps_s(self) -> dict[str, float]:
        """Median wall time of each step, in s; empty if a run told none."""
        told = [run.steps_s for run in self.measurements]
        return {
            name: statistics.median(steps[name] for steps in told)
            for name in told[0]
            if all(name in steps for steps in told)
        }

    @property
    def startup_s(self) -> float | None:
        """Import and compilation together, in s; None if the runs did not tell both.

        This system compiles beside reading, so that a scan waits for less.
        """
        steps = self.steps_s
        return steps["import"] + steps["compile"] if {"import", "compile"} <= set(steps) else None

    def _median_area(self, area: Callable[[Measurement], float]) -> float | None:
        if not all(run.curve.samples for run in self.measurements):
            return None
        return statistics.median(area(run) for run in self.measurements)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """Everything one scan gave.

    Parameters
    ----------
    scan : Scan
        The scan.
    ours : Runs
        This system.
    theirs : Runs or None
        The other one, run in turn.
    between, truth, their_truth : Agreement or None
        DSC between the two systems, and of each against the true label map; None where there is
        nothing to compare.
    without_labels : tuple of str
        Systems whose last run did not leave one label map.
    not_compared : tuple of str
        Why there is no DSC where there are two label maps, a sentence each.
    """

    scan: Scan
    ours: Runs
    theirs: Runs | None
    between: Agreement | None = None
    truth: Agreement | None = None
    their_truth: Agreement | None = None
    without_labels: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()

    def ratio(self, figure: Callable[[Runs], float | None]) -> float | None:
        """Give a figure of this system over the other's; None where one is not known."""
        ours, theirs = figure(self.ours), figure(self.theirs) if self.theirs else None
        return ours / theirs if ours is not None and theirs else None

    @property
    def time_ratio(self) -> float | None:
        """Wall time over the other's: 0.5 is twice as fast."""
        return self.ratio(lambda runs: runs.seconds)

    @property
    def memory_ratio(self) -> float | None:
        """Peak memory over the other's."""
        return self.ratio(lambda runs: runs.peak_mib)


def compare(
    scan: Scan, ours: System, theirs: System | None, *, repeat: int, scratch: Path
) -> CaseResult:
    """Run both systems in turn: ours, theirs, ours, theirs.

    What slows the machine down for a while so slows both.

    Parameters
    ----------
    scan : Scan
        What they segment.
    ours, theirs : System
        This system, and another or None.
    repeat : int
        How often each is run.
    scratch : Path
        Where folders for label maps are made, and removed again.

    Returns
    -------
    CaseResult
    """
    systems = [ours] if theirs is None else [ours, theirs]
    runs: list[list[Measurement]] = [[] for _ in systems]
    folders = [scratch / f"labels{index}" for index in range(len(systems))]
    for number in range(repeat):
        for system, measurements, folder in zip(systems, runs, folders, strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            measured = system.run(scan.folder, folder)
            logger.info("%s, %s, run %d: %.1f s", scan.name, system.name, number, measured.wall_s)
            measurements.append(measured)
    maps = [label_map_in(folder) for folder in folders]
    our_map, their_map = maps[0], maps[1] if theirs else None
    reasons: list[str] = []
    result = CaseResult(
        scan=scan,
        ours=Runs(ours.name, runs[0]),
        theirs=Runs(theirs.name, runs[1]) if theirs else None,
        between=_agreement(our_map, their_map, reasons),
        truth=_agreement(our_map, scan.truth, reasons),
        their_truth=_agreement(their_map, scan.truth, reasons),
        without_labels=tuple(
            system.name for system, found in zip(systems, maps, strict=True) if found is None
        ),
        not_compared=tuple(reasons),
    )
    for folder in folders:
        shutil.rmtree(folder)
    return result


def label_map_in(folder: Path) -> Path | None:
    """Find the one label map that a run wrote; None if there is none, or more than one."""
    found = image_files(folder)
    return found[0] if len(found) == 1 else None


def dice_per_organ(one: LabelVolume, other: LabelVolume) -> Agreement:
    """Compare two label maps.

    Parameters
    ----------
    one, other : (Z, Y, X) arrays of uint8
        On one grid; values from 14 on stand for no organ.

    Returns
    -------
    dict of str to float or None
        By organ name.
    """
    # Every pair of values is counted once, a slice at a time: no mask of the scan's size.
    counts = np.zeros((256, 256), np.int64)
    for plane, other_plane in zip(one, other, strict=True):
        pairs = plane.astype(np.intp) * 256 + other_plane
        counts += np.bincount(pairs.ravel(), minlength=counts.size).reshape(counts.shape)
    sizes = counts.sum(axis=1)[:NUM_CLASSES] + counts.sum(axis=0)[:NUM_CLASSES]
    return {
        organ.name: float(2 * counts[organ.value, organ.value] / sizes[organ.value])
        if sizes[organ.value]
        else None
        for organ in ORGANS
    }


def mean_dice(agreement: Agreement | None) -> float | None:
    """Give the mean DSC of the organs that either label map holds; None if there are none."""
    known = [dsc for dsc in (agreement or {}).values() if dsc is not None]
    return statistics.fmean(known) if known else None


def _agreement(one: Path | None, other: Path | None, reasons: list[str]) -> Agreement | None:
    """Compare two files; None, with a warning and a reason more, where that cannot be done."""
    if one is None or other is None:
        return None
    try:
        label_map, other_map = read_label_map(one), read_label_map(other)
    except InputError as error:
        reason = str(error)
    else:
        difference = grid_difference(other_map.source.geometry, label_map.source.geometry)
        if not difference:
            return dice_per_organ(label_map.in_lps, other_map.in_lps)
        reason = f"{one} and {other} lie on different grids: {difference}"
    logger.warning("no DSC: %s", reason)
    reasons.append(reason)
    return None
