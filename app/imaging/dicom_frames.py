"""Where the slices of compressed DICOM pixels lie, found once for a file.

Compressed pixels come in fragments, each behind a header of 8 bytes that says how many bytes
follow, and a slice (a frame) may be made of several. pydicom's ``get_frame`` goes through all
of them anew for every frame, which a file of very many can make take hours. Here a file is
gone through once, and what is held grows with its frames alone.
"""

import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from pydicom.encaps import generate_fragments

from app.errors import UnreadableScanError

MAX_FRAGMENTS_PER_FRAME = 1000
"""Most slices are one fragment, and the smallest that writers make hold some KB."""

_HEADER = struct.Struct("<HHI")
_OFFSET = struct.Struct("<I")
_ITEM = (0xFFFE, 0xE000)
_END_OF_ITEMS = (0xFFFE, 0xE0DD)
_UNDEFINED_LENGTH = 0xFFFFFFFF
# How the last fragment of a frame ends in JPEG and its relatives; a few bytes may pad it.
_END_OF_IMAGE, _TAIL_BYTES = b"\xff\xd9", 10


def find_frames(path: Path, start: int, num_frames: int) -> tuple[tuple[int, int], ...]:
    """Find the frames of a file's compressed pixels.

    The file's own table of frames is followed, if it has one. Without it, a fragment is a
    frame if there are as many of them, else a frame goes on to the mark that ends an image.

    Parameters
    ----------
    path : Path
        The file.
    start : int
        Where the value of its pixels begins, in bytes.
    num_frames : int
        How many the header promises.

    Returns
    -------
    tuple of (int, int)
        Where each frame begins and ends, the headers of its fragments included; fewer
        than promised, where the file holds no more.

    Raises
    ------
    UnreadableScanError
        If there are far too many fragments.
    ValueError, struct.error, OSError
        If the file is damaged.
    """
    with path.open("rb") as file:
        file.seek(start)
        offsets = _offset_table(file, num_frames)
        first = file.tell()
        if offsets:
            begins = [first + offset for offset in offsets]
            if any(begin >= end for begin, end in pairwise(begins)):
                raise ValueError("frames that do not lie one after the other")
            *_, end = begins[-1], *_fragment_ends(file, begins[-1], _Count(path, 1))
            return tuple(pairwise([*begins, end]))
        num_fragments = sum(1 for _ in _fragment_ends(file, first, _Count(path, num_frames)))
        if num_fragments < num_frames:
            raise ValueError(f"{num_fragments} fragments for {num_frames} frames")
        edges = [first]
        end = first
        for end in _fragment_ends(file, first, _Count(path, num_frames)):
            if num_frames > 1 and (num_fragments == num_frames or _ends_image(file, end)):
                edges.append(end)
            if len(edges) > num_frames:
                break
        # What no mark ends is a frame all the same.
        return tuple(pairwise(edges if edges[-1] == end else [*edges, end]))


def read_frame(file: BinaryIO, path: Path, place: tuple[int, int]) -> bytes:
    """Read a frame, its fragments put together.

    Parameters
    ----------
    file : binary file
        The file, opened.
    path : Path
        Named in the error.
    place : (int, int)
        From :func:`find_frames`; all in between is read at once.

    Returns
    -------
    bytes
        The compressed stream.

    Raises
    ------
    UnreadableScanError
        If there are far too many fragments.
    ValueError, struct.error, OSError
        If the file is damaged.
    """
    begin, end = place
    file.seek(begin)
    count = _Count(path, 1)
    pieces = []
    for piece in generate_fragments(file.read(end - begin)):
        count.add()
        pieces.append(piece)
    return b"".join(pieces)


class _Count:
    """Count the fragments of some frames, and refuse the file if they are too many."""

    def __init__(self, path: Path, num_frames: int) -> None:
        self._path = path
        self._left = MAX_FRAGMENTS_PER_FRAME * num_frames

    def add(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise UnreadableScanError(
                f"{self._path}: more than {MAX_FRAGMENTS_PER_FRAME} pieces a slice in its "
                "compressed pixels; export it again"
            )


def _offset_table(file: BinaryIO, num_frames: int) -> list[int]:
    """Read where frames begin, counted from the end of this table; nothing if it is empty."""
    group, element, num_bytes = _HEADER.unpack(file.read(_HEADER.size))
    if (group, element) != _ITEM or num_bytes % _OFFSET.size:
        raise ValueError("no table of frames")
    if num_bytes > _OFFSET.size * num_frames:
        raise ValueError("a table of more frames than there are")
    return [offset for (offset,) in _OFFSET.iter_unpack(file.read(num_bytes))]


def _fragment_ends(file: BinaryIO, start: int, count: _Count) -> Iterator[int]:
    """Give where each fragment ends, and pass over what is in it."""
    file.seek(start)
    while len(header := file.read(_HEADER.size)) == _HEADER.size:
        group, element, num_bytes = _HEADER.unpack(header)
        if (group, element) == _END_OF_ITEMS:
            return
        if (group, element) != _ITEM or num_bytes == _UNDEFINED_LENGTH:
            raise ValueError("no fragment where one should begin")
        count.add()
        end = file.tell() + num_bytes
        yield end
        file.seek(end)


def _ends_image(file: BinaryIO, end: int) -> bool:
    """Tell whether a fragment that ends there is the last of its frame."""
    file.seek(max(0, end - _TAIL_BYTES))
    return _END_OF_IMAGE in file.read(_TAIL_BYTES)
