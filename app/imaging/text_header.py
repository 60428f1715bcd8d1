"""Headers made of lines of text: read up to a limit, every value checked."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from app.errors import UnreadableScanError

MAX_HEADER_BYTES = 1 << 16
_MAX_TOLD = 40


def read_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    """Give line after line of a header, without their ends.

    Parameters
    ----------
    file : binary file
        Stands, after each line, at the begin of the next.
    path : Path
        Named in the error.

    Raises
    ------
    UnreadableScanError
        If the file ends, or goes on longer than any header does.
    """
    left = MAX_HEADER_BYTES
    while True:
        line = file.readline(left)
        left -= len(line)
        if not line.endswith(b"\n") or left <= 0:
            raise UnreadableScanError(
                f"{path}: its header has no end, it is no such image or was cut short; "
                "copy or export it again"
            )
        yield line.decode("latin-1").rstrip("\r\n")


class Fields:
    """The fields of a text header, turned into numbers on demand.

    Parameters
    ----------
    path : Path
        Named in errors.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = {}

    def add(self, key: str, value: str) -> None:
        """Keep a field.

        Raises
        ------
        UnreadableScanError
            If it is there already: two readers could take different ones.
        """
        if key in self._values:
            raise UnreadableScanError(f"{self._path}: {_told(key)} is given twice; export it again")
        self._values[key] = value

    def first_of(self, *keys: str) -> str | None:
        """Tell which of several names of one thing is there, if any."""
        return next((key for key in keys if key in self._values), None)

    def text(self, key: str, default: str | None = None) -> str:
        """Give a field as it stands.

        Raises
        ------
        UnreadableScanError
            If it is missing and there is no default.
        """
        value = self._values.get(key, default)
        if value is None:
            raise UnreadableScanError(
                f"{self._path}: {key} is missing, it is no such image or was cut short; "
                "export it again"
            )
        return value

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Read True or False."""
        value = self.text(key, str(default)).lower()
        if value not in ("true", "false", "1", "0"):
            raise self._wrong(key, "True or False")
        return value in ("true", "1")

    def integer(self, key: str, default: int | None = None) -> int:
        """Read one integer."""
        return self._as_integer(key, self.text(key, None if default is None else str(default)))

    def integers(self, key: str, num: int) -> list[int]:
        """Read so many integers."""
        return [self._as_integer(key, word) for word in self._words(key, num)]

    def numbers(self, key: str, num: int) -> list[float]:
        """Read so many finite numbers."""
        return [self.as_number(key, word) for word in self._words(key, num)]

    def lengths(self, key: str, num: int) -> list[float]:
        """Read so many positive numbers."""
        lengths = self.numbers(key, num)
        if min(lengths) <= 0:
            raise self._wrong(key, "positive numbers")
        return lengths

    def as_number(self, key: str, word: str) -> float:
        """Read one word of a field as a finite number."""
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self._wrong(key, "a number")
        return number

    def _words(self, key: str, num: int) -> list[str]:
        words = self.text(key).split()
        if len(words) != num:
            raise self._wrong(key, f"{num} values")
        return words

    def _as_integer(self, key: str, word: str) -> int:
        digits = word.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise self._wrong(key, "an integer")
        return int(word)

    def _wrong(self, key: str, expected: str) -> UnreadableScanError:
        return UnreadableScanError(
            f"{self._path}: {key} is {_told(self._values[key])}, {expected} expected; "
            "export it again"
        )


def _told(value: str) -> str:
    """Quote what a file says, short and without control characters."""
    return ascii(value if len(value) <= _MAX_TOLD else value[:_MAX_TOLD] + " ...")
