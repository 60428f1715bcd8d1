"""NRRD (.nrrd, .nhdr): headers read strictly; lines of ``field: value``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging.detached import voxel_file
from app.imaging.layout import UNKNOWN_DIRECTION, Layout, check_extents, grid_from_xyz
from app.imaging.text_header import Fields, read_lines
from app.imaging.voxels import damage_named

NRRD_SUFFIXES = (".nrrd", ".nhdr")

_MAGIC = re.compile(r"NRRD000[1-5]")
_ALIASES = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}
_DTYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TO_LPS = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}


def read_layout(path: Path) -> Layout:
    """Read from a header where voxels lie, in the file and in space.

    Raises
    ------
    UnreadableScanError
        If the file is no NRRD file, or its voxels are not where it says.
    UnsupportedScanError
        If it is not one three-dimensional, single-channel volume of numbers, or
        its voxels lie outside its folder, in several files, or in an encoding
        other than raw or gzip.
    """
    fields, end = _read_fields(path)
    num_axes = fields.integer("dimension")
    size_xyz = check_extents(path, fields.integers("sizes", num_axes))
    steps_xyz, origin_xyz, notes = _place(fields, num_axes, path)
    encoding = fields.text("encoding").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise UnsupportedScanError(f"{path}: encoding {encoding!r} is not read; save it as gzip")
    name = fields.text("data file", "")
    if name.upper().startswith("LIST") or "%" in name:
        raise UnsupportedScanError(f"{path}: voxels lie in several files; save it as one .nrrd")
    layout = Layout(
        path=voxel_file(path, name) if name else path,
        geometry=grid_from_xyz(path, size_xyz, steps_xyz, origin_xyz),
        dtype=_dtype(fields, path),
        start=0 if name else end,
        skip=max(0, fields.integer("byte skip", default=0)),
        compressed=encoding != "raw",
        notes=notes,
    )
    return layout.counted_from_end() if _skips_to_end(fields, path) else layout


def read_keys(path: Path) -> dict[str, str]:
    """Read the header's ``key:=value`` lines, which are for other programs.

    Raises
    ------
    UnreadableScanError
        If the file is no NRRD file.
    """
    with damage_named(path), path.open("rb") as file:
        parts = [line.partition(":=") for line in _header_lines(file, path)]
    return {key: value for key, found, value in parts if found}


def _read_fields(path: Path) -> tuple[Fields, int]:
    """Read the header's fields, and where it ends."""
    fields = Fields(path)
    with damage_named(path), path.open("rb") as file:
        for line in _header_lines(file, path):
            key, found, value = line.partition(": ")
            if ":=" in key or not found:
                continue
            key = key.strip().lower()
            fields.add(_ALIASES.get(key, key), value.strip())
        return fields, file.tell()


def _header_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Give the lines up to the empty one behind the header, or to the end of a .nhdr file."""
    lines = read_lines(file, path)
    if not _MAGIC.fullmatch(next(lines)):
        raise UnreadableScanError(f"{path}: no NRRD header found; export it again")
    size = path.stat().st_size
    while file.tell() < size and (line := next(lines)):
        if not line.startswith("#"):  # which are for people
            yield line


def _dtype(fields: Fields, path: Path) -> np.dtype[np.generic]:
    name = fields.text("type").lower()
    code = next((code for code, names in _DTYPES.items() if name in names), None)
    if code is None:
        raise UnsupportedScanError(f"{path}: voxel type {name!r} is not read; save it as short")
    endian = fields.text("endian", "little").lower()
    if endian not in ("little", "big"):
        raise UnreadableScanError(f"{path}: endian must be little or big; export it again")
    dtype: np.dtype[np.generic] = np.dtype((">" if endian == "big" else "<") + code)
    return dtype


def _place(
    fields: Fields, num_axes: int, path: Path
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], tuple[str, ...]]:
    """Find steps and origin in LPS mm."""
    notes: tuple[str, ...] = ()
    space = fields.text("space", "").lower()
    if not space:
        notes = (UNKNOWN_DIRECTION,)
    elif space not in _TO_LPS:
        raise UnsupportedScanError(
            f"{path}: space {space!r} is not read; save it as left-posterior-superior"
        )
    to_lps = np.diag(_TO_LPS.get(space, (1, 1, 1))).astype(np.float64)
    origin = np.zeros(3)
    if fields.first_of("space origin"):
        origin = _vector(fields, "space origin", fields.text("space origin"))
    if fields.first_of("space directions"):
        words = re.findall(r"\([^()]*\)|none", fields.text("space directions"))
        if len(words) != num_axes or "none" in words[:3]:
            raise UnreadableScanError(
                f"{path}: space directions must be {num_axes} vectors; export it again"
            )
        columns = [_vector(fields, "space directions", word) for word in words[:3]]
        return to_lps @ np.column_stack(columns), to_lps @ origin, notes
    if fields.first_of("spacings"):
        return to_lps @ np.diag(fields.lengths("spacings", num_axes)[:3]), to_lps @ origin, notes
    return to_lps, to_lps @ origin, (*notes, "the header gives no voxel spacing; 1 mm was assumed")


def _vector(fields: Fields, key: str, text: str) -> npt.NDArray[np.float64]:
    words = text.strip().removeprefix("(").removesuffix(")").split(",")
    if len(words) != 3:
        words = ["nan"]  # told as not a number
    return np.array([fields.as_number(key, word) for word in words])


def _skips_to_end(fields: Fields, path: Path) -> bool:
    """Tell whether the voxels are the file's last bytes; refuse skips that mean nothing."""
    if fields.integer("line skip", default=0) != 0:
        raise UnsupportedScanError(f"{path}: a line skip is not read; use byte skip")
    skipped = fields.integer("byte skip", default=0)
    if skipped < -1 or (skipped == -1 and fields.text("encoding").lower() != "raw"):
        raise UnreadableScanError(f"{path}: a byte skip of {skipped} cannot be")
    return skipped == -1
