"""The image files of a folder, and the names of their cases."""

from pathlib import Path

from app.errors import UsageError
from app.imaging.io import SCAN_SUFFIXES

CHANNEL = "_0000"
"""What the field's naming adds to a scan's name, but not to its label map's."""


def image_files(folder: Path) -> list[Path]:
    """List what is named as a scan or a label map, by name.

    Hidden files are left out: a Mac leaves ``._X.nii.gz`` beside those that it copies.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SCAN_SUFFIXES) and not path.name.startswith(".")
    )


def images_by_name(folder: Path, flag: str) -> dict[str, Path]:
    """List the images of a folder by name without suffix.

    Raises
    ------
    UsageError
        If the folder, given with ``flag``, is missing or two files have one name.
    """
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: no such folder")
    named: dict[str, Path] = {}
    for path in image_files(folder):
        name = stem_of(path)
        if name in named:
            raise UsageError(f"{path} and {named[name]} have one name; keep one of them")
        named[name] = path
    return named


def stem_of(path: Path) -> str:
    """Give a file's name without the suffix, which of an image may be a double one."""
    lowered = path.name.lower()
    suffix = next((end for end in SCAN_SUFFIXES if lowered.endswith(end)), path.suffix)
    return path.name[: len(path.name) - len(suffix)]


def case_name(path: Path) -> str:
    """Name a scan: its file name without the channel number 0000, if more is left, and suffix."""
    stem = stem_of(path)
    # Without a name, a label map would be a hidden file, which nothing here would find again.
    return stem.removesuffix(CHANNEL) or stem
