"""What may be taken for the header of a DICOM file: so much and no more, whatever it promises.

Of each item of a sequence pydicom makes an object of more than 1 KiB, though it takes eight bytes
in the file, and it reads a value that is asked for as long as its length says. Headers are read
before a scan's memory can be planned, so both are counted while a file is read.
"""

from pathlib import Path
from typing import BinaryIO, NoReturn

from app.errors import UnreadableScanError

MAX_HEADER_BYTES = 8 << 20
"""Most that is read of a file before its pixels; an enhanced file takes about 2 KiB a slice.

What is skipped does not count."""

MAX_HEADER_ITEMS = 100_000
"""Most items of sequences in it; an enhanced file takes about 30 a slice."""

_REMEDY = "so it is damaged or no scan; copy or export it again, one file a slice"
_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # little and big endian


class BoundedHeader:
    """A DICOM file that is refused as soon as more of it is asked for than a header may take.

    Parameters
    ----------
    path : Path
        Named in the error.
    file : BinaryIO
        The file, at its beginning.

    Attributes
    ----------
    refusal : UnreadableScanError or None
        Why it was refused: pydicom raises another error of its own on the way.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._num_bytes = 0
        self._num_items = 0
        self.refusal: UnreadableScanError | None = None

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes.

        Raises
        ------
        UnreadableScanError
            If that is more than a header may take, or all that is left: pydicom asks for
            that only to inflate it, which may take any amount of memory.
        """
        if size < 0:
            self._refuse("deflated DICOM is not read; export it with another transfer syntax")
        if self._num_bytes + size > MAX_HEADER_BYTES:
            self._refuse(f"its header takes more than {MAX_HEADER_BYTES >> 20} MiB, {_REMEDY}")
        content = self._file.read(size)
        self._num_bytes += len(content)
        self._num_items += sum(content.count(item) for item in _ITEMS)
        if self._num_items > MAX_HEADER_ITEMS:
            self._refuse(f"its header lists more than {MAX_HEADER_ITEMS:,} items, {_REMEDY}")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, as in any file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Give the place that is read next."""
        return self._file.tell()

    def _refuse(self, finding: str) -> NoReturn:
        self.refusal = UnreadableScanError(f"{self._path}: {finding}")
        raise self.refusal
