"""Pixels of DICOM slices, as stored numbers.

Uncompressed pixels are read here. Compressed ones are decoded by a process of
its own (:mod:`app.imaging.dicom_decoder`): decoders of JPEG and its relatives are
native code, and a stream made to harm them can only take that process down.
"""

import contextlib
import io
import os
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging.dicom_frames import find_frames, read_frame
from app.imaging.voxels import MAX_PADDING_BYTES

DECODER = Path(__file__).with_name("dicom_decoder.py")  # run, not imported: it loads SimpleITK

NOT_WRITTEN = 64
"""What a decoder adds to the number of an error in its exit code: other codes are 0, 1 and 2."""

SECONDS_PER_SLICE = 30.0
"""A slice is decoded in hundredths of a second; a decoder that takes this long hangs."""

SECONDS_TO_END = 1.0
"""What a decoder without further work is given to end by itself."""

_PIXEL_DATA = (0x7FE0, 0x0010)
_UNDEFINED_LENGTH = 0xFFFFFFFF  # of compressed pixels: the end is marked instead

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

_UNREADABLE = "its pixels cannot be read"

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
        for remembered in (_pixel_data, _frames):
            remembered.cache_clear()  # a file may be another by the next time


def _native(path: Path, frame: int, pixels: PixelFormat) -> npt.NDArray[np.generic]:
    """Read one slice of uncompressed pixels, and no other of the file."""
    place = _pixel_data(path)
    if place.is_encapsulated:
        raise UnreadableScanError(
            f"{path}: compressed pixels found where uncompressed ones are promised; copy or export "
            "it again"
        )
    promised = pixels.num_frames * pixels.frame_bytes
    start = frame * pixels.frame_bytes
    if place.num_bytes < start + pixels.frame_bytes:
        raise UnreadableScanError(
            f"{path}: cut short, {place.num_bytes} bytes of pixels found where {promised} are "
            "promised; copy or export it again"
        )
    _check_not_more(path, place.num_bytes, promised)
    order = ">" if pixels.transfer_syntax == _BIG_ENDIAN else "<"
    dtype = np.dtype(f"{order}{'i' if pixels.signed else 'u'}{pixels.bits_allocated // 8}")
    with dicom_damage_named(path, _UNREADABLE), path.open("rb") as file:
        file.seek(place.start + start)
        stored = np.frombuffer(file.read(pixels.frame_bytes), dtype)
        stored = stored.reshape(pixels.rows, pixels.columns)
    unused = pixels.bits_allocated - pixels.bits_stored
    # Old files keep other things, such as overlays, in the bits that do not count.
    native = stored.astype(dtype.newbyteorder("="), copy=False)
    shown: npt.NDArray[np.generic] = (native << unused) >> unused
    return shown


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the value of a file's PixelData lies: its first byte, and how many there are."""

    start: int
    num_bytes: int
    is_encapsulated: bool


@lru_cache(maxsize=1)
def _pixel_data(path: Path) -> _Place:
    """Find the pixels of a file and read none; the last file is kept for its next frame."""
    with dicom_damage_named(path, _UNREADABLE), path.open("rb") as file:
        # It stops where the element begins. A tag must be asked for, else it keeps all values.
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Rows"])
        order = "<" if dataset.original_encoding[1] else ">"
        group, element = struct.unpack(f"{order}HH", file.read(4))
        if (group, element) != _PIXEL_DATA:
            raise EOFError("no pixels")
        length_bytes = file.read(4)
        # As lengths, these letters would be odd, which no length may be.
        if length_bytes[:2] in (b"OB", b"OW", b"UN"):
            length_bytes = file.read(4)
        (num_bytes,) = struct.unpack(f"{order}I", length_bytes)
        start = file.tell()
        left = path.stat().st_size - start
    return _Place(start, min(num_bytes, left), num_bytes == _UNDEFINED_LENGTH)


