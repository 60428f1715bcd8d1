"""Measure what the system costs: time, memory, processors, beside the published pipeline.

Each scan is segmented by a fresh container (8 GiB of memory, no network, a read-only
root), start-up included; where there is no image, by this installation. Scans are
phantoms of the published sizes, or your own with --input.

With --against another system segments the same scan in turn with this one:
  reference    the published pipeline, plainly built with torch and MONAI
  a command    such as "other-tool -i {input} -o {output}": {input} is a folder that
               holds one scan, {output} an empty one for its label map. It is measured
               with all processes it starts; what it leaves to a daemon is not seen
--weights serves the reference and this installation; an image holds its own.

Budgets are checked: memory always, time as a share of the reference's. Written are FILE,
and in the folder of its name without .json every run's samples (CSV) and a plot for each
case (PNG). Times and areas are medians over the runs, peaks are the highest.

Exit code: 0 within all budgets, 1 a run failed or missed a budget, 2 wrong use.
"""

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.predict import add_weights_argument
from app.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.benchmark.cases import Scan
    from app.benchmark.compare import CaseResult
    from app.benchmark.systems import System

HELP = "measure time and memory, beside the published pipeline, and check budgets"

CASE_NAMES = ("thick51", "median160", "headline597", "long1338")
DEFAULT_CASES = CASE_NAMES[:3]
CAP_GIB = 8
REFERENCE = "reference"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    scans = parser.add_argument_group("scans")
    scans.add_argument(
        "--cases",
        metavar="A,B",
        help=f"phantoms, of {', '.join(CASE_NAMES)} (default: {','.join(DEFAULT_CASES)})",
    )
    scans.add_argument("--input", type=Path, metavar="DIR", help="your own scans instead")
    scans.add_argument(
        "--references", type=Path, metavar="DIR", help="label maps of the scans in --input"
    )
    scans.add_argument(
        "--growth",
        action="store_true",
        help="seven phantoms instead, that tell how cost grows with slices and with box volume",
    )
    scans.add_argument(
        "--phantoms",
        type=Path,
        metavar="DIR",
        help="keep the phantoms here for the next time (default: make them anew)",
    )
    systems = parser.add_argument_group("systems")
    systems.add_argument(
        "--image", default="abdomen-cascade:latest", help="image to run (default: %(default)s)"
    )
    systems.add_argument("--docker", default="docker", help="Docker client (default: %(default)s)")
    systems.add_argument(
        "--local", action="store_true", help="run this installation, even where the image is there"
    )
    systems.add_argument(
        "--system",
        metavar="COMMAND",
        help="measure this command in place of this system, such as an earlier build",
    )
    systems.add_argument(
        "--against", metavar="reference|COMMAND", help="what to run in turn with this system"
    )
    systems.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="runs of each (default: %(default)s)"
    )
    results = parser.add_argument_group("budgets and results")
    results.add_argument(
        "--memory-budget",
        type=float,
        metavar="MIB",
        help="most memory of a run (default: the case's own, else 8192)",
    )
    results.add_argument(
        "--time-budget",
        type=float,
        metavar="RATIO",
        help="most time, as a share of the other system's "
        "(default: 0.5 of the reference's in bf16, 0.75 in f32)",
    )
    results.add_argument(
        "--output",
        type=Path,
        default=Path("benchmark.json"),
        metavar="FILE",
        help="where the figures are written (default: %(default)s)",
    )
    add_weights_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure each scan, write the figures down and judge them.

    Returns
    -------
    int
        0 if every run kept to its budgets, 1 if not.
    """
    from app.benchmark.budget import misses, time_budget_of
    from app.benchmark.compare import compare
    from app.benchmark.report import cost_table, ratio_table, step_table

    _check(arguments)
    ours, theirs = _systems(arguments)
    judges_time = arguments.against == REFERENCE
    print(f"Measuring {ours.name}" + (f" in turn with {theirs.name}" if theirs else ""), flush=True)
    results: list[CaseResult] = []
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for scan in _scans(arguments, scratch):
            result = compare(scan, ours, theirs, repeat=arguments.repeat, scratch=scratch)
            results.append(result)
            missed += misses(
                result,
                memory_budget_mib=arguments.memory_budget,
                time_budget=arguments.time_budget
                or (time_budget_of(result) if judges_time else None),
            )
            print(_as_line(result), flush=True)
            # After every scan, so that nothing finished is lost.
            _write(arguments, ours, theirs, results, missed)
    tables = [cost_table(results), step_table(results)]
    if theirs is not None:
        tables.insert(1, ratio_table(results))
    if arguments.growth:
        tables.append(_draw_growth(arguments.output, results))
    print("\n" + "\n\n".join(table for table in tables if table) + "\n")
    print(f"Written: {arguments.output}, samples and plots in {_curves_folder(arguments.output)}")
    for sentence in missed:
        print(f"MISSED  {sentence}")
    return 1 if missed else 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.output.suffix != ".json":
        raise UsageError(f"--output {arguments.output}: a name that ends in .json expected")
    if arguments.repeat < 1:
        raise UsageError(f"--repeat {arguments.repeat}: at least 1 expected")
    chosen = [flag for flag in ("cases", "input", "growth") if getattr(arguments, flag)]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} exclude each other; give one of them")
    if arguments.references is not None and arguments.input is None:
        raise UsageError(f"--references {arguments.references}: only with --input")
    if arguments.time_budget is not None and arguments.against is None:
        raise UsageError("--time-budget is a share of another system's time; add --against")
    try:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--output {arguments.output}: cannot be made ({error})") from error


def _systems(arguments: argparse.Namespace) -> "tuple[System, System | None]":
    """Choose what is measured, and what in turn with it."""
    from app.benchmark.systems import Image, local_installation, parse_command, reference

    image = Image(docker=arguments.docker, image=arguments.image, memory=f"{CAP_GIB}g")
    ours: System
    if arguments.system is not None:
        ours = parse_command(arguments.system)
    elif not arguments.local and image.is_ready():
        ours = image
    else:
        ours = local_installation(memory=f"{CAP_GIB}GiB", weights=arguments.weights)
    if arguments.against is None:
        return ours, None
    if arguments.against == REFERENCE:
        return ours, reference(weights=arguments.weights)
    return ours, parse_command(arguments.against)


def _scans(arguments: argparse.Namespace, scratch: Path) -> "Sequence[Scan]":
    """Find or make the scans."""
    from app.benchmark.cases import PhantomCase, find_scans, make_phantom, pick_cases
    from app.benchmark.growth import GROWTH_CASES

    if arguments.input is not None:
        return find_scans(arguments.input, arguments.references, scratch)
    names = arguments.cases.split(",") if arguments.cases else DEFAULT_CASES
    cases: Sequence[PhantomCase] = GROWTH_CASES if arguments.growth else pick_cases(names)
    return [make_phantom(case, arguments.phantoms or scratch) for case in cases]


def _write(
    arguments: argparse.Namespace,
    ours: "System",
    theirs: "System | None",
    results: "list[CaseResult]",
    missed: list[str],
) -> None:
    """Write all that is known so far; of the last result also its curves."""
    from app.benchmark.budget import CAP_MIB, MEMORY_BUDGETS_MIB, TIME_BUDGETS
    from app.benchmark.growth import growth_of
    from app.benchmark.machine import describe_machine
    from app.benchmark.plots import plot_curves
    from app.benchmark.report import write_curves, write_json

    first = results[0]
    theirs_record = first.theirs.measurements[0].record if first.theirs else {}
    about: dict[str, Any] = {
        "system": ours.name,
        "against": theirs.name if theirs else None,
        "machine": describe_machine(),
        **_told_about(first.ours.measurements[0].record),
        "reference": _told_about(theirs_record),
        "budgets": {
            "memory_mib": arguments.memory_budget or {**MEMORY_BUDGETS_MIB, "others": CAP_MIB},
            "time_ratio": arguments.time_budget
            or (TIME_BUDGETS if arguments.against == REFERENCE else None),
        },
        "missed": missed,
    }
    if arguments.growth:
        about["growth"] = [asdict(growth) for growth in growth_of(results)]
    write_json(arguments.output, results, about)
    folder = _curves_folder(arguments.output)
    folder.mkdir(exist_ok=True)
    write_curves(folder, results[-1])
    plot_curves(folder / f"{results[-1].scan.name}.png", results[-1])


def _told_about(record: dict[str, Any]) -> dict[str, Any]:
    """Pick from a run's own record what its figures depend on."""
    return {name: record.get(name) for name in ("version", "versions", "precision", "threads")}


def _draw_growth(output: Path, results: "list[CaseResult]") -> str:
    """Draw how cost grows; give the table, empty where too little was measured."""
    from app.benchmark.growth import growth_of, growth_table
    from app.benchmark.plots import plot_growth

    growths = growth_of(results)
    if not growths:
        return ""
    plot_growth(_curves_folder(output) / "growth.png", growths)
    return growth_table(growths)


def _curves_folder(output: Path) -> Path:
    return output.with_suffix("")


def _as_line(result: "CaseResult") -> str:
    """Tell at once what a scan took, before the tables at the end."""
    line = f"{result.scan.name}: {result.ours.seconds:.1f} s"
    if result.ours.peak_mib is not None:
        line += f", peak {result.ours.peak_mib:.0f} MiB"
    if result.theirs is not None:
        line += f"; {result.theirs.system}: {result.theirs.seconds:.1f} s"
        line += f", time ratio {result.time_ratio:.2f}"
    return line
