"""Standard output and error that may break without breaking what is being done.

A reader that goes away (``| head -1``), a full disk below a log, a stream that was closed
(``>&-``): results go to files, so a batch must go on and finish them. What could not be
printed is told by the exit code, where there is nobody who chose not to read it.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast


class Console:
    """What became of the streams that are guarded.

    Attributes
    ----------
    is_lost : bool
        Whether something for standard output could not be written, other than
        because its reader went away.
    """

    def __init__(self) -> None:
        self.is_lost = False


class _Guarded:
    """A text stream that goes on into nothing once it cannot be written to."""

    def __init__(self, stream: TextIO, console: Console, *, is_output: bool) -> None:
        self._stream = stream
        self._console = console
        self._is_output = is_output

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        # What is left in its buffer goes there too; else Python would fail on it when it ends.
        with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), self._stream.fileno())
        if self._is_output and not isinstance(error, BrokenPipeError):
            self._console.is_lost = True
            sys.stderr.write(f"error: standard output cannot be written ({error.strerror})\n")


@contextlib.contextmanager
def guarded_streams() -> Iterator[Console]:
    r"""Guard standard output and error; give the process those that it was started without.

    Letters that a stream's encoding lacks are written out, such as ``\xe9``.

    Yields
    ------
    Console
        Complete when the block has ended.
    """
    _open_closed()
    streams = sys.stdout, sys.stderr
    for stream in streams:
        with contextlib.suppress(AttributeError):  # a stand-in of whoever calls
            cast("Any", stream).reconfigure(errors="backslashreplace")
    console = Console()
    output = _Guarded(streams[0], console, is_output=True)
    errors = _Guarded(streams[1], console, is_output=False)
    sys.stdout, sys.stderr = cast("TextIO", output), cast("TextIO", errors)
    try:
        yield console
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = streams


def _open_closed() -> None:
    """Open what was closed into nothing: else the next file takes its number, and its output."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))