_frames = lru_cache(maxsize=1)(find_frames)  # the last file's, for its next frame


@contextmanager
def dicom_damage_named(path: Path, finding: str) -> Iterator[None]:
    """Turn whatever a damaged file makes its reading raise into an error with path and finding."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DAMAGE as error:
        raise UnreadableScanError(
            f"{path}: {finding} ({type(error).__name__}); copy or export it again"
        ) from error


def _check_not_more(path: Path, num_bytes: int, promised: int) -> None:
    """Refuse a file that holds far more than its header promises, before it is read."""
    if num_bytes > promised + MAX_PADDING_BYTES:
        raise UnreadableScanError(
            f"{path}: {num_bytes} bytes of pixels found where {promised} at most are promised; "
            "the header must be wrong, export it again"
        )


class _Decoder:
    """The process that decodes compressed slices; it is started by the first of them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> "_Decoder":
        """Start nothing yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process, if there is one, and remove what it may have left behind."""
        if self._process is not None:
            if kind is not None:  # nobody waits for what it may be doing
                self._process.kill()
            _end(self._process)
        if self._folder is not None:
            self._folder.cleanup()

    def decode(self, path: Path, frame: int, pixels: PixelFormat) -> npt.NDArray[np.generic]:
        """Decode one slice.

        Returns
        -------
        (rows, columns) array of int32
            Numbers as stored.

        Raises
        ------
        UnreadableScanError
            If there is no process to decode in, or it ends without the slice.
        """
        packed = _wrap(path, frame, pixels)
        try:
            process = self._start()
        except OSError as error:
            raise UnreadableScanError(
                f"{path}: decoding compressed pixels takes a process with a folder for temporary "
                f"files of its own, which cannot be had ({error.strerror}); give one (--tmpfs /tmp "
                "for a container, TMPDIR elsewhere) or export the series uncompressed"
            ) from error
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
            _check_room(path, process)
            name = UID(pixels.transfer_syntax).name
            raise UnreadableScanError(
                f"{path}: compressed pixels ({name}) cannot be decoded; copy the file again or "
                "export the series uncompressed"
            )
        return np.frombuffer(decoded, "<i4").reshape(pixels.rows, pixels.columns)

    def _start(self) -> Any:
        if self._process is None:
            # Of this process, so that it goes even if the other one dies.
            self._folder = tempfile.TemporaryDirectory()
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(DECODER), self._folder.name, str(NOT_WRITTEN)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                # One slice at a time is no work for many threads.
                env={**os.environ, "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"},
            )
        return self._process


def _check_room(path: Path, process: "subprocess.Popen[bytes]") -> None:
    """Tell where a decoder ended for want of room in the folder for temporary files."""
    _end(process)
    number = process.returncode - NOT_WRITTEN
    if number >= 0:
        raise UnreadableScanError(
            f"{path}: its compressed pixels do not fit into {tempfile.gettempdir()} "
            f"({os.strerror(number)}); make room there, or name another folder in TMPDIR (for a "
            "container, a larger --tmpfs /tmp)"
        )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end by closing what it reads from, and kill it if it does not."""
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):  # it died while it was fed
                stream.close()
    try:
        process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wrap(path: Path, frame: int, pixels: PixelFormat) -> bytes:
    """Put one compressed slice into a DICOM file of its own, with nothing else in it.

    So the decoder sees the compressed stream and elements that were checked, and
    nothing of the header the file came with.
    """
    place = _pixel_data(path)
    # No encoding makes noise twice as large as it is.
    _check_not_more(path, place.num_bytes, 2 * pixels.num_frames * pixels.frame_bytes)
    try:
        with path.open("rb") as file:
            begin, end = _frames(path, place.start, pixels.num_frames)[frame]
            _check_not_more(path, end - begin, 2 * pixels.frame_bytes)
            stream = encapsulate([read_frame(file, path, (begin, end))])
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
