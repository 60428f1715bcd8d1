"""Tell DICOM files from others, without the package that reads them."""

import struct
from pathlib import Path

_PREAMBLE_BYTES = 128
_MAGIC = b"DICM"
_DIRECTORY = "DICOMDIR"  # the table of contents of a disk, named so by the standard


# Groups of elements that a data set begins with, and the longest first element of one.
_FIRST_GROUPS = (0x0002, 0x0008)
_LONGEST_FIRST_BYTES = 1024
_ELEMENT = struct.Struct("<HHI")


def is_dicom(path: Path) -> bool:
    """Tell by its first bytes whether a file is a DICOM file, tables of contents apart."""
    try:
        if path.name.upper() == _DIRECTORY or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
    except OSError:
        return False


def lacks_preamble(path: Path) -> bool:
    """Tell by its first element whether a file holds a DICOM data set and not what begins a file.

    Old archives write such files. They are not read: nothing says how they are encoded.
    """
    try:
        if not path.is_file() or is_dicom(path):
            return False
        with path.open("rb") as file:
            start = file.read(_ELEMENT.size)
    except OSError:
        return False
    if len(start) < _ELEMENT.size:
        return False
    group, element, length = _ELEMENT.unpack(start)
    # Explicitly encoded elements have two letters where others have their length.
    is_explicit = start[4:6].isalpha() and start[4:6].isupper()
    fits = length <= _LONGEST_FIRST_BYTES and length % 2 == 0
    return group in _FIRST_GROUPS and element <= 0x0100 and (is_explicit or fits)
