"""Segment the abdominal organs in every CT scan of a folder.

The scan X_0000.nii.gz (or X.nii.gz, X.nii, X.mha, X.nrrd), or the DICOM series in
folder X, becomes the label map X.nii.gz: same grid, same orientation, values 0 to
13. Each CT series of a folder, and of those below it, is a scan. Beside the label maps,
run.json tells for each scan how it went: seconds, memory, organ volumes, warnings.
labels.json names the values, labels.ctbl is a color table for 3D Slicer.
A scan that cannot be segmented is reported and the others go on.

Exit code: 0 all good, 1 some scan failed, 2 wrong use, 3 all good, but standard output
could not be written. Not for clinical use.
"""

import argparse
from pathlib import Path

from app.cli.extras import add_extra_arguments
from app.cli.numbers import at_least
from app.cli.progress import STYLES
from app.config import DEFAULT_WEIGHTS

HELP = "segment the abdominal organs in every CT scan of a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "--input", type=Path, required=True, metavar="DIR|FILE", help="folder of scans, or one scan"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for the label maps"
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        help="refuse scans that would need more, such as 8GiB (default: the container's own "
        "limit, else 8GiB; never more than that limit)",
    )
    parser.add_argument(
        "--threads",
        type=at_least(1),
        metavar="N",
        help="processor threads (default: all available)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "f32", "bf16"),
        default="auto",
        help="number format of phase two; auto takes bf16 where the processor computes in "
        "it (default: auto)",
    )
    parser.add_argument(
        "--preview",
        action="store_true",
        help="draw a picture of each case, and write report.html with a table and a viewer",
    )
    parser.add_argument(
        "--progress",
        choices=STYLES,
        default="auto",
        help="auto: a bar on a terminal, else a line a scan; json: an object a line for "
        "programs, with case, step, fraction and seconds left (default: auto)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave alone what an earlier run of the same version, weights and choices has "
        "finished, by its run.json and checksums",
    )
    add_extra_arguments(parser)
    add_weights_argument(parser)


def add_weights_argument(parser: argparse.ArgumentParser) -> None:
    """Describe the argument of every command that reads the networks."""
    parser.add_argument(
        "--weights",
        type=Path,
        default=DEFAULT_WEIGHTS,
        metavar="DIR",
        help="folder with locate and segment (default: the weights that came with the program)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Segment all scans; see the module's description."""
    from app.cli.batch import run_batch

    return run_batch(arguments)
