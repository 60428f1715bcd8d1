"""Draw a picture of each label map over its scan, and a page to look through all of them.

Each X.nii.gz gets an X.png: three planes where most organs show, the organs from
the front, and their volumes. report.html holds a table of all cases, the pictures
and a viewer, in one file that needs no network. For looking at, not for measuring.
`predict --preview` does the same while it segments.
"""

import argparse
import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.cases import Case, find_cases
from app.errors import CascadeError, UsageError

if TYPE_CHECKING:
    from app.report.writer import ReportWriter

HELP = "draw a picture of each label map over its scan, and a page for all of them"

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
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
        help="the folder that predict wrote to; pictures and page are written there",
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw every case that has both a scan and a label map.

    Returns
    -------
    int
        0 if all were drawn, 1 if some could not be.
    """
    from app.report.writer import REPORT_NAME, ReportWriter

    cases = find_cases(arguments.input, arguments.output)
    if not any(case.label_path.exists() for case in cases):
        raise UsageError(f"--output {arguments.output}: no label map of {arguments.input} in it")
    record = read_record(arguments.output)
    entries = {entry["name"]: entry for entry in record.get("cases", [])}
    num_failed = 0
    with ReportWriter(arguments.output) as report:
        for case in cases:
            entry = entries.get(case.name)
            if not case.label_path.exists():
                if entry is not None:
                    report.add_failed(entry)
                continue
            picture_path = add_case(report, case, entry or {"name": case.name, "status": "ok"})
            num_failed += picture_path is None
            if picture_path is not None:
                print(f"result   {case.label_path.resolve()}")
                print(f"picture  {picture_path.resolve()}")
        report.write(record)
    print(f"report   {(arguments.output / REPORT_NAME).resolve()}")
    return 1 if num_failed else 0


@contextlib.contextmanager
def batch_report(
    folder: Path, record: dict[str, Any], hand_over: Callable[[Path], None]
) -> Iterator[Callable[[Case, dict[str, Any]], None]]:
    """Draw cases while a batch goes on, and write the page when it ends, however it ends.

    Parameters
    ----------
    folder : Path
        The batch's output folder.
    record : dict
        The batch's record, as it is when the batch ends.
    hand_over : callable
        Told of each file written.

    Yields
    ------
    callable
        To be called with each case and its entry of the record.
    """
    from app.report.writer import ReportWriter

    with ReportWriter(folder) as report:

        def draw(case: Case, entry: dict[str, Any]) -> None:
            if entry["status"] != "ok":
                report.add_failed(entry)
            elif (picture_path := add_case(report, case, entry)) is not None:
                hand_over(picture_path)

        try:
            yield draw
        finally:
            try:
                hand_over(report.write(record))
            except CascadeError as error:  # the label maps matter more
                logger.error("%s", error)


def add_case(report: "ReportWriter", case: Case, entry: dict[str, Any]) -> Path | None:
    """Draw one case; what cannot be drawn is said and left out, and the others go on.

    Returns
    -------
    Path or None
        The picture.
    """
    try:
        return report.add(entry, case.scan_path, case.label_path)
    except (CascadeError, OSError, MemoryError) as error:
        logger.error("no picture of %s: %s", case.name, error)
        report.add_undrawn(entry, str(error))
        return None


def read_record(folder: Path) -> dict[str, Any]:
    """Read what ``predict`` noted about its batch; empty where there is nothing to read."""
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record
