"""Time the system on phantom scans and check its memory.

The container image is run with 8 GiB of memory, no network and a read-only root;
where it is not there, this installation is timed instead. Times include start-up.

Exit code: 0 if every scan was segmented within 8 GiB, 1 if not, 2 wrong use.
"""

import argparse
import tempfile
from pathlib import Path

from app.errors import UsageError

HELP = "time the container image, or this installation, on phantom scans and check its memory"

CASE_NAMES = ("median160", "headline597", "long1338")
BUDGET_GIB = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--case",
        choices=CASE_NAMES,
        action="append",
        help="phantom to time, repeatable (default: median160 and headline597, after their slices)",
    )
    parser.add_argument(
        "--image", default="abdomen-cascade:latest", help="image to run (default: %(default)s)"
    )
    parser.add_argument("--docker", default="docker", help="Docker client (default: %(default)s)")
    parser.add_argument(
        "--local", action="store_true", help="run this installation, even where the image is there"
    )
    parser.add_argument(
        "--phantoms",
        type=Path,
        metavar="DIR",
        help="keep the phantoms here for the next time (default: make them anew)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("benchmark.json"),
        metavar="FILE",
        help="where the figures are written (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Time each case, write the figures down and judge them.

    Returns
    -------
    int
        0 if every case was segmented within the memory budget, 1 if not.
    """
    from app.benchmark.cases import CASES, make_phantom
    from app.benchmark.probe import describe_machine, image_is_ready, run_image, run_local
    from app.benchmark.report import as_table, misses, write_json

    wanted = arguments.case or CASE_NAMES[:2]
    cases = [case for case in CASES if case.name in wanted]
    in_image = not arguments.local and image_is_ready(arguments.docker, arguments.image)
    if not arguments.output.parent.is_dir():
        raise UsageError(f"--output {arguments.output}: no folder {arguments.output.parent}")
    system = f"image {arguments.image}" if in_image else "local installation"
    print(f"Timing the {system}; memory budget {BUDGET_GIB} GiB")

    measurements = []
    with tempfile.TemporaryDirectory() as scratch:
        for case in cases:
            scans = make_phantom(case, arguments.phantoms or Path(scratch))
            results = Path(scratch) / case.name / "results"
            results.mkdir(parents=True)
            if in_image:
                measured = run_image(
                    case.name,
                    docker=arguments.docker,
                    image=arguments.image,
                    memory=f"{BUDGET_GIB}g",
                    scans=scans,
                    results=results,
                )
            else:
                measured = run_local(
                    case.name, memory=f"{BUDGET_GIB}GiB", scans=scans, results=results
                )
            measurements.append(measured)

    write_json(
        arguments.output,
        measurements,
        {"system": system, "machine": describe_machine(), "budget_gib": BUDGET_GIB},
    )
    print(as_table(cases, measurements))
    print(f"Figures: {arguments.output}")
    missed = misses(measurements, budget_mib=BUDGET_GIB * 1024)
    for sentence in missed:
        print(f"MISSED  {sentence}")
    return 1 if missed else 0
