"""Measure what the system costs: time, memory, processors, beside the published pipeline.

Each scan is segmented by a fresh container (8 GiB of memory, no network, a read-only
root), start-up included; where there is no image, by this installation. Scans are
phantoms of the published sizes, or your own with --input.

With --against another system segments the same scan in turn with this one:
  reference    the published pipeline, plainly built with torch and MONAI
  a command    such as "other-tool -i {input} -o {output}": {input} is a folder that
               holds one scan, {output} an empty one for its label map. It is measured
               with all processes it starts; what it leaves to a daemon is not seen
--weights serves the reference and this installation; an image holds its own. One built
from other weights than the reference's is told, and makes the exit code 1.

Scans of --input may be all that `predict` reads. Each is laid out for every system alike, as
X_0000.nii.gz in HU on its own grid, alone in a folder; one that cannot be read is told.

Budgets are checked: memory always, time as a share of the reference's. Written are FILE,
and in the folder of its name without .json every run's samples (CSV), a plot for each
case (PNG) and the tables (tables.md). Times and areas are medians over the runs, peaks are
the highest.

Exit code: 0 within all budgets, 1 a run failed or missed a budget, 2 wrong use.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from app.cli.numbers import at_least, positive_number
from app.cli.predict import add_weights_argument
from app.errors import InputError, OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.benchmark.cases import PhantomCase, Scan
    from app.benchmark.compare import CaseResult, Runs
    from app.benchmark.systems import System

HELP = "measure time and memory, beside the published pipeline, and check budgets"

CASE_NAMES = ("thick51", "median160", "headline597", "long1338")
DEFAULT_CASES = CASE_NAMES[:3]
CAP_GIB = 8
REFERENCE = "reference"
TABLES_NAME = "tables.md"

_Waiting: TypeAlias = "tuple[str, Callable[[Path], Scan]]"
"""Name of a case, and what lays its scan into a folder."""


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
        "--instructions",
        choices=("all", "avx2"),
        default="all",
        help="avx2 hides AVX-512 and bf16 from both, as on a laptop without them; matrix products "
        "of OpenVINO, and NumPy, use them all the same (default: %(default)s)",
    )
    systems.add_argument(
        "--repeat",
        type=at_least(1),
        default=1,
        metavar="N",
        help="runs of each (default: %(default)s)",
    )
    results = parser.add_argument_group("budgets and results")
    results.add_argument(
        "--memory-budget",
        type=positive_number,
        metavar="MIB",
        help="most memory of a run (default: the case's own, else 8192)",
    )
    results.add_argument(
        "--time-budget",
        type=positive_number,
        metavar="RATIO",
        help="most time, as a share of the other system's (default: of the reference's, the "
        "case's own, from 0.5 down to 0.3 in bf16, 0.75 to 0.5 in f32)",
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
    from app.benchmark.compare import compare
    from app.benchmark.report import step_table

    _check(arguments)
    ours, theirs = _systems(arguments)
    waiting = _waiting(arguments)
    weights, missed = _compare_weights(arguments, ours, theirs)
    print(f"Measuring {ours.name}" + (f" in turn with {theirs.name}" if theirs else ""), flush=True)
    for sentence in missed:
        print(sentence, flush=True)
    results: list[CaseResult] = []
    for name, lay_out in waiting:
        # One scan at a time, so that a whole folder of them never lies there twice.
        with tempfile.TemporaryDirectory() as scratch:
            try:
                scan = lay_out(Path(scratch))
            except (InputError, OutputError, MemoryError, OSError) as error:
                missed.append(f"{name}: not measured: {error}")
                print(missed[-1], flush=True)
            else:
                results.append(
                    compare(scan, ours, theirs, repeat=arguments.repeat, scratch=Path(scratch))
                )
                missed += _judge(arguments, results[-1])
                print(_as_line(results[-1]), flush=True)
        # After every scan, so that nothing finished is lost.
        _write(arguments, ours, theirs, results, {"weights": weights, "missed": missed})
    if results:
        print("\n" + _tables(arguments, results))
        print(f"{step_table(results)}\n".lstrip())
    if arguments.growth:
        _draw_growth(arguments.output, results)
    folder = _curves_folder(arguments.output)
    print(f"Written: {arguments.output}; samples, plots and {TABLES_NAME} in {folder}")
    for sentence in missed:
        print(f"MISSED  {sentence}")
    return 1 if missed else 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.output.suffix != ".json":
        raise UsageError(f"--output {arguments.output}: a name that ends in .json expected")
    chosen = [flag for flag in ("cases", "input", "growth") if getattr(arguments, flag)]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} exclude each other; give one of them")
    if arguments.references is not None and arguments.input is None:
        raise UsageError(f"--references {arguments.references}: only with --input")
    if arguments.time_budget is not None and arguments.against is None:
        raise UsageError("--time-budget is a share of another system's time; add --against")
    _check_output(arguments.output)


def _check_output(output: Path) -> None:
    """Make sure, before anything is measured, that figures and curves can be written."""
    folder = _curves_folder(output)
    try:
        for needed in (output.parent, folder):
            needed.mkdir(parents=True, exist_ok=True)
            probe = needed / f".partial-{os.getpid()}-probe"
            probe.touch()
            probe.unlink()
        if output.exists():
            output.open("a").close()
    except OSError as error:
        raise OutputError(
            f"--output {output}: it, or the folder {folder}, cannot be made or written to ({error})"
        ) from error


def _systems(arguments: argparse.Namespace) -> "tuple[System, System | None]":
    """Choose what is measured, and what in turn with it."""
    from app.benchmark.systems import (
        AVX2_ALONE,
        Command,
        Image,
        local_installation,
        parse_command,
        reference,
    )

    image = Image(docker=arguments.docker, image=arguments.image, memory=f"{CAP_GIB}g")
    ours: Command | Image
    if arguments.system is not None:
        ours = parse_command(arguments.system)
    elif not arguments.local and image.is_ready():
        ours = image
    else:
        ours = local_installation(memory=f"{CAP_GIB}GiB", weights=arguments.weights)
    theirs: Command | None = None
    if arguments.against == REFERENCE:
        theirs = reference(weights=arguments.weights)
    elif arguments.against is not None:
        theirs = parse_command(arguments.against)
    for system in (ours, theirs):
        if system is not None:
            system.check()
    if arguments.instructions == "avx2":
        ours = replace(ours, environment=AVX2_ALONE)
        theirs = theirs and replace(theirs, environment=AVX2_ALONE)
    return ours, theirs


def _compare_weights(
    arguments: argparse.Namespace, ours: "System", theirs: "System | None"
) -> tuple[dict[str, Any], list[str]]:
    """Find out what both systems' networks come from, and whether that is the same.

    Figures beside the reference mean little where it runs other networks. A command of the
    user's own cannot be asked, and is not judged.
    """
    from app.benchmark.systems import weights_differ

    loaded = theirs.checkpoints() if theirs else None
    # Asking an image takes a container; what stands alone need not be compared.
    told = ours.checkpoints() if loaded is not None else None
    missed = ""
    if loaded is not None and arguments.system is None:
        missed = weights_differ(told, loaded, ours.name)
    return {"ours": told, "reference": loaded}, [f"weights: {missed}"] if missed else []


def _waiting(arguments: argparse.Namespace) -> "list[_Waiting]":
    """List the scans, to be laid out or made when their turn comes."""
    from app.benchmark.cases import find_truths, lay_out, pick_cases
    from app.benchmark.growth import GROWTH_CASES
    from app.cli.cases import find_cases, printable

    if arguments.input is not None:
        truths = find_truths(arguments.references) if arguments.references else {}
        # The very scans that `predict` would find; label maps go elsewhere, and not for long.
        found = find_cases(arguments.input, arguments.output / "labels")
        return [
            (
                printable(case.name),
                partial(lay_out, printable(case.name), case.scan_path, truths.get(case.name)),
            )
            for case in found
        ]
    names = arguments.cases.split(",") if arguments.cases else DEFAULT_CASES
    cases: Sequence[PhantomCase] = GROWTH_CASES if arguments.growth else pick_cases(names)
    return [(case.name, partial(_make_phantom, case, arguments.phantoms)) for case in cases]


def _make_phantom(case: "PhantomCase", kept: Path | None, scratch: Path) -> "Scan":
    from app.benchmark.cases import make_phantom

    return make_phantom(case, kept or scratch)


def _judge(arguments: argparse.Namespace, result: "CaseResult") -> list[str]:
    """List what a scan's runs missed of the budgets that were asked for, else of its own."""
    from app.benchmark.budget import misses, time_budget_of

    time_budget = arguments.time_budget
    if time_budget is None and arguments.against == REFERENCE:
        time_budget = time_budget_of(result)
    return misses(result, memory_budget_mib=arguments.memory_budget, time_budget=time_budget)


