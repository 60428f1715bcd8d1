"""The scans of a folder, and the label map that each is to become."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from app.errors import UsageError
from app.imaging.dicom_magic import is_dicom
from app.imaging.io import SCAN_SUFFIXES

logger = logging.getLogger(__name__)

_Found: TypeAlias = tuple[str, Path, int]  # name, path, bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One scan and the label map it is to become.

    Parameters
    ----------
    name : str
        The scan's name without channel number and suffix.
    scan_path, label_path : Path
        Where it comes from and where it goes. Of a DICOM series, the folder; its
        first file where the folder holds several series.
    num_bytes : int
        Size of the scan's files, to guess the time left by.
    """

    name: str
    scan_path: Path
    label_path: Path
    num_bytes: int


def find_cases(source: Path, output: Path) -> list[Case]:
    """List the scans to segment: image files by name, then DICOM series.

    Image files are looked for in the folder itself, DICOM series in the folders
    below it too. Each CT series is a case; localizers, reports and the like are
    left out. A folder in which no CT series is found at all becomes a case
    that fails with the reason.

    Parameters
    ----------
    source : Path
        A scan, or a folder of scans; hidden files and other types are left out.
    output : Path
        Folder for the label maps.

    Returns
    -------
    list of Case
        At least one.

    Raises
    ------
    UsageError
        If there is no scan, two scans would become the same label map, or a
        label map would replace its scan.
    """
    if source.is_dir():
        found = [(case_name(path), path, path.stat().st_size) for path in _scan_files(source)]
        found += _series_below(source)
        if not found:
            raise UsageError(
                f"--input {source}: no scans found; expected DICOM files or files ending in "
                f"{', '.join(SCAN_SUFFIXES)}"
            )
    elif source.exists():
        found = [(case_name(source), source, source.stat().st_size)]
    else:
        raise UsageError(f"--input {source}: no such file or folder")
    cases: dict[str, Case] = {}
    for name, path, num_bytes in found:
        if name in cases:
            raise UsageError(
                f"{cases[name].scan_path.name} and {path.name} would both become "
                f"{name}.nii.gz; put them in different folders"
            )
        label_path = output / f"{name}.nii.gz"
        if label_path.resolve() == path.resolve():
            raise UsageError(f"{path} would be replaced by its label map; choose another --output")
        cases[name] = Case(name=name, scan_path=path, label_path=label_path, num_bytes=num_bytes)
    return list(cases.values())


def case_name(path: Path) -> str:
    """Name a scan: its file name without the channel number 0000 and the suffix."""
    lowered = path.name.lower()
    suffix = next((end for end in SCAN_SUFFIXES if lowered.endswith(end)), path.suffix)
    return path.name[: len(path.name) - len(suffix)].removesuffix("_0000")


def printable(text: str) -> str:
    """Escape what a terminal must not get: line ends, control codes, bytes that are no text."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def _scan_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SCAN_SUFFIXES)
        and not path.name.startswith(".")
        and path.is_file()
    )


def _series_below(source: Path) -> list[_Found]:
    """Give the DICOM series in a folder and below it."""
    found: list[_Found] = []
    tops = sorted(path for path in source.iterdir() if path.is_dir() and path.name[0] != ".")
    for top in [source, *tops]:
        here: list[_Found] = []
        refused: list[_Found] = []
        for folder in [source] if top == source else _folders(top):
            name = "_".join(folder.relative_to(source).parts) or source.resolve().name
            series = _series_in(folder, name)
            here += series or []
            if series == []:
                refused.append((name, folder, 0))
        # Where nothing else is found, reading the folder will tell what is wrong with it.
        found += here or refused[:1]
    return found


def _series_in(folder: Path, name: str) -> list[_Found] | None:
    """Give the CT series whose files lie in one folder; None if it holds no DICOM at all."""
    try:
        if not any(is_dicom(path) for path in folder.iterdir()):
            return None
    except OSError as error:
        logger.warning("%s: left out: %s", folder, error.strerror)
        return None
    # Not needed, and not paid for, where no DICOM is read.
    from app.imaging.dicom import find_series

    series = find_series(folder)
    for one in series:
        if one.reason_against is not None:
            logger.warning("%s: left out: %s: %s", folder, one, one.reason_against)
    scans = [one for one in series if one.reason_against is None]
    numbers = [one.number for one in scans]
    found = []
    for index, one in enumerate(scans, start=1):
        num_bytes = sum(image.path.stat().st_size for image in one.images)
        if len(scans) == 1:
            found.append((name, folder, num_bytes))
            continue
        is_numbered = one.number is not None and numbers.count(one.number) == 1
        label = f"series{one.number}" if is_numbered else f"scan{index}"
        found.append((f"{name}_{label}", one.images[0].path, num_bytes))
    return found


def _folders(top: Path) -> Iterator[Path]:
    """Give a folder and all below it, by name; links to folders are not followed."""
    for folder, names, _ in os.walk(top):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield Path(folder)
