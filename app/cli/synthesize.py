"""Make phantom CT scans with their label maps, to try the system where no scan is at hand.

A phantom is a computed abdomen: 13 organs in a body with fat, muscle, bones, lungs
and bowel, seen by a computed scanner. Nothing in it comes from a patient. The same
seed gives the same body, whatever the size and spacing of the scan.

In DIR, scans go to images/phantom_0001_0000.nii.gz and on, their label maps to
labels/phantom_0001.nii.gz and on. If --output names a file, one scan is written there.

With --bank and --manifest, scans of the patients held out from training are made instead, at
the slice spacing and field of view of the patients' own scans: what the weights are scored on.
"""

import argparse
import re
from pathlib import Path

from app.cli.numbers import at_least
from app.errors import UsageError

HELP = "make phantom CT scans with their label maps"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR|FILE",
        help="folder for images/ and labels/, or the scan to write, such as case_0000.nii.gz",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="label map to write, if --output names a file"
    )
    parser.add_argument(
        "--size",
        type=_three_sizes,
        default=(512, 512, 160),
        metavar="X[xYxZ]",
        help="voxels along x, y and z of the body: left, back, head (default: 512x512x160)",
    )
    parser.add_argument(
        "--spacing",
        type=_three_steps,
        default=(0.8, 0.8, 2.5),
        metavar="X[xYxZ]",
        help="voxel spacing along x, y and z, in mm (default: 0.8x0.8x2.5)",
    )
    parser.add_argument(
        "--orientation",
        default="LPS",
        metavar="ABC",
        help="where the stored axes point: any of the 48, such as RAS (default: LPS)",
    )
    parser.add_argument(
        "--seed",
        type=at_least(0),
        default=0,
        metavar="N",
        help="first patient to make (default: 0)",
    )
    parser.add_argument(
        "--count",
        type=at_least(1),
        metavar="N",
        help="how many, one seed each (default: 1; with --bank: all)",
    )
    parser.add_argument(
        "--phase",
        choices=("none", "arterial", "portal", "late"),
        help="contrast phase (default: drawn by the seed)",
    )
    parser.add_argument(
        "--bank",
        type=Path,
        metavar="DIR",
        help="bodies, from `python -m app bank`; --count is then the most patients",
    )
    parser.add_argument(
        "--manifest", type=Path, metavar="FILE", help="the anatomies' manifest.json, for --bank"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make and write all phantoms; see the module's description.

    Returns
    -------
    int
        0.
    """
    return _held_out(arguments) if arguments.bank else _phantoms(arguments)


def _held_out(arguments: argparse.Namespace) -> int:
    from app.data.held_out import write_held_out

    if arguments.manifest is None:
        raise UsageError("--bank needs --manifest: it says who was held out from training")
    for path in write_held_out(
        arguments.bank,
        arguments.manifest,
        arguments.output,
        limit=arguments.count,
        seed=arguments.seed,
    ):
        print(path, flush=True)
    return 0


def _phantoms(arguments: argparse.Namespace) -> int:
    from app.synthesis.files import parse_orientation, store, write_phantom
    from app.synthesis.phantom import make_phantom

    cases = _paths(arguments)
    orientation = parse_orientation(arguments.orientation)
    size_z, size_y, size_x = arguments.size[::-1]
    step_z, step_y, step_x = arguments.spacing[::-1]
    spacing_mm = (step_z, step_y, step_x)
    for i, (scan_path, labels_path) in enumerate(cases):
        seed = arguments.seed + i
        scan, labels = make_phantom(
            shape=(size_z, size_y, size_x), spacing_mm=spacing_mm, seed=seed, phase=arguments.phase
        )
        # The label map first, so that its memory is free when the larger scan is written.
        if labels_path is not None:
            write_phantom(store(labels, spacing_mm, orientation), labels_path)
        del labels
        write_phantom(store(scan, spacing_mm, orientation), scan_path)
        del scan
        print(f"seed {seed}: {scan_path}" + (f", labels {labels_path}" if labels_path else ""))
    source = cases[0][0] if len(cases) == 1 else cases[0][0].parent
    print(f"Next: python -m app predict --input {source} --output LABELS")
    return 0


def _paths(arguments: argparse.Namespace) -> list[tuple[Path, Path | None]]:
    """Name each case's scan and label map."""
    from app.imaging.io import WRITTEN_SUFFIXES

    output: Path = arguments.output
    count: int = arguments.count or 1
    if output.name.lower().endswith(WRITTEN_SUFFIXES):
        if count > 1:
            raise UsageError(f"--output {output}: a folder expected where --count is above 1")
        if arguments.labels is not None and arguments.labels.resolve() == output.resolve():
            raise UsageError(f"--labels {arguments.labels}: would be replaced by the scan")
        return [(output, arguments.labels)]
    if arguments.labels is not None:
        raise UsageError(f"--labels {arguments.labels}: only where --output names a file")
    if output.exists() and not output.is_dir():
        raise UsageError(
            f"--output {output}: neither a folder nor a name ending in "
            f"{', '.join(WRITTEN_SUFFIXES)}"
        )
    return [
        (
            output / "images" / f"phantom_{i:04d}_0000.nii.gz",
            output / "labels" / f"phantom_{i:04d}.nii.gz",
        )
        for i in range(1, count + 1)
    ]


def _parts(text: str, pattern: str) -> list[str]:
    parts = re.split("[x,]", text.lower())
    if len(parts) == 1:
        parts *= 3
    if len(parts) != 3 or not all(re.fullmatch(pattern, part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form XxYxZ")
    return parts


def _three_sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in _parts(text, r"\d+"))
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: each size must be at least 1")
    return sizes


def _three_steps(text: str) -> tuple[float, ...]:
    steps = tuple(float(part) for part in _parts(text, r"\d+(\.\d*)?|\.\d+"))
    if min(steps) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: each step must be above 0")
    return steps
