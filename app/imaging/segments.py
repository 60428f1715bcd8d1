"""Segments of 3D Slicer: which organ each of them is, by its name.

Slicer numbers a segment that is added as it likes, so the values alone tell nothing.
"""

import re
from pathlib import Path

from app.errors import InputError
from app.imaging.nrrd import read_keys
from app.labels import ORGANS
from app.terminology import TERMS

SUFFIX = ".seg.nrrd"


def organs_by_value(path: Path) -> dict[int, int]:
    """Give the organ that each value of a segmentation stands for, by the file's header.

    Parameters
    ----------
    path : Path
        File ending in :data:`SUFFIX`. Each segment is called as an organ is in
        ``labels.json``, ``name`` or ``label``; upper and lower case are one.

    Returns
    -------
    dict of int to int
        Label value by stored value; 0, the background, stands for itself. Nothing else
        where the header names no segment.

    Raises
    ------
    InputError
        If it cannot be read, its segments overlap, or one is none of the organs.
    """
    known = {organ.name: organ.value for organ in ORGANS}
    known |= {TERMS[organ.value].label.lower(): organ.value for organ in ORGANS}
    keys = read_keys(path)
    organs = {0: 0}
    for index in re.findall(r"^Segment(\d+)_Name$", "\n".join(keys), re.MULTILINE):
        name, number = keys[f"Segment{index}_Name"], keys.get(f"Segment{index}_LabelValue", "")
        value = known.get(name.strip().lower())
        if value is None:
            raise InputError(
                f"{path}: the segment {name[:40]!a} is none of the organs; call it as labels.json "
                "does, or delete it"
            )
        # A file may say anything: numbers are short, and one stands for one organ.
        stored = int(number) if re.fullmatch(r"[0-9]{1,3}", number) else 0
        if not 0 < stored < 256 or organs.setdefault(stored, value) != value:
            raise InputError(
                f"{path}: the segment {name[:40]!a} has the value {number[:9]!a}, expected one of "
                "its own from 1 to 255; save it again in 3D Slicer"
            )
    return organs
