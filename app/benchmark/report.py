"""Figures as JSON, CSV and Markdown tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.benchmark.compare import CaseResult, Runs, mean_dice
from app.benchmark.curve import write_csv
from app.benchmark.systems import Measurement
from app.imaging.io import atomic_path

DIGITS = 3


def as_json(result: CaseResult) -> dict[str, Any]:
    """Give the figures of a case, ready for JSON.

    Seconds, areas and steps are medians over the runs, peaks the highest; ``reference_*`` is the
    system this one was run in turn with, and every ratio is this system over that one.
    """
    theirs = result.theirs
    return {
        "voxels_zyx": list(result.scan.shape),
        "spacing_zyx_mm": [_rounded(step) for step in result.scan.spacing_mm],
        "scan_sha256": result.scan.sha256,
        **_figures(result.ours),
        **{
            f"reference_{name}": figure
            for name, figure in (_figures(theirs) if theirs else _NO_FIGURES).items()
        },
        "time_ratio": _rounded(result.time_ratio),
        "memory_ratio": _rounded(result.memory_ratio),
        "memory_area_ratio": _rounded(result.ratio(lambda runs: runs.memory_area_mib_s)),
        "cpu_area_ratio": _rounded(result.ratio(lambda runs: runs.cpu_area_s)),
        "dsc_between": _rounded_all(result.between),
        "dsc_truth": _rounded_all(result.truth),
        "dsc_reference_truth": _rounded_all(result.their_truth),
        "not_compared": list(result.not_compared),
        "runs": [_run(runs.system, run) for runs in _in_turn(result) for run in runs.measurements],
    }


def write_json(path: Path, results: Sequence[CaseResult], about: Mapping[str, Any]) -> None:
    """Write all figures and what they were measured on, whole or not at all.

    Parameters
    ----------
    path : Path
        File to write.
    results : sequence of CaseResult
        One for each case.
    about : mapping
        What else the file says: machine, versions, budgets; ready for JSON.

    Raises
    ------
    OutputError
        If it cannot be written; then the file is as it was.
    """
    record = {**about, "cases": {result.scan.name: as_json(result) for result in results}}
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n")


def write_curves(folder: Path, result: CaseResult) -> None:
    """Write every run's samples as ``CASE-ours-1.csv``, ``CASE-other-1.csv`` and on."""
    for label, runs in zip(("ours", "other"), _in_turn(result), strict=False):
        for number, run in enumerate(runs.measurements, start=1):
            write_csv(folder / f"{result.scan.name}-{label}-{number}.csv", run.curve)


def cost_table(results: Sequence[CaseResult], heading: str = "phantom") -> str:
    """Lay this system's costs out as a Markdown table, a row for each case, as in the README.

    Parameters
    ----------
    results : sequence of CaseResult
        One for each case.
    heading : str
        What the cases are.
    """
    names = ["voxels (x, y, z)", "mm (x, y, z)", "time", "start-up", "peak memory"]
    rows = _head([heading, *names, "processor time", "patches"])
    for result in results:
        ours = result.ours
        size = "×".join(str(num) for num in reversed(result.scan.shape))
        spacing = "×".join(f"{step:.4g}" for step in reversed(result.scan.spacing_mm))
        cells = [_code(result.scan.name), size, spacing, f"{ours.seconds:.1f} s"]
        cells += [
            _told(ours.startup_s, "s", 2),
            _told(_in_gib(ours.peak_mib), "GiB", 2),
            _told(ours.cpu_area_s, "CPU·s", 1),
            _told(ours.num_patches, "", 0),
        ]
        rows.append(_row(cells))
    return "\n".join(rows)


