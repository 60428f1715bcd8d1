"""What `predict` is to compute and write besides all organs as label maps."""

import argparse
import contextlib
import errno
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.folders import check_dicom
from app.errors import InputError, OutputError, UsageError
from app.labels import ORGANS, values_of

if TYPE_CHECKING:
    from app.cascade.report import CaseReport
    from app.cli.cases import Case
    from app.outputs.boxes import BoxTable
    from app.outputs.organ_table import OrganTable

logger = logging.getLogger(__name__)

FORMATS = ("nifti", "seg.nrrd", "dicom-seg")
STATISTICS_NAME = "organs.csv"
CONFIDENCE_NAME = "confidence"


def add_extra_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments that choose what is computed and written."""
    parser.add_argument(
        "--organs",
        type=listed_names,
        metavar="A,B",
        help="only these organs in the results, such as liver,left_kidney (default: all 13)",
    )
    parser.add_argument(
        "--formats",
        type=listed_names,
        default=["nifti"],
        metavar="A,B",
        help=f"of {', '.join(FORMATS)}; NIfTI is always written (default: nifti)",
    )
    parser.add_argument(
        "--dicom",
        type=Path,
        metavar="DIR",
        help="for dicom-seg: folder of the DICOM series, or of one folder for each scan, "
        "named as the scan (default: the input, where it is a DICOM folder)",
    )
    parser.add_argument(
        "--statistics",
        action="store_true",
        help=f"write {STATISTICS_NAME}: volume, HU, extent of every organ of every scan",
    )
    parser.add_argument(
        "--confidence",
        action="store_true",
        help=f"write {CONFIDENCE_NAME}/X.nii.gz: how sure the network is of each voxel, 0 to 100",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="fewer patches, and no second look where the located box cuts an organ",
    )
    parser.add_argument(
        "--boxes-only",
        action="store_true",
        help="only find the abdomen: boxes.json with a box for each scan, no label maps",
    )


def check_format_names(formats: Sequence[str], known: Sequence[str]) -> None:
    """Refuse formats that there are not, or whose library is not installed.

    Raises
    ------
    UsageError
        If there is such a one.
    """
    unknown = [name for name in formats if name not in known]
    if unknown:
        raise UsageError(f"--formats {', '.join(unknown)}: known are {', '.join(known)}")
    if "dicom-seg" in formats and importlib.util.find_spec("highdicom") is None:
        raise UsageError(
            "--formats dicom-seg: needs the package highdicom, which is not installed here "
            "(the container image leaves it out); install requirements/run.txt and run it "
            "from there"
        )


class Extras:
    """What was asked for, and the tables it goes to.

    Parameters
    ----------
    arguments : Namespace
        As described by :func:`add_extra_arguments`; and ``output``.

    Attributes
    ----------
    organs : frozenset of int or None
        Label values to keep; None for all.
    fast : bool
        Whether accuracy is to be traded for time.
    table : OrganTable or None
        Where statistics go, if they are wanted.
    boxes : BoxTable or None
        Where boxes go, if they alone are wanted.
    confidence : Path or None
        Folder for images of confidence, if they are wanted.

    Raises
    ------
    UsageError
        If something is asked for that there is not, or that does not go together.
    InputError
        If a table of the output folder cannot be gone on with, or another's file has
        the name of one.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        from app.outputs.label_tables import check_label_tables
        from app.report.page import REPORT_NAME

        self.output: Path = arguments.output
        self.formats: Sequence[str] = arguments.formats
        self.dicom: Path | None = arguments.dicom
        self.fast: bool = arguments.fast
        self.organs = None if arguments.organs is None else values_of(arguments.organs)
        self._check(arguments)
        self.table: OrganTable | None = None
        self.boxes: BoxTable | None = None
        self.open_tables(arguments)
        self.confidence = self.output / CONFIDENCE_NAME if arguments.confidence else None
        if self.boxes is None:
            check_label_tables(self.output)
        self._page = self.output / REPORT_NAME
        self._draws: bool = arguments.preview
        self._earlier: list[OrganTable | BoxTable] | None = None
        self._shown: frozenset[str] | None = None

    def open_tables(self, arguments: argparse.Namespace) -> None:
        """Read the tables that are wanted; again once no other run writes to their folder.

        Raises
        ------
        InputError
            If one of them cannot be gone on with.
        """
        from app.outputs import boxes
        from app.outputs.organ_table import OrganTable

        if arguments.statistics:
            self.table = OrganTable(self.output / STATISTICS_NAME)
        if arguments.boxes_only:
            self.boxes = boxes.BoxTable(self.output / boxes.NAME)

    @property
    def formats_beside(self) -> bool:
        """Whether the label map is wanted in further formats."""
        return set(self.formats) != {"nifti"}

    def _check(self, arguments: argparse.Namespace) -> None:
        """Refuse what there is not, and what does not go together."""
        check_format_names(self.formats, FORMATS)
        labels_wanted = arguments.organs or arguments.statistics or self.formats_beside
        pictures_wanted = arguments.confidence or arguments.preview
        if arguments.boxes_only and (labels_wanted or pictures_wanted or arguments.fast):
            raise UsageError(
                "--boxes-only runs phase one alone; it goes with none of --organs, --formats, "
                "--statistics, --confidence, --fast and --preview"
            )
        if arguments.dicom is not None:
            check_dicom(arguments.dicom)
        try:
            (self.output / STATISTICS_NAME).exists()
        except OSError as error:
            raise UsageError(
                f"--output {self.output}: cannot be read ({error.strerror}); give a folder that "
                "you may read and write to"
            ) from error

    def as_record(self) -> dict[str, Any]:
        """Give what ``run.json`` tells of the choices."""
        names = [
            organ.name for organ in ORGANS if self.organs is None or organ.value in self.organs
        ]
        return {
            "organs": names,
            "formats": list(self.formats),
            "statistics": self.table is not None,
            "confidence": self.confidence is not None,
            "fast": self.fast,
        }

    def confidence_path(self, case: "Case") -> Path | None:
        """Give the file for a case's image of confidence; named as its label map."""
        return None if self.confidence is None else self.confidence / case.label_path.name

    def are_there(self, case: "Case", entry: Mapping[str, Any]) -> bool:
        """Tell whether all that was asked for of a case, and written, is still there."""
        if self.table is not None and case.name not in self.table:
            return False
        names = entry.get("files")
        return isinstance(names, list) and all((self.output / name).is_file() for name in names)

    def check(self, case: "Case") -> None:
        """Refuse a case of which something asked for could not be written, before any work.

        Parameters
        ----------
        case : Case
            The case.

        Raises
        ------
        InputError
            If its DICOM series is missing, or no segmentation can be made of it.
        """
        if "dicom-seg" in self.formats:
            from app.imaging.io import peek
            from app.outputs.formats import check_formats

            check_formats(peek(case.scan_path), self.formats, self._series_files(case))

    def check_not_replaced(self, cases: "Sequence[Case]") -> None:
        """Refuse results that would replace a scan: where they lie among scans, names may meet.

        Parameters
        ----------
        cases : sequence of Case
            All of the batch.

        Raises
        ------
        UsageError
            If there is such a one.
        """
        scans = {case.scan_path.resolve(): case.scan_path for case in cases}
        for case in cases:
            results = [self.confidence_path(case)]
            if "seg.nrrd" in self.formats:
                results.append(self.output / f"{case.name}.seg.nrrd")
            for path in results:
                if path is not None and (scan_path := scans.get(path.resolve())):
                    raise UsageError(
                        f"{scan_path} would be replaced by a result of {case.scan_path}; choose "
                        "another --output"
                    )

    def forget(self, case: "Case") -> list[Path]:
        """Remove what an earlier run left of a case besides its label map.

        To be called as soon as a new label map is in place, and not before: until
        then the earlier results belong together, and a case that fails loses none
        of them. From then on they are of a label map that is no more, and would
        look current whatever happens next. So would the page of an earlier run that shows
        the case. Where results lie among the scans, files of the case are left alone:
        ``X.seg.nrrd`` may be a scan, too.

        Parameters
        ----------
        case : Case
            The case.

        Returns
        -------
        list of Path
            Tables that were written anew.

        Raises
        ------
        OutputError
            If something cannot be removed.
        """
        from app.cli.cases import printable
        from app.imaging.io import as_text

        among_scans = self.output.resolve() == case.scan_path.parent.resolve()
        for path in self._beside(case):
            if not (among_scans and path.parent == self.output):
                _remove(path)
        if as_text(case.name) in self._cases_on_earlier_page():
            self._shown = frozenset()
            _remove(self._page)
            if not self._draws:
                logger.warning(
                    "%s: of an earlier run, removed, as it showed %s as it was; "
                    "python -m app preview draws another",
                    self._page,
                    printable(case.name),
                )
        changed = []
        for table in self._earlier_tables():
            if case.name in table:
                table.remove(case.name)
                changed.append(table.path)
        return changed

    def files_beside(self, case: "Case") -> list[Path]:
        """List what there is of a case beside its label map."""
        return [path for path in self._beside(case) if is_there(path)]

    def _beside(self, case: "Case") -> list[Path]:
        """Name the files that a case may have beside its label map."""
        suffixes = (".seg.nrrd", ".seg.dcm", ".png")
        return [
            *(self.output / f"{case.name}{suffix}" for suffix in suffixes),
            self.output / CONFIDENCE_NAME / case.label_path.name,
        ]

    def _cases_on_earlier_page(self) -> frozenset[str]:
        """List what the page of an earlier run shows; nothing if it is of another program."""
        if self._shown is None:
            self._shown = frozenset()
            if self._page.is_file():
                from app.report.page import cases_on_page

                with contextlib.suppress(OSError):
                    self._shown = cases_on_page(self._page)
        return self._shown

    def _earlier_tables(self) -> "list[OrganTable | BoxTable]":
        """Open the tables of the output folder once; files of another program are left alone."""
        from app.outputs import boxes
        from app.outputs.organ_table import OrganTable

        if self._earlier is None:
            self._earlier = [] if self.table is None else [self.table]
            kinds: list[tuple[type[OrganTable] | type[boxes.BoxTable], str]] = [
                (boxes.BoxTable, boxes.NAME)
            ]
            if self.table is None:
                kinds.append((OrganTable, STATISTICS_NAME))
            for kind, name in kinds:
                if (self.output / name).exists():
                    with contextlib.suppress(InputError):
                        self._earlier.append(kind(self.output / name))
        return self._earlier

    def write(self, case: "Case", report: "CaseReport") -> list[Path]:
        """Write what was asked for of a case whose label map is finished.

        Parameters
        ----------
        case : Case
            The case.
        report : CaseReport
            Of its segmentation; told what could not be written.

        Returns
        -------
        list of Path
            The files.

        Raises
        ------
        InputError, OutputError
            If one of them cannot be written.
        """
        from app.outputs.formats import write_formats
        from app.outputs.label_tables import write_label_tables

        paths = write_label_tables(self.output)
        if (confidence_path := self.confidence_path(case)) is not None:
            paths.append(confidence_path)
        if self.table is not None:
            self.table.put(case.name, report.organs, _flags_of(report))
            paths.append(self.table.path)
        written, warnings = write_formats(
            case.label_path, case.name, self.formats, self._series_files(case)
        )
        report.warnings += warnings
        return paths + written

    def _series_files(self, case: "Case") -> list[Path] | None:
        """List the files that may hold the DICOM series a case was made from."""
        from app.imaging.io import peek

        if "dicom-seg" not in self.formats:
            return None
        if own := peek(case.scan_path).slice_files:
            return list(dict.fromkeys(own))  # an enhanced file holds many slices
        if self.dicom is None:
            return None
        folder = self.dicom / case.name if (self.dicom / case.name).is_dir() else self.dicom
        return sorted(path for path in folder.rglob("*") if is_there(path))


def _flags_of(report: "CaseReport") -> dict[str, list[str]]:
    """Give the codes of the flags on each organ."""
    codes: dict[str, list[str]] = {}
    for flag in report.flags:
        if flag.organ is not None:
            codes.setdefault(flag.organ, []).append(flag.code)
    return codes


def _remove(path: Path) -> None:
    """Remove what an earlier run left, if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return  # so it was never written
        raise OutputError(
            f"{path}: of an earlier run, cannot be removed ({error.strerror}); "
            "move it away and run again"
        ) from error


def listed_names(text: str) -> list[str]:
    """Take an option's value apart at its commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def is_there(path: Path) -> bool:
    """Tell whether a file is there; none is whose name is too long for the system."""
    try:
        return path.is_file()
    except OSError:
        return False
