"""Voxels from a file into int16 HU: read once, checked, never more than promised.

A header is not believed: the file must be able to hold what it promises before
memory is taken, and exactly that much is read and not more, whatever a
compressed stream would go on to give.
"""

import zlib as slow_zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
from isal import isal_zlib as zlib  # inflates in half the time of Python's own

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging.geometry import ScanVolume
from app.imaging.layout import Layout

AIR_HU = -1024
"""What a voxel without a number (NaN) becomes."""

MAX_PADDING_BYTES = 1 << 20
"""Some writers pad a file. More than this behind the voxels is another image, or a bomb."""

_CHUNK_BYTES = 1 << 20
# What is fed to the decompressor at once. What it leaves is copied by it, so that a stream of many
# small members is fed little at first.
_FIRST_PIECE_BYTES = 1 << 12
_LARGEST_PIECE_BYTES = 1 << 18
_INT16 = np.iinfo(np.int16)
_BEYOND = 2**40
# Deflate packs at most 258 bytes into 2 bits.
_MAX_RATIO = 1032
# Scales that writers spread labels by are rounded, too.
_NEARLY_WHOLE = 0.01
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_HEADER_CHECKSUM = 2  # a flag in the fourth byte
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class Stream(Protocol):
    """What voxels are read from."""

    def read(self, num_bytes: int) -> bytes:
        """Give the next bytes, at most so many; none at the end."""


class Inflated:
    """Read a gzip or zlib stream, its checksum included, from a file.

    At most 1 MiB of the file is held, however many members the stream has.

    Parameters
    ----------
    file : binary file
        Stands where the stream begins.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packed = memoryview(b"")
        self._stream = self._new_stream()
        self._piece_bytes = _FIRST_PIECE_BYTES

    def read(self, num_bytes: int) -> bytes:
        """Give the next bytes, at most so many; none at the end.

        Raises
        ------
        EOFError
            If the stream is cut short.
        isal_zlib.error, zlib.error
            If it is damaged.
        """
        while True:
            if self._stream.eof and not self._next_member():
                return b""
            if not self._packed:
                self._packed = memoryview(self._file.read(_CHUNK_BYTES))
            piece = self._packed[: self._piece_bytes]
            found: bytes = self._stream.decompress(piece, num_bytes)
            self._put_back(len(piece))
            if found:
                return found
            if not piece and not self._stream.eof:
                raise EOFError("compressed stream ended early")

    def _put_back(self, num_fed: int) -> None:
        """Pass over what was taken of the piece that was fed."""
        ended = self._stream.eof
        left = self._stream.unused_data if ended else self._stream.unconsumed_tail
        if len(left) <= num_fed:
            self._packed = self._packed[num_fed - len(left) :]
        else:  # the decompressor gave back some of the piece before, too
            self._packed = memoryview(left + self._packed[num_fed:])
        self._piece_bytes = min(2 * self._piece_bytes, _LARGEST_PIECE_BYTES)

    def _next_member(self) -> bool:
        """Go on with the next gzip stream in the file, if there is one."""
        self._have(len(_GZIP_MAGIC))
        if self._packed[: len(_GZIP_MAGIC)] != _GZIP_MAGIC:
            return False
        self._stream = self._new_stream()
        self._piece_bytes = _FIRST_PIECE_BYTES
        return True

    def _new_stream(self) -> Any:
        """Give what inflates the stream that begins here."""
        # isal takes a header with a checksum of its own for damaged where it comes in parts.
        self._have(len(_GZIP_MAGIC) + 2)
        start = bytes(self._packed[: len(_GZIP_MAGIC) + 2])
        is_checked = start.startswith(_GZIP_MAGIC) and bool(start[-1] & _GZIP_HEADER_CHECKSUM)
        return (slow_zlib if is_checked else zlib).decompressobj(_GZIP_OR_ZLIB)

    def _have(self, num_bytes: int) -> None:
        """Read on where fewer bytes are held, as far as there are more."""
        if len(self._packed) < num_bytes:
            self._packed = memoryview(bytes(self._packed) + self._file.read(_CHUNK_BYTES))


@dataclass(slots=True)
class Oddities:
    """Voxels whose numbers could not be kept."""

    num_not_finite: int = 0
    num_clipped: int = 0

    def notes(self) -> tuple[str, ...]:
        """Tell of them in sentences; none without any."""
        found = []
        if self.num_not_finite:
            found.append(f"{self.num_not_finite} voxels hold no number (NaN or infinite)")
        if self.num_clipped:
            found.append(f"{self.num_clipped} voxels lie beyond the range of HU and were clipped")
        return tuple(found)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged file into one that names it.

    Raises
    ------
    UnreadableScanError
        In place of what the reading raised.
    """
    try:
        yield
    except (OSError, EOFError, slow_zlib.error, zlib.error) as error:  # type: ignore[misc]  # its stub is wrong
        raise UnreadableScanError(
            f"{path}: damaged or cut short ({error}); copy or export it again"
        ) from error


def read_voxels(layout: Layout, *, as_labels: bool = False) -> tuple[ScanVolume, tuple[str, ...]]:
    """Read all voxels as int16 HU.

    Numbers are scaled as the header says, rounded, and clipped to int16; those that
    int16 holds as they are, without a scale, go straight into the result.

    Parameters
    ----------
    layout : Layout
        Where they lie.
    as_labels : bool
        Whether they stand for organs, so that rounding would make up labels.

    Returns
    -------
    (Z, Y, X) array of int16
        As stored; C-contiguous.
    tuple of str
        What a user should know about the numbers.

    Raises
    ------
    UnreadableScanError
        If voxels are missing or damaged, or far more is stored than promised.
    UnsupportedScanError
        If labels are no whole numbers.
    """
    with _stored_voxels(layout) as stream:
        voxels = np.empty(layout.geometry.shape, np.int16)
        oddities = _fill(voxels.reshape(-1), layout, stream, as_labels=as_labels)
    return voxels, oddities.notes()


