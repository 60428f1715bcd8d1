"""What the image library does not do for NIfTI files.

It fills what is missing from a truncated file with zeros and says nothing, so
the length (and, if compressed, the checksum) of the voxel data is checked here.
And it writes a header of its own, so label maps are written here, with the
header of their scan: other programs may read a grid from fields it would drop.
"""

import gzip
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from app.errors import UnreadableScanError
from app.imaging.geometry import LabelVolume

NIFTI_SUFFIXES = (".nii.gz", ".nii")

_CHUNK_BYTES = 1 << 20
_HEADER_BYTES = 348
_DATA_OFFSET = 352
_UINT8 = 2
# Label maps are mostly background; higher levels take longer and save next to nothing.
_COMPRESSION_LEVEL = 4


def is_nifti(path: Path) -> bool:
    """Tell by its name whether a file is a NIfTI file."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def read_header(path: Path) -> bytes:
    """Read the 348 bytes of a NIfTI-1 header.

    Raises
    ------
    UnreadableScanError
        If the file is no NIfTI-1 file.
    """
    try:
        with _open(path) as stream:
            header = stream.read(_HEADER_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from error
    _byte_order(header, path)
    return header


def check_is_whole(path: Path) -> None:
    """Check that a NIfTI file holds all the voxels its header promises.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file.

    Raises
    ------
    UnreadableScanError
        If the file is no NIfTI-1 file, is cut short, or fails its checksum.
    """
    needed = _promised_bytes(read_header(path), path)
    found = path.stat().st_size
    if path.suffix.lower() == ".gz":
        found = 0
        try:
            with _open(path) as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    found += len(chunk)
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(path, error) from error
    if found < needed:
        raise UnreadableScanError(
            f"{path}: cut short, {found} of {needed} bytes found; copy or export it again"
        )


def write_labels(path: Path, labels: LabelVolume, scan_header: bytes) -> None:
    """Write a label map with its scan's header.

    The same label map always gives the same bytes.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file.
    labels : (Z, Y, X) array of uint8
        As the scan is stored; C-contiguous.
    scan_header : bytes
        From :func:`read_header`; all that says where voxels lie is kept.
    """
    preamble = _label_header(scan_header, path) + bytes(_DATA_OFFSET - _HEADER_BYTES)
    voxels = np.ascontiguousarray(labels).data.cast("B")
    with path.open("wb") as file:
        if path.suffix.lower() != ".gz":
            file.write(preamble)
            file.write(voxels)
            return
        with gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, file, mtime=0) as stream:
            stream.write(preamble)
            for start in range(0, len(voxels), _CHUNK_BYTES):
                stream.write(voxels[start : start + _CHUNK_BYTES])


def _label_header(scan_header: bytes, path: Path) -> bytes:
    """Turn a scan's header into that of a label map on the same grid."""
    order = _byte_order(scan_header, path)
    header = bytearray(scan_header)
    extents = struct.unpack_from(order + "8h", header, 40)[1:4]
    struct.pack_into(order + "8h", header, 40, 3, *extents, 1, 1, 1, 1)
    struct.pack_into(order + "3f3h", header, 56, 0, 0, 0, 0, _UINT8, 8)  # intent, voxel type
    struct.pack_into(order + "3f", header, 108, _DATA_OFFSET, 1, 0)  # offset, slope, intercept
    struct.pack_into(order + "2f", header, 124, 0, 0)  # display range
    struct.pack_into(order + "2i", header, 140, 0, 0)  # greatest and least value
    header[228:252] = bytes(24)  # name of another file
    header[328:348] = bytes(16) + b"n+1\0"  # intent's name; header and voxels in one file
    return bytes(header)


def _promised_bytes(header: bytes, path: Path) -> int:
    """Read from a header how long the file must be."""
    order = _byte_order(header, path)
    num_axes, *extents = struct.unpack_from(order + "8h", header, 40)
    (bits_per_voxel,) = struct.unpack_from(order + "h", header, 72)
    (offset,) = struct.unpack_from(order + "f", header, 108)
    num_bits = int(bits_per_voxel)
    for extent in extents[: max(0, num_axes)]:
        num_bits *= max(1, extent)
    return int(offset) + num_bits // 8


def _byte_order(header: bytes, path: Path) -> str:
    """Tell by the header's first number, which is its length, how numbers are stored."""
    for order in "<>":
        if len(header) == _HEADER_BYTES and header[:4] == struct.pack(order + "i", _HEADER_BYTES):
            return order
    raise UnreadableScanError(f"{path}: no NIfTI-1 header found; save it as NIfTI-1")


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb"))


def _damaged(path: Path, error: Exception) -> UnreadableScanError:
    return UnreadableScanError(f"{path}: damaged or cut short ({error}); copy or export it again")