def _tables(arguments: argparse.Namespace, results: "list[CaseResult]") -> str:
    """Lay out all that the README shows, ready to be pasted."""
    from app.benchmark.growth import growth_of, growth_table
    from app.benchmark.report import cost_table, ratio_table

    heading = "phantom" if arguments.input is None else "scan"
    tables = [cost_table(results, heading)]
    if arguments.against is not None:
        other = "reference" if arguments.against == REFERENCE else "other"
        tables.append(ratio_table(results, heading, other))
    if arguments.growth and (growths := growth_of(results)):
        tables.append(growth_table(growths))
    return "\n\n".join(tables) + "\n"


def _write(
    arguments: argparse.Namespace,
    ours: "System",
    theirs: "System | None",
    results: "list[CaseResult]",
    known: dict[str, Any],
) -> None:
    """Write all that is known so far; of the last result also its curves."""
    from app.benchmark.budget import CAP_MIB, MEMORY_BUDGETS_MIB, TIME_BUDGETS
    from app.benchmark.growth import growth_of
    from app.benchmark.machine import describe_machine
    from app.benchmark.report import write_json
    from app.imaging.io import atomic_path

    memory_budget, time_budget = arguments.memory_budget, arguments.time_budget
    if memory_budget is None:
        memory_budget = {**MEMORY_BUDGETS_MIB, "others": CAP_MIB}
    if time_budget is None and arguments.against == REFERENCE:
        time_budget = TIME_BUDGETS
    about: dict[str, Any] = {
        "system": ours.name,
        "against": theirs.name if theirs else None,
        "machine": describe_machine(),
        "instructions": arguments.instructions,
        **_told_about([result.ours for result in results]),
        "reference": _told_about([result.theirs for result in results if result.theirs]),
        "budgets": {"memory_mib": memory_budget, "time_ratio": time_budget},
        **known,
    }
    if arguments.growth:
        about["growth"] = [asdict(growth) for growth in growth_of(results)]
    write_json(arguments.output, results, about)
    tables = _tables(arguments, results)
    with atomic_path(_curves_folder(arguments.output) / TABLES_NAME) as partial_path:
        partial_path.write_text(tables, encoding="utf-8")
    if results:
        _draw_curves(arguments.output, results[-1])


def _draw_curves(output: Path, result: "CaseResult") -> None:
    """Write the curves of a scan's runs and draw them."""
    from app.benchmark.plots import plot_curves
    from app.benchmark.report import write_curves

    folder = _curves_folder(output)
    write_curves(folder, result)
    plot_curves(folder / f"{result.scan.name}.png", result)


def _told_about(runs_of_scans: "Sequence[Runs]") -> dict[str, Any]:
    """Pick from the first record that a system left what its figures depend on."""
    measured = [run for runs in runs_of_scans for run in runs.measurements]
    record = next((run.record for run in measured if run.record), {})
    return {name: record.get(name) for name in ("version", "versions", "precision", "threads")}


def _draw_growth(output: Path, results: "list[CaseResult]") -> None:
    """Draw how cost grows, where enough was measured."""
    from app.benchmark.growth import growth_of
    from app.benchmark.plots import plot_growth

    if growths := growth_of(results):
        plot_growth(_curves_folder(output) / "growth.png", growths)


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