def ratio_table(
    results: Sequence[CaseResult], heading: str = "phantom", other: str = "reference"
) -> str:
    """Lay this system over the other out as a Markdown table, as in the README.

    Parameters
    ----------
    results : sequence of CaseResult
        One for each case; where no other system was run there are no figures.
    heading : str
        What the cases are.
    other : str
        What the other system is.
    """
    names = ["time", "peak memory", "area below memory", "processor time", "DSC between the two"]
    rows = _head([heading, *names, "DSC against truth", f"the {other}'s"])
    for result in results:
        theirs = result.theirs
        their_peak_gib = _in_gib(theirs.peak_mib) if theirs else None
        cells = [
            _code(result.scan.name),
            _of(result.time_ratio, theirs.seconds if theirs else None, "s"),
            _of(result.memory_ratio, their_peak_gib, "GiB"),
            _told(result.ratio(lambda runs: runs.memory_area_mib_s), "", 2),
            _told(result.ratio(lambda runs: runs.cpu_area_s), "", 2),
        ]
        means = [mean_dice(one) for one in (result.between, result.truth, result.their_truth)]
        rows.append(_row([*cells, *(_told(mean, "", 3) for mean in means)]))
    return "\n".join(rows)


def step_table(results: Sequence[CaseResult]) -> str:
    """Lay the seconds of each step out as a Markdown table; empty if no run told them."""
    told = [
        (result.scan.name, runs) for result in results for runs in _in_turn(result) if runs.steps_s
    ]
    if not told:
        return ""
    # A step that one run skipped is no reason to lose the order of the others.
    names = max((runs.steps_s for _, runs in told), key=len)
    rows = _head(["case", "system", *names])
    for case, runs in told:
        steps = runs.steps_s
        rows.append(_row([case, runs.system, *(_told(steps.get(name), "s", 2) for name in names)]))
    beside = {runs.system for _, runs in told if runs.measurements[0].compiles_beside}
    if beside:
        rows += [
            "",
            f"Compiling runs beside reading in {', '.join(sorted(beside))}: no part of a sum.",
        ]
    return "\n".join(rows)


_NO_FIGURES: dict[str, None] = dict.fromkeys(
    (
        "seconds",
        "startup_seconds",
        "peak_mib",
        "memory_area_mib_s",
        "cpu_area_s",
        "num_patches",
        "steps_s",
    )
)


def _figures(runs: Runs) -> dict[str, Any]:
    return {
        "seconds": _rounded(runs.seconds),
        "startup_seconds": _rounded(runs.startup_s),
        "peak_mib": _rounded(runs.peak_mib),
        "memory_area_mib_s": _rounded(runs.memory_area_mib_s),
        "cpu_area_s": _rounded(runs.cpu_area_s),
        "num_patches": runs.num_patches,
        "steps_s": _rounded_all(runs.steps_s),
    }


def _run(system: str, run: Measurement) -> dict[str, Any]:
    """Give all that one run told, its samples as three columns."""
    samples = [asdict(sample) for sample in run.curve.samples]
    columns = ("seconds", "memory_mib", "cpu_s")
    return {
        "system": system,
        "exit_code": run.exit_code,
        "seconds": _rounded(run.wall_s),
        "peak_mib": _rounded(run.peak_mib),
        "record": run.record,
        "samples": {name: [_rounded(sample[name]) for sample in samples] for name in columns},
    }


def _in_turn(result: CaseResult) -> list[Runs]:
    return [result.ours] if result.theirs is None else [result.ours, result.theirs]


def _head(names: Sequence[str]) -> list[str]:
    return [_row(names), "|" + "---|" * len(names)]


def _row(cells: Sequence[str]) -> str:
    """Join cells; a bar in a scan's name or a command would start another."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _code(name: str) -> str:
    return f"`{name}`"


def _of(ratio: float | None, whole: float | None, unit: str) -> str:
    """Tell a ratio and what it is of."""
    return _told(ratio, "", 2) + ("" if whole is None else f" (of {whole:.1f} {unit})")


def _told(figure: float | None, unit: str, digits: int) -> str:
    return "–" if figure is None else f"{figure:.{digits}f} {unit}".rstrip()


def _in_gib(figure_mib: float | None) -> float | None:
    return None if figure_mib is None else figure_mib / 1024


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, DIGITS)


def _rounded_all(figures: Mapping[str, float | None] | None) -> dict[str, float | None] | None:
    return None if figures is None else {name: _rounded(one) for name, one in figures.items()}
