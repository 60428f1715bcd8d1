"""Pixels of DICOM slices, as stored numbers.

Uncompressed pixels are read here. Compressed ones are decoded by a process of
its own (:mod:`app.imaging.dicom_decoder`): decoders of JPEG and its relatives are
native code, and a stream made to harm them can only take that process down.
"""

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import UID

from app.errors import UnreadableScanError, UnsupportedScanError

DECODER = Path(__file__).with_name("dicom_decoder.py")

SECONDS_PER_SLICE = 30.0
"""A slice is decoded in hundredths of a second; a decoder that takes this long hangs."""

_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NATIVE = (_IMPLICIT_LITTLE, "1.2.840.10008.1.2.1", _BIG_ENDIAN)
_DECODED = (
    "1.2.840.10008.1.2.4.50",  # JPEG baseline, 8 bits
    "1.2.840.10008.1.2.4.51",  # JPEG extended, 12 bits
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.5",  # RLE
)

DAMAGE = (
    pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError, ArithmeticError,
    AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError,
    RecursionError, TypeError, ValueError, struct.error,
)  # fmt: skip
"""What pydicom, and turning its values into numbers, raise on damaged files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """Size and encoding of the pixels of one file.

    Parameters
    ----------
    rows, columns : int
        Size of a slice.
    num_frames : int
        Slices in the file.
    bits_allocated, bits_stored : int
        Bits of a pixel: what it takes, and what of it counts.
    signed : bool
        Whether numbers are in two's complement.
    photometric : str
        MONOCHROME1 or MONOCHROME2.
    transfer_syntax : str
        UID of the encoding.
    """

    rows: int
    columns: int
    num_frames: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    transfer_syntax: str

    @property
    def frame_bytes(self) -> int:
        """Size of one slice, uncompressed."""
        return self.rows * self.columns * self.bits_allocated // 8


def read_pixels(
    places: Sequence[tuple[Path, int, PixelFormat]],
) -> Iterator[npt.NDArray[np.generic]]:
    """Read slice after slice.

    Parameters
    ----------
    places : sequence of (Path, int, PixelFormat)
        File, frame and format of each slice.

    Yields
    ------
    (rows, columns) array of integer type
        Numbers as stored, not yet HU.

    Raises
    ------
    UnreadableScanError
        If pixels are missing, damaged or cannot be decoded.
    UnsupportedScanError
        If they are compressed in a way that is not known.
    """
    try:
        with _Decoder() as decoder:
            for path, frame, pixels in places:
                if pixels.transfer_syntax in _NATIVE:
                    yield _native(path, frame, pixels)
                elif pixels.transfer_syntax in _DECODED:
                    yield decoder.decode(path, frame, pixels)
                else:
                    name = UID(pixels.transfer_syntax).name[:64]
                    raise UnsupportedScanError(
                        f"{path}: pixels in {name!a} are not read; export the series uncompressed"
                    )
    finally:
        _pixel_data.cache_clear()  # an enhanced file may be as large as the scan


def _native(path: Path, frame: int, pixels: PixelFormat) -> npt.NDArray[np.generic]:
    """Cut one slice out of uncompressed pixels."""
    data = _pixel_data(path)
    start = frame * pixels.frame_bytes
    if len(data) < start + pixels.frame_bytes:
        raise UnreadableScanError(
            f"{path}: cut short, {len(data)} bytes of pixels found where "
            f"{pixels.num_frames * pixels.frame_bytes} are promised; copy or export it again"
        )
    order = ">" if pixels.transfer_syntax == _BIG_ENDIAN else "<"
    dtype = np.dtype(f"{order}{'i' if pixels.signed else 'u'}{pixels.bits_allocated // 8}")
    stored = np.frombuffer(data, dtype, pixels.rows * pixels.columns, start)
    unused = pixels.bits_allocated - pixels.bits_stored
    # Old files keep other things, such as overlays, in the bits that do not count.
    native = stored.astype(dtype.newbyteorder("="), copy=False)
    return ((native << unused) >> unused).reshape(pixels.rows, pixels.columns)


@lru_cache(maxsize=1)
def _pixel_data(path: Path) -> bytes:
    """Read the pixels of a file; those of the last one are kept for its next frame."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bytes(pydicom.dcmread(path, specific_tags=["PixelData"]).PixelData)
    except DAMAGE as error:
        raise UnreadableScanError(
            f"{path}: its pixels cannot be read ({type(error).__name__}); copy or export it again"
        ) from error


class _Decoder:
    """The process that decodes compressed slices; it is started by the first of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Decoder":
        """Start nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def decode(self, path: Path, frame: int, pixels: PixelFormat) -> npt.NDArray[np.generic]:
        """Decode one slice.

        Returns
        -------
        (rows, columns) array of int32
            Numbers as stored.
        """
        packed = _wrap(path, frame, pixels)
        process = self._start()
        timer = threading.Timer(SECONDS_PER_SLICE, process.kill)
        timer.start()
        num_bytes = 4 * pixels.rows * pixels.columns
        decoded = b""
        try:
            process.stdin.write(struct.pack("<QQ", len(packed), num_bytes) + packed)
            process.stdin.flush()
            decoded = process.stdout.read(num_bytes)
        except BrokenPipeError:  # it died while it was fed
            pass
        finally:
            timer.cancel()
        if len(decoded) != num_bytes:
            name = UID(pixels.transfer_syntax).name
            raise UnreadableScanError(
                f"{path}: compressed pixels ({name}) cannot be decoded; copy the file again or "
                "export the series uncompressed"
            )
        return np.frombuffer(decoded, "<i4").reshape(pixels.rows, pixels.columns)

    def _start(self) -> Any:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(DECODER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # One slice at a time is no work for many threads.
                env={**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"},
            )
        return self._process


def _wrap(path: Path, frame: int, pixels: PixelFormat) -> bytes:
    """Put one compressed slice into a DICOM file of its own, with nothing else in it.

    So the decoder sees the compressed stream and elements that were checked, and
    nothing of the header the file came with.
    """
    data = _pixel_data(path)
    try:
        stream = encapsulate([get_frame(data, frame, number_of_frames=pixels.num_frames)])
    except DAMAGE as error:
        raise UnreadableScanError(
            f"{path}: its compressed pixels are damaged; copy or export it again"
        ) from error
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = pixels.rows, pixels.columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = pixels.bits_allocated, pixels.bits_stored
    dataset.HighBit, dataset.PixelRepresentation = pixels.bits_stored - 1, int(pixels.signed)
    dataset.PixelData = stream
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(pixels.transfer_syntax)
    packed = io.BytesIO()
    pydicom.dcmwrite(packed, dataset, enforce_file_format=True)
    return packed.getvalue()
