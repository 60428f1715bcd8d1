"""The scans of a folder, and the label map that each is to become."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from app.errors import UsageError
from app.imaging.dicom_magic import is_dicom, lacks_preamble
from app.imaging.image_files import case_name, image_files
from app.imaging.io import SCAN_SUFFIXES

logger = logging.getLogger(__name__)

_Found: TypeAlias = tuple[str, Path, int, str]  # name, path, bytes, SeriesInstanceUID or empty

# What may hold a scan and is not read: why, and what to do. Longer ends come first.
_PASSED_OVER = {
    (".hdr", ".hdr.gz", ".img", ".img.gz"): (
        "header and voxels in two files (Analyze, or a NIfTI pair) are not read; save it as .nii.gz"
    ),
    (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".tar.bz2", ".tar.xz"): (
        "an archive is not looked into; unpack it"
    ),
    (".mgz", ".mgh", ".mnc", ".gipl", ".gipl.gz", ".vtk", ".vti", ".nii.bz2", ".npy", ".npz"): (
        "this type is not read; save it as .nii.gz"
    ),
}


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
    notes : tuple of str
        What a user should know about where the scan was found.
    """

    name: str
    scan_path: Path
    label_path: Path
    num_bytes: int
    notes: tuple[str, ...] = ()


def find_cases(source: Path, output: Path, *, flag: str = "--input") -> list[Case]:
    """List the scans to segment: image files by name, then DICOM series.

    Image files are looked for in the folder itself, DICOM series in the folders
    below it too. Each CT series is a case; localizers, reports and the like are
    left out. A folder in which no CT series is found at all becomes a case
    that fails with the reason. What looks like a scan and is passed over is
    told, each with the reason and what to do.

    Parameters
    ----------
    source : Path
        A scan, or a folder of scans; hidden files and other types are left out.
    output : Path
        Folder for the label maps.
    flag : str
        What the user named the scans with.

    Returns
    -------
    list of Case
        At least one.

    Raises
    ------
    UsageError
        If there is no scan, two scans would become the same label map, or a
        label map would replace a scan.
    """
    try:
        if not source.exists():
            raise UsageError(f"{flag} {source}: no such file or folder")
        files = scan_files(source) if source.is_dir() else [source]
        found = [(case_name(path), path, path.stat().st_size, "") for path in files]
    except OSError as error:
        raise UsageError(f"{flag} {source}: cannot be read ({error.strerror})") from error
    if source.is_dir():
        found += _series_below(source, output)
        _tell_passed_over(source, output)
        if not found:
            raise UsageError(
                f"{flag} {source}: no scans found; expected DICOM files or files ending in "
                f"{', '.join(SCAN_SUFFIXES)}"
            )
    scans = {path.resolve(): path for _, path, *_ in found}
    cases: dict[str, Case] = {}
    for name, path, num_bytes, series_uid in found:
        if name in cases:
            raise UsageError(
                f"{cases[name].scan_path.name} and {path.name} would both become "
                f"{name}.nii.gz; put them in different folders"
            )
        label_path = output / f"{name}.nii.gz"
        if replaced := scans.get(label_path.resolve()):
            whose = "its label map" if replaced == path else f"the label map of {path}"
            raise UsageError(f"{replaced} would be replaced by {whose}; choose another --output")
        cases[name] = Case(
            name=name,
            scan_path=path,
            label_path=label_path,
            num_bytes=num_bytes,
            notes=_notes(name, [one for one, *_, uid in found if uid and uid == series_uid]),
        )
    return list(cases.values())


def named_series(source: Path, output: Path) -> dict[str, Path]:
    """List the CT series of a folder and those below it.

    Parameters
    ----------
    source : Path
        The folder.
    output : Path
        Folder for results; what lies there is none.

    Returns
    -------
    dict of str to Path
        What stands for each series, by the name that :func:`find_cases` gives its case.

    Raises
    ------
    UsageError
        If the folder cannot be read.
    """
    try:
        return {name: path for name, path, *_ in _series_below(source, output)}
    except OSError as error:
        raise UsageError(f"--dicom {source}: cannot be read ({error.strerror})") from error


def _notes(name: str, of_same_series: Sequence[str]) -> tuple[str, ...]:
    """Say so where a series lies in several folders, each of which is a case."""
    others = ", ".join(printable(one) for one in of_same_series if one != name)
    if not others:
        return ()
    return (
        f"files of the same DICOM series became {others}: the scan may be in parts, or there "
        "twice; put all files of a series into one folder",
    )


def printable(text: str) -> str:
    """Escape what a terminal must not get: line ends, control codes, bytes that are no text."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def scan_files(folder: Path) -> list[Path]:
    """List the image files of a folder that are there; links to nothing and folders are not.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    return [path for path in image_files(folder) if _leads_to(path, Path.is_file)]


