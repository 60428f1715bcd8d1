"""Memory and processor use over the time of one run, and the areas below them."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from app.imaging.io import atomic_path

INTERVAL_S = 0.1
"""Time between two samples, that of the FLARE challenge's own measurement."""

COLUMNS = ("seconds", "memory_mib", "cpu_s", "cpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a run used at one moment.

    Parameters
    ----------
    seconds : float
        Since the start of the run, in s.
    memory_mib : float
        Memory in use, in MiB.
    cpu_s : float
        Processor time used so far by all threads, in s.
    """

    seconds: float
    memory_mib: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The samples of one run, in the order of time.

    Parameters
    ----------
    samples : tuple of Sample
        May be empty, where a run ended before the first or nothing could be read.
    """

    samples: tuple[Sample, ...]

    @property
    def peak_mib(self) -> float:
        """Most memory seen, in MiB; 0 without samples."""
        return max((sample.memory_mib for sample in self.samples), default=0.0)

    @property
    def memory_area_mib_s(self) -> float:
        """Area below the memory curve, in MiB·s (trapezoids)."""
        return sum(
            (one.memory_mib + other.memory_mib) / 2 * (other.seconds - one.seconds)
            for one, other in pairwise(self.samples)
        )

    @property
    def cpu_area_s(self) -> float:
        """Area below the curve of processors in use: processor time, in CPU·s."""
        return self.samples[-1].cpu_s - self.samples[0].cpu_s if self.samples else 0.0

    @property
    def cpus(self) -> tuple[float, ...]:
        """Processors in use between each sample and the one before it; 0 for the first."""
        used = [
            (other.cpu_s - one.cpu_s) / (other.seconds - one.seconds)
            if other.seconds > one.seconds
            else 0.0
            for one, other in pairwise(self.samples)
        ]
        return (0.0, *used) if self.samples else ()


def since_first(samples: Iterable[Sample]) -> Curve:
    """Make a curve whose clocks, of time and of the processor, start at its first sample."""
    held = tuple(samples)
    return Curve(
        tuple(
            Sample(
                seconds=sample.seconds - held[0].seconds,
                memory_mib=sample.memory_mib,
                cpu_s=sample.cpu_s - held[0].cpu_s,
            )
            for sample in held
        )
    )


def write_csv(path: Path, curve: Curve) -> None:
    """Write a curve as CSV, a row for each sample, whole or not at all.

    Parameters
    ----------
    path : Path
        File to write.
    curve : Curve
        ``cpus`` are the processors in use since the row before.

    Raises
    ------
    OutputError
        If it cannot be written; then the file is as it was.
    """
    with atomic_path(path) as partial, partial.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for sample, cpus in zip(curve.samples, curve.cpus, strict=True):
            numbers = (sample.seconds, sample.memory_mib, sample.cpu_s, cpus)
            table.writerow(f"{number:.3f}" for number in numbers)
