"""How cost grows: with the slices of a scan, and with the box that the organs fill."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from app.benchmark.cases import PhantomCase
from app.benchmark.compare import CaseResult

# One body in 400 mm, cut ever finer: the box stays as it is.
SLICE_CASES = tuple(
    PhantomCase(name=f"slices{num}", shape=(num, 512, 512), spacing_mm=(400.0 / num, 0.8, 0.8))
    for num in (80, 160, 320, 640)
)

# One number of voxels over ever more of the body, up to those 400 mm: the box grows.
BOX_CASES = (
    *(
        PhantomCase(name=f"span{mm}", shape=(160, 512, 512), spacing_mm=(mm / 160, 0.8, 0.8))
        for mm in (100, 200, 300)
    ),
    SLICE_CASES[1],
)

GROWTH_CASES = (*SLICE_CASES, *BOX_CASES[:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A figure that grows, and the straight line fitted to it.

    Parameters
    ----------
    values : tuple of float
        The figure, in s, CPU·s or MiB.
    slope, start : float
        Least-squares line ``start + slope * size``.
    r_squared : float
        Share of the variance that the line explains.
    """

    values: tuple[float, ...]
    slope: float
    start: float
    r_squared: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Cost against one measure of size.

    Parameters
    ----------
    axis, unit : str
        What was varied, and the unit that slopes are given for.
    measured_at : str
        Its smallest and its largest value, with their unit.
    size : tuple of float
        Its values, in units.
    seconds, cpu_s, peak_mib : Line
        Wall time in s, processor time in CPU·s, which other work on the machine changes less, and
        peak memory in MiB, against ``size``.
    """

    axis: str
    unit: str
    measured_at: str
    size: tuple[float, ...]
    seconds: Line
    cpu_s: Line
    peak_mib: Line


def fit_line(size: Sequence[float], values: Sequence[float]) -> Line:
    """Fit a straight line by least squares.

    Parameters
    ----------
    size, values : sequences of float
        Of one length, at least two different sizes.

    Returns
    -------
    Line
        ``r_squared`` is 1 where the values do not vary.
    """
    x, y = np.asarray(size, np.float64), np.asarray(values, np.float64)
    slope, start = np.polyfit(x, y, 1)
    rest = float(((y - start - slope * x) ** 2).sum())
    variance = float(((y - y.mean()) ** 2).sum())
    return Line(
        values=tuple(values),
        slope=float(slope),
        start=float(start),
        r_squared=1.0 - rest / variance if variance > 0 else 1.0,
    )


def growth_of(results: Sequence[CaseResult]) -> list[Growth]:
    """Fit time and memory of this system to slices and to box volume.

    Parameters
    ----------
    results : sequence of CaseResult
        Of :data:`GROWTH_CASES`; others are passed over.

    Returns
    -------
    list of Growth
        By slices, then by box volume; without one of them where fewer than two of its cases
        gave figures.
    """
    by_name = {result.scan.name: result for result in results}
    found = [
        _grow(
            [by_name[case.name] for case in SLICE_CASES if case.name in by_name],
            axis="slices of 512×512, one body",
            unit="100 slices",
            measure=lambda result: result.scan.shape[0] / 100,
            tell=lambda low, high: f"{100 * low:.0f} to {100 * high:.0f} slices",
        ),
        _grow(
            [by_name[case.name] for case in BOX_CASES if case.name in by_name],
            axis="located box, 160 slices",
            unit="liter",
            measure=box_liters,
            tell=lambda low, high: f"{low:.1f} to {high:.1f} l",
        ),
    ]
    return [growth for growth in found if growth is not None]


def box_liters(result: CaseResult) -> float | None:
    """Give the volume of the box that phase one located, in l; None if there is none."""
    try:
        box = result.ours.measurements[-1].record["cases"][0]["box"]
        extent_mm = np.subtract(box["stop"], box["start"]) * np.asarray(result.scan.spacing_mm)
    except (LookupError, TypeError, ValueError):
        return None
    return float(np.prod(extent_mm)) / 1e6


def growth_table(growths: Sequence[Growth]) -> str:
    """Lay slopes out as a Markdown table, as in the README."""
    rows = [
        "| grows with | measured at | time | processor time | peak memory |",
        "|---|---|---|---|---|",
    ]
    for growth in growths:
        lines = (
            (growth.seconds, "s", 1),
            (growth.cpu_s, "CPU·s", 1),
            (growth.peak_mib, "MiB", 0),
        )
        cells = [growth.axis, growth.measured_at]
        cells += [
            f"{line.start:.{digits}f} {unit} {'-' if round(line.slope, digits) < 0 else '+'} "
            f"{abs(line.slope):.{digits}f} per {growth.unit} (R² {line.r_squared:.2f})"
            for line, unit, digits in lines
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _grow(
    results: Sequence[CaseResult],
    *,
    axis: str,
    unit: str,
    measure: Callable[[CaseResult], float | None],
    tell: Callable[[float, float], str],
) -> Growth | None:
    points = [
        (size, result.ours.seconds, cpu_s, peak)
        for result in results
        if (size := measure(result)) is not None
        and (cpu_s := result.ours.cpu_area_s) is not None
        and (peak := result.ours.peak_mib) is not None
    ]
    if len({size for size, *_ in points}) < 2:
        return None
    sizes, seconds, cpu_times, peaks = zip(*points, strict=True)
    return Growth(
        axis=axis,
        unit=unit,
        measured_at=tell(min(sizes), max(sizes)),
        size=sizes,
        seconds=fit_line(sizes, seconds),
        cpu_s=fit_line(sizes, cpu_times),
        peak_mib=fit_line(sizes, peaks),
    )
