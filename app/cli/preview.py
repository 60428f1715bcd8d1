"""Draw a picture of each label map over its scan.

Three planes where most organs show, in the soft-tissue window, the organs
in color, with their volumes below. For looking at, not for measuring.
"""

import argparse
import logging
from pathlib import Path

from app.errors import CascadeError, UsageError

HELP = "draw a picture of each label map over its scan"

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="DIR|FILE",
        help="the scan or folder of scans that was given to predict",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="the folder that predict wrote to; each X.nii.gz in it gets an X.png",
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw every case that has both a scan and a label map.

    Returns
    -------
    int
        0 if all were drawn, 1 if some could not be.
    """
    from app.cli.cases import find_cases

    cases = find_cases(arguments.input, arguments.output)
    found = [case for case in cases if case.label_path.exists()]
    if not found:
        raise UsageError(f"--output {arguments.output}: no label map of {arguments.input} in it")
    num_failed = 0
    for case in found:
        picture_path = case.label_path.with_name(f"{case.name}.png")
        try:
            draw_case(case.scan_path, case.label_path, picture_path)
        except (CascadeError, OSError) as error:
            logger.error("%s", error)
            num_failed += 1
            continue
        print(f"result   {case.label_path.resolve()}")
        print(f"picture  {picture_path.resolve()}")
    return 1 if num_failed else 0


def draw_case(scan_path: Path, labels_path: Path, picture_path: Path) -> None:
    """Draw one scan with its label map.

    Raises
    ------
    UsageError
        If the two do not lie on the same grid.
    """
    import numpy as np

    from app.imaging.io import read_scan
    from app.imaging.picture import draw_picture

    scan, _ = read_scan(scan_path)
    labels, _ = read_scan(labels_path)
    if labels.array.shape != scan.array.shape:
        raise UsageError(
            f"{labels_path}: {labels.array.shape} voxels, its scan {scan_path} has "
            f"{scan.array.shape}; segment it again"
        )
    picture = draw_picture(
        scan.array.astype(np.int16, copy=False),
        labels.array.astype(np.uint8),
        scan.geometry.spacing_mm,
        title=scan_path.name,
    )
    picture.save(picture_path)
