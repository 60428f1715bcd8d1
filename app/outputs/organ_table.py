"""organs.csv: a row for each case and organ, for pandas, R and spreadsheets."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from app.errors import InputError
from app.imaging.io import as_text, atomic_path
from app.imaging.organ_statistics import OrganStatistics
from app.labels import TUBES

COLUMNS = (
    "case",
    "organ",
    "label",
    "volume_ml",
    "num_voxels",
    "mean_hu",
    "sd_hu",
    "extent_left_right_mm",
    "extent_anterior_posterior_mm",
    "extent_inferior_superior_mm",
    "edges_touched",
    "flags",
)


class OrganTable:
    """The rows of one ``organs.csv``, kept on disk whole after every case.

    Rows that an earlier run left stay, so that a batch can be gone on with.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        If the file is there but is no such table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = _read(path) if path.exists() else {}

    def put(
        self,
        case: str,
        organs: Iterable[OrganStatistics],
        flags: Mapping[str, Iterable[str]] | None = None,
    ) -> None:
        """Write the rows of a case, in place of those it may have had.

        Parameters
        ----------
        case : str
            Name of the case.
        organs : iterable of OrganStatistics
            What was measured.
        flags : mapping of str to iterable of str, optional
            What else is to be looked at, by organ name.

        Raises
        ------
        OutputError
            If the file cannot be written; then the table is as it was.
        """
        name = as_text(case)
        rows = [_row(name, organ, (flags or {}).get(organ.organ, ())) for organ in organs]
        self._write(self._rows | {name: rows})

    def remove(self, case: str) -> None:
        """Write the table without the rows of a case; one that has none changes nothing.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        if case in self:
            self._write({name: rows for name, rows in self._rows.items() if name != as_text(case)})

    def __contains__(self, case: str) -> bool:
        """Tell whether the table has rows of a case."""
        return as_text(case) in self._rows

    def _write(self, rows_by_case: dict[str, list[dict[str, str]]]) -> None:
        with (
            atomic_path(self.path) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for _, rows in sorted(rows_by_case.items()):
                writer.writerows(rows)
        self._rows = rows_by_case


def _row(case: str, organ: OrganStatistics, more_flags: Iterable[str]) -> dict[str, str]:
    z, y, x = (_number(size, 1) for size in organ.extent_mm or (None, None, None))
    return {
        "case": case,
        "organ": organ.organ,
        "label": str(organ.value),
        "volume_ml": _number(organ.volume_ml, 3),
        "num_voxels": str(organ.num_voxels),
        "mean_hu": _number(organ.mean_hu, 1),
        "sd_hu": _number(organ.sd_hu, 1),
        "extent_left_right_mm": x,
        "extent_anterior_posterior_mm": y,
        "extent_inferior_superior_mm": z,
        "edges_touched": ";".join(organ.edges),
        "flags": ";".join(dict.fromkeys((*_flags(organ), *more_flags))),
    }


def _flags(organ: OrganStatistics) -> list[str]:
    """Name what the measurements alone give cause to look at."""
    if organ.num_voxels == 0:
        return ["not_found"]
    return ["cut_by_edge"] if organ.edges and organ.organ not in TUBES else []


def _number(value: float | None, decimals: int) -> str:
    """Write a number; what is not known stays empty, which pandas and R read as missing."""
    return "" if value is None else f"{value:.{decimals}f}"


def _read(path: Path) -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(
                    f"{path}: columns {reader.fieldnames} found, {list(COLUMNS)} expected; "
                    "move the file away and run again"
                )
            for row in reader:
                if None in row:
                    raise ValueError(f"line {reader.line_num} has more than {len(COLUMNS)} columns")
                rows.setdefault(row["case"], []).append(row)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: no such table ({error}); move the file away and run again"
        ) from error
    return rows