def check_whole(layout: Layout) -> None:
    """Read all voxels to the end, and keep none.

    Parameters
    ----------
    layout : Layout
        Where they lie.

    Raises
    ------
    UnreadableScanError
        If voxels are missing or damaged, or far more is stored than promised.
    """
    with _stored_voxels(layout) as stream:
        _pass_over(stream, layout.num_bytes, layout.path)


@contextmanager
def _stored_voxels(layout: Layout) -> Iterator[Stream]:
    """Open a file where its voxels begin; what follows them is checked once they are read."""
    path = layout.path
    with damage_named(path), path.open("rb") as file:
        _check_can_hold(layout)
        file.seek(layout.start)
        stream: Stream = Inflated(file) if layout.compressed else file
        _pass_over(stream, layout.skip, path)
        yield stream
        _check_end(stream, path)


def to_int16(
    stored: npt.NDArray[Any], slope: float, intercept: float, oddities: Oddities
) -> npt.NDArray[np.int16]:
    """Scale stored numbers to HU, round and clip them.

    Parameters
    ----------
    stored : ndarray of integer or floating type
        As in the file.
    slope, intercept : float
        HU = slope * stored + intercept.
    oddities : Oddities
        Counts those that were no numbers or had to be clipped.

    Returns
    -------
    ndarray of int16
        Of the same shape; what is no number has become air.
    """
    numbers: npt.NDArray[Any]
    is_narrow = stored.dtype.kind in "iu" and stored.dtype.itemsize <= 4
    if is_narrow and slope == 1 and float(intercept).is_integer():
        # Beyond 40 bits no 32-bit number can bring it back into range.
        numbers = stored.astype(np.int64) + int(np.clip(intercept, -_BEYOND, _BEYOND))
    else:
        with np.errstate(all="ignore"):
            numbers = np.rint(stored.astype(np.float64) * slope + intercept)
        finite = np.isfinite(numbers)
        if num_not_finite := numbers.size - int(np.count_nonzero(finite)):
            numbers = np.where(finite, numbers, AIR_HU)
            oddities.num_not_finite += num_not_finite
    clipped = np.clip(numbers, _INT16.min, _INT16.max)
    oddities.num_clipped += int(np.count_nonzero(clipped != numbers))
    return clipped.astype(np.int16)


def _check_can_hold(layout: Layout) -> None:
    """Refuse a file too small for what its header promises, before memory is taken."""
    held = max(0, layout.path.stat().st_size - layout.start)
    needed = layout.skip + layout.num_bytes
    if held * (_MAX_RATIO if layout.compressed else 1) < needed:
        kind = "compressed bytes" if layout.compressed else "bytes"
        raise UnreadableScanError(
            f"{layout.path}: cut short, {held} {kind} found where {needed} bytes are promised; "
            "copy or export it again"
        )


def _pass_over(stream: Stream, num_bytes: int, path: Path) -> None:
    while num_bytes > 0:
        passed = stream.read(min(num_bytes, _CHUNK_BYTES))
        if not passed:
            raise _cut_short(path, num_bytes)
        num_bytes -= len(passed)


def _fill(
    flat: npt.NDArray[np.int16], layout: Layout, stream: Stream, *, as_labels: bool
) -> Oddities:
    """Read voxel after voxel into a flat array."""
    width = layout.dtype.itemsize
    fits = np.can_cast(layout.dtype, np.int16, "safe")
    as_stored = fits and (layout.slope, layout.intercept) == (1, 0)
    oddities = Oddities()
    filled, rest = 0, b""
    while filled < flat.size:
        wanted = min(_CHUNK_BYTES, (flat.size - filled) * width - len(rest))
        found = stream.read(wanted)
        if not found:
            raise _cut_short(layout.path, (flat.size - filled) * width - len(rest))
        # A compressed stream may pause in the middle of a voxel.
        found = rest + found if rest else found
        num_whole = len(found) // width
        rest = found[num_whole * width :]
        stored = np.frombuffer(found, layout.dtype, num_whole)
        target = flat[filled : filled + num_whole]
        if as_stored:
            target[...] = stored
        else:
            if as_labels:
                _check_whole(stored, layout)
            target[...] = to_int16(stored, layout.slope, layout.intercept, oddities)
        filled += num_whole
    return oddities


def _check_whole(stored: npt.NDArray[Any], layout: Layout) -> None:
    """Refuse labels that are no whole numbers."""
    with np.errstate(all="ignore"):
        numbers = stored.astype(np.float64) * layout.slope + layout.intercept
        is_whole = np.abs(numbers - np.rint(numbers)) <= _NEARLY_WHOLE  # nor is NaN
    if not is_whole.all():
        raise UnsupportedScanError(
            f"{layout.path}: holds voxels such as {numbers[~is_whole][0]:g}, a label map has whole "
            "numbers; resample label maps by nearest neighbor, and turn probabilities into labels"
        )


def _check_end(stream: Stream, path: Path) -> None:
    """Read to the end, where a checksum stands; refuse a file that goes on and on."""
    num_bytes = 0
    while found := stream.read(_CHUNK_BYTES):
        num_bytes += len(found)
        if num_bytes > MAX_PADDING_BYTES:
            raise UnreadableScanError(
                f"{path}: holds far more than its header promises; "
                "the header must be wrong, export it again"
            )


def _cut_short(path: Path, num_missing: int) -> UnreadableScanError:
    return UnreadableScanError(
        f"{path}: cut short, {num_missing} bytes are missing; copy or export it again"
    )
