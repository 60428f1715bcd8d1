"""Decode compressed slices, one after the other, in a process of its own.

Run as a script by :mod:`app.imaging.dicom_pixels`. On standard input comes, for
each slice, the size of a DICOM file, the size of its decoded pixels (both 64-bit
integers) and the file; on standard output goes the slice as 32-bit integers. On
a slice that cannot be decoded the process ends: it holds nothing worth saving. Its
arguments are an empty folder, where a slice lies only while it is decoded, and a number: where
that has no room for it, the process ends with this and the system's number of the error.
"""

import contextlib
import os
import resource
import struct
import sys
from pathlib import Path
from typing import BinaryIO

import SimpleITK as sitk

_SIZES = struct.Struct("<QQ")
# Many times what a slice takes: a stream that asks for more is meant to harm.
_MEMORY_BYTES = 4 << 30
# What libjpeg says where it goes on with gray for what is missing.
_DAMAGE = (b"Corrupt JPEG data", b"Premature end of JPEG file")
_STANDARD_ERROR = 2


def main(requests: BinaryIO, answers: BinaryIO, folder: Path, not_written: int) -> None:
    """Decode until there are no more requests."""
    path = folder / "slice.dcm"
    complaints = _catch_complaints()
    while sizes := requests.read(_SIZES.size):
        num_packed, num_bytes = _SIZES.unpack(sizes)
        try:
            _write(path, requests.read(num_packed), not_written)
            decoded = decode(path, num_bytes)
        finally:
            path.unlink(missing_ok=True)
        told = _told(complaints)
        if any(words in told for words in _DAMAGE):
            sys.exit(1)
        answers.write(decoded)
        answers.flush()


def _write(path: Path, packed: bytes, not_written: int) -> None:
    try:
        path.write_bytes(packed)
    except OSError as error:
        sys.exit(not_written + (error.errno or 0))


def _catch_complaints() -> int:
    """Keep what native code prints as an error, as far as a pipe holds it; give the pipe."""
    reader, writer = os.pipe()
    for descriptor in (reader, writer):
        os.set_blocking(descriptor, False)
    os.dup2(writer, _STANDARD_ERROR)
    return reader


def _told(complaints: int) -> bytes:
    with contextlib.suppress(BlockingIOError):  # nothing
        return os.read(complaints, 1 << 16)
    return b""


def decode(path: Path, num_bytes: int) -> bytes:
    """Decode the one slice of a file.

    Raises
    ------
    SystemExit
        If it is not of the size that was promised.
    RuntimeError
        If it cannot be decoded.
    """
    image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    decoded = sitk.GetArrayViewFromImage(image).astype("<i4").tobytes()
    if len(decoded) != num_bytes:
        sys.exit(1)
    return decoded


if __name__ == "__main__":
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    with contextlib.suppress(OSError):
        # Where memory runs out all the same, this process is to be ended and not the program.
        Path("/proc/self/oom_score_adj").write_text("1000")
    main(sys.stdin.buffer, sys.stdout.buffer, Path(sys.argv[1]), int(sys.argv[2]))
