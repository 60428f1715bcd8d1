"""Tell DICOM files from others, without the package that reads them."""

from pathlib import Path

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_DIRECTORY = "DICOMDIR"  # the table of contents of a disk, named so by the standard


def is_dicom(path: Path) -> bool:
    """Tell by its first bytes whether a file is a DICOM file, tables of contents apart."""
    try:
        if path.name.upper() == _DIRECTORY or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
    except OSError:
        return False
