"""Draw a picture of each label map over its scan, and a page to look through all of them.

Each X.nii.gz gets an X.png: three planes where most organs show, the organs from
the front, and their volumes. report.html holds a table of all cases, the pictures
and a viewer, in one file that needs no network. For looking at, not for measuring.
What run.json tells of a case is shown as long as its label map is the one that
predict wrote; one that was changed since is measured anew.
`predict --preview` does the same while it segments.
"""

import argparse
import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from app.cli.cases import Case, find_cases, printable
from app.cli.extras import is_there
from app.cli.folders import prepare_folder
from app.cli.record import RECORD_NAME, is_unchanged
from app.errors import CascadeError, UsageError
from app.manifest import sha256_of

if TYPE_CHECKING:
    from app.report.writer import ReportWriter

HELP = "draw a picture of each label map over its scan, and a page for all of them"

NO_PICTURE = "no picture: "
"""How the warning of a case begins that could not be drawn."""

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
    from app.report.page import REPORT_NAME
    from app.report.writer import ReportWriter

    cases = find_cases(arguments.input, arguments.output)
    if not any(is_there(case.label_path) for case in cases):
        raise UsageError(f"--output {arguments.output}: no label map of {arguments.input} in it")
    prepare_folder(arguments.output)
    record = read_record(arguments.output)
    entries = {entry["name"]: entry for entry in record.get("cases", [])}
    num_failed = 0
    with ReportWriter(arguments.output) as report:
        for case in cases:
            entry = entries.get(case.name)
            if not is_there(case.label_path):
                if entry is not None:
                    report.add_undrawn(entry)
                continue
            picture_path = add_case(report, case, _current(entry, case), record.get("organs"))
            num_failed += picture_path is None
            if picture_path is not None:
                print(printable(f"result   {case.label_path.resolve()}"))
                print(printable(f"picture  {picture_path.resolve()}"))
        report.write(record)
    print(printable(f"report   {(arguments.output / REPORT_NAME).resolve()}"))
    return 1 if num_failed else 0


class BatchReport:
    """Draw cases while a batch goes on, and write the page when it ends, however it ends.

    Neither a picture nor the page is worth a label map: what cannot be drawn or
    written is told, and the batch goes on.

    Parameters
    ----------
    folder : Path
        The batch's output folder.
    record : dict
        The batch's record, as it is when the page is written.
    hand_over : callable
        Told of each file written.

    Attributes
    ----------
    page : Path or None
        The page, once it is written.
    """

    def __init__(
        self, folder: Path, record: dict[str, Any], hand_over: Callable[[Path], None]
    ) -> None:
        from app.report.writer import ReportWriter

        self._record = record
        self._hand_over = hand_over
        self._report = ReportWriter(folder)
        self.page: Path | None = None

    def __enter__(self) -> "BatchReport":
        """Give the report itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the page, and remove what was laid aside for it."""
        with self._report:
            self.write()

    def draw(self, case: Case, entry: dict[str, Any]) -> None:
        """Draw a case.

        Parameters
        ----------
        case : Case
            The case.
        entry : dict
            Its entry of the record; gets a warning if the picture fails.
        """
        if entry["status"] != "ok":
            self._report.add_undrawn(entry)
        elif not is_unchanged(case.scan_path, entry):
            why = "the scan changed, or was removed, after it was segmented"
            logger.error("no picture of %s: %s", case.name, why)
            entry["warnings"] = [*entry["warnings"], NO_PICTURE + why]
            self._report.add_undrawn(entry)
        elif (picture_path := add_case(self._report, case, entry)) is not None:
            self._hand_over(picture_path)

    def write(self) -> None:
        """Write the page about the cases so far; a thread that ends the batch may do so, too."""
        try:
            self.page = self._report.write(self._record)
            self._hand_over(self.page)
        except CascadeError as error:
            logger.error("%s", error)
        except Exception as error:  # the label maps matter more
            logger.debug("unexpected error", exc_info=True)
            logger.error("no page: unexpected %s: %s", type(error).__name__, error)


def add_case(
    report: "ReportWriter",
    case: Case,
    entry: dict[str, Any],
    organs: list[str] | None = None,
) -> Path | None:
    """Draw one case; what cannot be drawn is said and left out, and the others go on.

    Parameters
    ----------
    report : ReportWriter
        Gets the picture, or the case without one.
    case : Case
        The case.
    entry : dict
        Its entry of the record. A warning is added if there is no picture, and one
        of an earlier try taken out.
    organs : list of str, optional
        Organs that were asked for; all by default.

    Returns
    -------
    Path or None
        The picture.
    """
    told = entry.get("warnings")
    warnings = [str(warning) for warning in told] if isinstance(told, list) else []
    entry["warnings"] = [warning for warning in warnings if not warning.startswith(NO_PICTURE)]
    try:
        return report.add(entry, case.scan_path, case.label_path, organs=organs)
    except (CascadeError, OSError) as error:
        why = str(error)
    except MemoryError as error:
        why = f"memory ran out ({error})"
    except Exception as error:  # a picture is never worth the batch
        logger.debug("unexpected error", exc_info=True)
        why = f"unexpected {type(error).__name__}: {error}"
    logger.error("no picture of %s: %s", case.name, why)
    entry["warnings"].append(NO_PICTURE + why)
    report.add_undrawn(entry)
    return None


def read_record(folder: Path) -> dict[str, Any]:
    """Read what ``predict`` noted about its batch; empty where there is nothing to read.

    Parameters
    ----------
    folder : Path
        The batch's output folder.

    Returns
    -------
    dict
        Its ``cases``, if it has any, all have a name and a status.
    """
    path = folder / RECORD_NAME
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s: left out: %s", path, error)
        return {}
    if not isinstance(record, dict) or not isinstance(record.get("cases"), list):
        logger.warning("%s: left out: it is not the record of a run", path)
        return {}
    cases = [entry for entry in record["cases"] if _is_entry(entry)]
    return record | {"cases": cases}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(name), str) for name in ("name", "status")
    )


def _current(entry: dict[str, Any] | None, case: Case) -> dict[str, Any]:
    """Give what is known of the label map that lies there now."""
    if entry is None:
        return {"name": case.name, "status": "ok"}
    with contextlib.suppress(OSError):  # it is told of when the label map is read
        if entry.get("output_sha256") == sha256_of(case.label_path):
            return entry
    kept = {name: entry[name] for name in ("name", "status", "input", "error") if name in entry}
    warning = "the label map is not the one that run.json tells of; it was measured anew"
    return kept | {"warnings": [warning]}
