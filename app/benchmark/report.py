"""Figures as JSON and as a table, and whether they keep to the budget."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.benchmark.cases import BenchmarkCase
from app.benchmark.probe import Measurement


def misses(measurements: Sequence[Measurement], *, budget_mib: float) -> list[str]:
    """List what went wrong or over budget.

    Parameters
    ----------
    measurements : sequence of Measurement
        One for each case.
    budget_mib : float
        Most memory a case may take, in MiB.

    Returns
    -------
    list of str
        A sentence for each miss; empty if all is well.
    """
    found = []
    for measured in measurements:
        if measured.exit_code == 137:
            found.append(f"{measured.case}: ended by the kernel, out of memory")
        elif measured.exit_code != 0:
            found.append(f"{measured.case}: ended with exit code {measured.exit_code}")
        elif measured.peak_mib is None:
            found.append(f"{measured.case}: the kernel does not tell the container's peak memory")
        elif measured.peak_mib > budget_mib:
            found.append(
                f"{measured.case}: {measured.peak_mib:.0f} MiB, over the {budget_mib:.0f} allowed"
            )
    return found


def as_table(cases: Sequence[BenchmarkCase], measurements: Sequence[Measurement]) -> str:
    """Lay the figures out as a Markdown table, one row a case."""
    rows = [
        "| case | voxels (x, y, z) | mm (x, y, z) | time | peak memory |",
        "|---|---|---|---|---|",
    ]
    for case, measured in zip(cases, measurements, strict=True):
        peak = "unknown" if measured.peak_mib is None else f"{measured.peak_mib / 1024:.2f} GiB"
        cells = (case.name, case.size_xyz, case.spacing_xyz, f"{measured.wall_s:.1f} s", peak)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def write_json(path: Path, measurements: Sequence[Measurement], about: Mapping[str, Any]) -> None:
    """Write the figures and what they were measured on.

    Parameters
    ----------
    path : Path
        File to write.
    measurements : sequence of Measurement
        One for each case.
    about : mapping
        What else the file says: machine, image, budget; ready for JSON.
    """
    record = {**about, "cases": [asdict(measured) for measured in measurements]}
    path.write_text(json.dumps(record, indent=2) + "\n")
