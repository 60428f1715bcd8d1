"""Curves and growth as PNG pictures, whole or not at all; by matplotlib, with no display."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.benchmark.compare import CaseResult, Runs
from app.benchmark.growth import Growth
from app.imaging.io import atomic_path

# Told apart by people who see no red or green as well, and by their dashes in print.
OURS = {"color": "#1f5fa8", "linestyle": "-"}
THEIRS = {"color": "#e07b00", "linestyle": "--"}

DOTS_PER_INCH = 100

ROOM = 1.06
"""Axes end this much beyond the largest value."""

LEGEND_CHARACTERS = 90
"""A legend's line holds so many: a tool's whole command may be longer than the picture is wide."""


def plot_curves(path: Path, result: CaseResult) -> None:
    """Draw memory and processors in use over the time of every run of a case.

    Parameters
    ----------
    path : Path
        PNG file to write.
    result : CaseResult
        Where a run has no samples there is no line.
    """
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    memory, cpus = figure.subplots(2, sharex=True)
    for runs, style in ((result.ours, OURS), (result.theirs, THEIRS)):
        if runs is None:
            continue
        for number, run in enumerate(runs.measurements):
            seconds = [sample.seconds for sample in run.curve.samples]
            held = [sample.memory_mib for sample in run.curve.samples]
            label = _legend(runs) if number == 0 else None
            memory.plot(seconds, held, label=label, linewidth=1.2, **style)
            cpus.step(seconds, run.curve.cpus, where="pre", linewidth=1.0, **style)
    # Names and commands are shown as they stand: between two dollars they would be formulas.
    memory.set_title(f"{result.scan.name}: memory and processors in use", parse_math=False)
    memory.set_ylabel("memory (MiB)")
    cpus.set(xlabel="time (s)", ylabel="processors")
    for text in memory.legend(fontsize="small").get_texts():
        text.set_parse_math(False)
    _save(figure, [memory, cpus], path)


def plot_growth(path: Path, growths: Sequence[Growth]) -> None:
    """Draw time, processor time and peak memory against what they grow with, and fitted lines.

    Parameters
    ----------
    path : Path
        PNG file to write.
    growths : sequence of Growth
        A column each.
    """
    figure = Figure(figsize=(4 * len(growths), 7), layout="constrained")
    grid = figure.subplots(3, len(growths), squeeze=False, sharex="col")
    for column, growth in enumerate(growths):
        figures = (
            ("time (s)", growth.seconds),
            ("processor time (CPU·s)", growth.cpu_s),
            ("peak (MiB)", growth.peak_mib),
        )
        for axes, (name, line) in zip(grid[:, column], figures, strict=True):
            ends = np.array([min(growth.size), max(growth.size)])
            axes.plot(growth.size, line.values, "o", color=OURS["color"])
            axes.plot(ends, line.start + line.slope * ends, color=THEIRS["color"])
            axes.set(title=f"{line.slope:.3g} per {growth.unit}, R² {line.r_squared:.2f}")
            axes.set_ylabel(name)
        grid[-1, column].set_xlabel(f"{growth.axis} ({growth.unit})")
    _save(figure, list(grid.ravel()), path)


def _legend(runs: Runs) -> str:
    memory, cpu = runs.memory_area_mib_s, runs.cpu_area_s
    if memory is None or cpu is None:
        told = runs.system
    else:
        told = f"{runs.system}: {memory:,.0f} MiB·s, {cpu:.1f} CPU·s"
    return textwrap.fill(told, LEGEND_CHARACTERS)


def _save(figure: Figure, panels: Sequence[Axes], path: Path) -> None:
    for axes in panels:
        right, top = axes.dataLim.max
        if np.isfinite([right, top]).all() and min(right, top) > 0:  # else nothing was drawn
            axes.set(xlim=(0, ROOM * right), ylim=(0, ROOM * top))
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=DOTS_PER_INCH)
