"""Measure the organs of label maps: volume, HU, extent, contact with the scan's edge.

Label maps are paired with scans by name: X_0000.nii.gz with X.nii.gz, whatever tool
made them. A row for every case and organ is written, with the units in the header;
what is not known, such as the HU of an organ that was not found, is left empty.

Exit code: 0 all measured, 1 some case failed, 2 wrong use.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.folders import prepare_folder
from app.errors import CascadeError, InputError, UsageError

if TYPE_CHECKING:
    from app.imaging.organ_statistics import OrganStatistics
    from app.outputs.organ_table import OrganTable

HELP = "measure the organs of label maps: a table of volume, HU and extent"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "--scans", type=Path, required=True, metavar="DIR|FILE", help="folder of scans, or one scan"
    )
    parser.add_argument(
        "--labels", type=Path, required=True, metavar="DIR|FILE", help="their label maps, or one"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("organs.csv"),
        metavar="FILE",
        help="table to write; rows of other cases in it stay (default: organs.csv)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure every pair of scan and label map.

    Returns
    -------
    int
        0 if all were measured, 1 if some could not be.
    """
    from app.outputs.organ_table import OrganTable

    pairs = find_pairs(arguments.scans, arguments.labels)
    prepare_folder(arguments.output.parent)
    table = OrganTable(arguments.output)
    num_failed = 0
    for case, scan_path, label_path in pairs:
        try:
            _measure_into(table, case, scan_path, label_path)
        except CascadeError as error:
            sys.stderr.write(f"error: {error}\n")
            num_failed += 1
    print(f"Written to {arguments.output}")
    return 1 if num_failed else 0


def _measure_into(table: "OrganTable", case: str, scan_path: Path, label_path: Path) -> None:
    """Write a case's rows; of one that cannot be measured those of an earlier run go."""
    try:
        organs = measure_pair(scan_path, label_path)
    except InputError:
        table.remove(case)  # they would look like those of the files that are there now
        raise
    table.put(case, organs)


def find_pairs(scans: Path, labels: Path) -> list[tuple[str, Path, Path]]:
    """Pair scans with label maps by name.

    Parameters
    ----------
    scans, labels : Path
        Two folders, or one scan and its label map.

    Returns
    -------
    list of (str, Path, Path)
        Name, scan and label map of each case, by name; scans without a label
        map are left out.

    Raises
    ------
    UsageError
        If there is no pair, both are one folder, or two label maps are of one scan.
    """
    from app.cli.cases import find_cases, scan_files
    from app.imaging.image_files import case_name

    if scans.is_dir() and labels.is_dir() and labels.samefile(scans):
        raise UsageError(f"--labels {labels}: the folder of the scans; keep label maps in another")
    cases = find_cases(scans, labels, flag="--scans")
    if len(cases) == 1 and labels.is_file():
        return [(case_name(labels), cases[0].scan_path, labels)]
    if not labels.is_dir():
        raise UsageError(f"--labels {labels}: no such folder; give one where --scans is one")
    names = {case.name for case in cases}
    named: dict[str, Path] = {}
    # Pictures and tables of `predict` lie beside its label maps.
    for path in scan_files(labels):
        name = case_name(path)
        if name in named and name in names:
            raise UsageError(
                f"--labels {labels}: {named[name].name} and {path.name} are both named as the "
                f"label map of {name}; keep one of them there"
            )
        named[name] = path
    pairs = [(case.name, case.scan_path, named[case.name]) for case in cases if case.name in named]
    if not pairs:
        raise UsageError(f"--labels {labels}: no label map is named as a scan of {scans}")
    return pairs


def measure_pair(scan_path: Path, label_path: Path) -> "list[OrganStatistics]":
    """Measure one label map on its scan.

    Raises
    ------
    InputError
        If one of the files cannot be used, or they lie on different grids.
    """
    from app.imaging.label_maps import read_pair
    from app.imaging.organ_statistics import measure_statistics

    scan, labels = read_pair(scan_path, label_path)
    return measure_statistics(scan.array, labels, scan.geometry)
