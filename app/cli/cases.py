"""The scans of a folder, and the label map that each is to become."""

from dataclasses import dataclass
from pathlib import Path

from app.errors import UsageError
from app.imaging.io import SCAN_SUFFIXES


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One scan and the label map it is to become.

    Parameters
    ----------
    name : str
        The scan's name without channel number and suffix.
    scan_path, label_path : Path
        Where it comes from and where it goes.
    num_bytes : int
        Size of the scan's file, to guess the time left by.
    """

    name: str
    scan_path: Path
    label_path: Path
    num_bytes: int


def find_cases(source: Path, output: Path) -> list[Case]:
    """List the scans to segment, by name.

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
        paths = sorted(path for path in source.iterdir() if _is_scan(path))
        if not paths:
            raise UsageError(
                f"--input {source}: no scans found; expected files ending in "
                f"{', '.join(SCAN_SUFFIXES)}"
            )
    elif source.exists():
        paths = [source]
    else:
        raise UsageError(f"--input {source}: no such file or folder")
    cases: dict[str, Case] = {}
    for path in paths:
        name = case_name(path)
        if name in cases:
            raise UsageError(
                f"{cases[name].scan_path.name} and {path.name} would both become "
                f"{name}.nii.gz; put them in different folders"
            )
        label_path = output / f"{name}.nii.gz"
        if label_path.resolve() == path.resolve():
            raise UsageError(f"{path} would be replaced by its label map; choose another --output")
        cases[name] = Case(
            name=name, scan_path=path, label_path=label_path, num_bytes=path.stat().st_size
        )
    return list(cases.values())


def case_name(path: Path) -> str:
    """Name a scan: its file name without the channel number 0000 and the suffix."""
    lowered = path.name.lower()
    suffix = next((end for end in SCAN_SUFFIXES if lowered.endswith(end)), path.suffix)
    return path.name[: len(path.name) - len(suffix)].removesuffix("_0000")


def _is_scan(path: Path) -> bool:
    named_so = path.name.lower().endswith(SCAN_SUFFIXES) and not path.name.startswith(".")
    return named_so and path.is_file()
