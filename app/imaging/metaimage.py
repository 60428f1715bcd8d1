"""MetaImage (.mha, .mhd): headers read strictly; lines of ``Key = value``."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging.detached import voxel_file
from app.imaging.layout import (
    UNKNOWN_DIRECTION,
    Layout,
    check_extents,
    check_single_channel,
    grid_from_xyz,
)
from app.imaging.text_header import Fields, read_lines
from app.imaging.voxels import damage_named

METAIMAGE_SUFFIXES = (".mha", ".mhd")

_LAST_KEY = "ElementDataFile"
_MAX_COSINE = 1.1
_MAX_ERROR = 0.01
_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def read_layout(path: Path) -> Layout:
    """Read from a header where voxels lie, in the file and in space.

    Raises
    ------
    UnreadableScanError
        If the file is no MetaImage, or its voxels are not where it says.
    UnsupportedScanError
        If it is not one three-dimensional, single-channel volume of numbers, or
        its voxels lie outside its folder or in several files.
    """
    fields, end = _read_fields(path)
    num_axes = fields.integer("NDims")
    size_xyz = check_extents(path, fields.integers("DimSize", num_axes))
    check_single_channel(path, fields.integer("ElementNumberOfChannels", default=1))
    spacing = fields.first_of("ElementSpacing", "ElementSize")
    spacing_xyz = [1.0] * 3 if spacing is None else fields.lengths(spacing, num_axes)[:3]
    origin = fields.first_of("Offset", "Position", "Origin")
    origin_xyz = [0.0] * 3 if origin is None else fields.numbers(origin, num_axes)[:3]
    direction = _direction(fields, num_axes, path)
    steps_xyz = (np.eye(3) if direction is None else direction) * spacing_xyz
    notes: tuple[str, ...] = ()
    if direction is None:
        notes += (UNKNOWN_DIRECTION,)
    if spacing is None:
        notes += ("the header gives no voxel spacing; 1 mm was assumed",)
    data_path = _data_path(fields, path)
    layout = Layout(
        path=data_path,
        geometry=grid_from_xyz(path, size_xyz, steps_xyz, origin_xyz),
        dtype=_dtype(fields, path),
        start=end if data_path == path else max(0, fields.integer("HeaderSize", default=0)),
        compressed=fields.flag("CompressedData"),
        notes=notes,
    )
    at_end = data_path != path and _skips_to_end(fields, path)
    return layout.counted_from_end() if at_end else layout


def _read_fields(path: Path) -> tuple[Fields, int]:
    """Read the header's lines up to the one that says where voxels lie."""
    fields = Fields(path)
    with damage_named(path), path.open("rb") as file:
        for line in read_lines(file, path):
            key, found, value = line.partition("=")
            if not found:
                raise UnreadableScanError(f"{path}: no MetaImage header found; export it again")
            fields.add(key.strip(), value.strip())
            if key.strip() == _LAST_KEY:
                break
        return fields, file.tell()


def _direction(fields: Fields, num_axes: int, path: Path) -> npt.NDArray[np.float64] | None:
    """Read the axes' directions, if given, as columns; a row of the file is one axis."""
    key = fields.first_of("TransformMatrix", "Rotation", "Orientation")
    if key is None:
        return None
    rows = np.reshape(fields.numbers(key, num_axes**2), (num_axes, num_axes))[:3, :3]
    if np.abs(rows).max() > _MAX_COSINE or np.abs((rows**2).sum(axis=1) - 1).max() > _MAX_ERROR:
        raise UnsupportedScanError(
            f"{path}: {key} {rows.tolist()} holds no directions of length 1; export it again"
        )
    return rows.T


def _dtype(fields: Fields, path: Path) -> np.dtype[np.generic]:
    name = fields.text("ElementType")
    if name not in _DTYPES:
        raise UnsupportedScanError(
            f"{path}: voxel type {name!r} is not read; save it as MET_SHORT or MET_FLOAT"
        )
    big = fields.first_of("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    order = ">" if big is not None and fields.flag(big) else "<"
    dtype: np.dtype[np.generic] = np.dtype(order + _DTYPES[name])
    if not fields.flag("BinaryData", default=True):
        raise UnsupportedScanError(f"{path}: voxels are written as text; save it as binary")
    return dtype


def _data_path(fields: Fields, path: Path) -> Path:
    name = fields.text(_LAST_KEY)
    if name.upper() == "LOCAL":
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise UnsupportedScanError(f"{path}: voxels lie in several files; save it as one .mha")
    return voxel_file(path, name)


def _skips_to_end(fields: Fields, path: Path) -> bool:
    """Tell whether the voxels are the file's last bytes; refuse skips that mean nothing."""
    skipped = fields.integer("HeaderSize", default=0)
    if skipped < -1 or (skipped == -1 and fields.flag("CompressedData")):
        raise UnreadableScanError(f"{path}: a header size of {skipped} bytes cannot be")
    return skipped == -1