def _series_below(source: Path, output: Path) -> list[_Found]:
    """Give the DICOM series in a folder and below it; results of an earlier run are none."""
    found: list[_Found] = []
    folders = (path for path in source.iterdir() if _leads_to(path, Path.is_dir))
    tops = sorted(path for path in folders if path.name[0] != ".")
    for top in [source, *tops]:
        here: list[_Found] = []
        refused: list[_Found] = []
        for folder in [source] if top == source else _folders(top):
            name = "_".join(folder.relative_to(source).parts) or source.resolve().name
            may_hold_results = folder != source and folder.resolve() == output.resolve()
            series = _series_in(folder, name, tells=not may_hold_results)
            here += series or []
            if series == [] and not may_hold_results:
                refused.append((name, folder, 0, ""))
        # Where nothing else is found, reading the folder will tell what is wrong with it.
        found += here or refused[:1]
    return found


def _series_in(folder: Path, name: str, *, tells: bool) -> list[_Found] | None:
    """Give the CT series whose files lie in one folder; None if it holds no DICOM at all.

    Others are left out, and told where that is wanted.
    """
    try:
        if not any(is_dicom(path) for path in folder.iterdir()):
            return None
    except OSError as error:
        logger.warning("%s: left out: %s", folder, error.strerror)
        return None
    # Not needed, and not paid for, where no DICOM is read.
    from app.imaging.dicom_series import find_series

    series = find_series(folder)
    for one in series:
        if one.reason_against is not None and tells:
            logger.warning("%s: left out: %s: %s", folder, one, one.reason_against)
    scans = [one for one in series if one.reason_against is None]
    numbers = [one.number for one in scans]
    found = []
    for index, one in enumerate(scans, start=1):
        num_bytes = sum(image.path.stat().st_size for image in one.images)
        if len(scans) == 1:
            found.append((name, folder, num_bytes, one.uid))
            continue
        is_numbered = one.number is not None and numbers.count(one.number) == 1
        label = f"series{one.number}" if is_numbered else f"scan{index}"
        found.append((f"{name}_{label}", one.images[0].path, num_bytes, one.uid))
    return found


def _leads_to(path: Path, is_kind: Callable[[Path], bool]) -> bool:
    """Tell whether a path is a file, or a folder; what cannot be reached is neither."""
    try:
        return is_kind(path)
    except OSError:
        return False


def _folders(top: Path) -> Iterator[Path]:
    """Give a folder and all below it, by name; links to folders are not followed."""
    for folder, names, _ in os.walk(top):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield Path(folder)


def _tell_passed_over(source: Path, output: Path) -> None:
    """Warn of each file and folder that may hold a scan and becomes no case."""
    # Links right below the input are followed, others are not.
    folders = (path for path in source.iterdir() if _leads_to(path, Path.is_dir))
    links = sorted(path for path in folders if path.is_symlink())
    for root in [source, *(path for path in links if path.name[0] != ".")]:
        for name, below, files in os.walk(root, onerror=_tell_unreadable):
            folder = Path(name)
            below[:] = sorted(one for one in below if not one.startswith("."))
            if folder != source and folder.resolve() == output.resolve():
                below.clear()  # results of an earlier run
                continue
            paths = [folder / one for one in sorted(files) if not one.startswith(".")]
            _tell_of_files(paths, is_top=folder == source)
            for link in (folder / one for one in below if folder != source):
                if link.is_symlink():
                    _tell(link, "a link to a folder, which is not followed; put the folder there")


def _tell_of_files(paths: Sequence[Path], *, is_top: bool) -> None:
    """Warn of the files of one folder that are passed over; once of many of one kind."""
    bare = []
    for path in paths:
        is_second = path.suffix.lower() == ".img" and path.with_suffix(".hdr") in paths
        if is_second and not is_dicom(path):
            continue
        if reason := _reason_against(path, is_top=is_top):
            _tell(path, reason)
        elif lacks_preamble(path):
            bare.append(path)
    if bare:
        _tell(
            bare[0].parent,
            f"{len(bare)} DICOM file(s) without the preamble that begins such a file "
            f"({printable(bare[0].name)} ...); export them again as DICOM files",
        )


def _tell_unreadable(error: OSError) -> None:
    _tell(Path(error.filename), f"cannot be looked into ({error.strerror}); allow reading it")


def _tell(path: Path, reason: str) -> None:
    logger.warning("%s: left out: %s", printable(str(path)), reason)


def _reason_against(path: Path, *, is_top: bool) -> str | None:
    """Say why a file is passed over that its name makes a scan; None if it is not or is none."""
    lowered = path.name.lower()
    for ends, reason in _PASSED_OVER.items():
        if lowered.endswith(ends):
            return None if is_dicom(path) else reason
    is_scan = lowered.endswith(SCAN_SUFFIXES)
    try:
        if not path.exists():
            return "a link to nothing; copy the file itself there"
    except OSError as error:
        return f"cannot be reached ({error.strerror}); allow it, or copy the file itself there"
    if not path.is_file():
        return "no regular file; copy the file itself there" if is_scan else None
    if not os.access(path, os.R_OK):
        return "cannot be read; allow reading it"
    if is_scan and not is_top and not is_dicom(path):
        return (
            "image files are taken from the input folder itself, not from folders in it; move it "
            "there, or give its own folder as input"
        )
    return None
