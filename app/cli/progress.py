"""Say how far a batch has come: a bar on a terminal, lines in a log, JSON for machines."""

import json
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TextIO

from app.cli.cases import Case, printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

Style = Literal["auto", "bar", "lines", "json"]
STYLES: tuple[Style, ...] = ("auto", "bar", "lines", "json")

STEP_SHARES = {
    "read": 0.1,
    "locate": 0.12,
    "segment": 0.72,
    "restore": 0.02,
    "check": 0.01,
    "measure": 0.01,
    "write": 0.02,
}
"""Share of a case's time that each step takes; means of five scans of 30 to 160 slices."""


FIXED_BYTES = 50_000_000
"""What every scan costs whatever its size, as if its file were larger by so much."""


class BatchProgress:
    """Follow a batch case by case and step by step.

    The time left is guessed from the size of the scans' files: what is done so
    far, the present case's share included, sets the rate. Small scans take more
    time than their files tell, as phase two sees the same abdomen in them.

    Parameters
    ----------
    cases : sequence of Case
        The whole batch, in order.
    style : {"auto", "bar", "lines", "json"}
        ``auto`` draws a bar if standard error is a terminal, and prints lines if not.
    out, err : text streams, optional
        Lines and JSON go to ``out``; bars, and lines beside JSON, to ``err``.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        style: Style,
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._style = ("bar" if self._err.isatty() else "lines") if style == "auto" else style
        self._cases = cases
        self._index = 0
        self._fraction = 0.0
        self._started = time.perf_counter()
        self._bars: Bars | None = None

    def __enter__(self) -> "BatchProgress":
        """Show the bar, if it is to be one."""
        self._started = time.perf_counter()
        if self._style == "bar":
            self._bars = _make_bars(self._err)
            self._bars.start()
            self._bars.add_task("", total=1.0, left="")
            self._bars.add_task("all", total=1.0, left="", visible=len(self._cases) > 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self.stop()

    def stop(self) -> None:
        """Take the bar away, and give the terminal its cursor back."""
        if self._bars is not None:
            self._bars.stop()

    def say(self, line: str) -> None:
        """Print a line for people, where it disturbs neither bar nor JSON."""
        line = printable(line)  # whatever bytes the names of files bring into it
        if self._bars is not None and self._out.isatty():
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        stream = self._err if self._style == "json" else self._out
        stream.write(line + "\n")
        stream.flush()

    def begin(self, index: int) -> None:
        """Turn to a case.

        Parameters
        ----------
        index : int
            Its place in the batch, from 0.
        """
        self._index, self._fraction = index, 0.0
        if self._bars is not None:
            self._bars.reset(self._bars.task_ids[0], description=printable(self._cases[index].name))

    def observe(self, step: str, fraction: float) -> None:
        """Take notice of a step of the present case; an :class:`app.cascade.progress.Observer`."""
        self._fraction = max(self._fraction, case_fraction(step, fraction))
        self._tell(step)

    def end(self, status: str) -> None:
        """Be done with the present case, one way or the other."""
        self._fraction = 1.0
        self._tell("done", status=status)

    def seconds_left(self) -> float | None:
        """Guess how long the rest of the batch will take, in s.

        Returns
        -------
        float or None
            None as long as nothing is done.
        """
        sizes = [FIXED_BYTES + case.num_bytes for case in self._cases]
        done = sum(sizes[: self._index]) + self._fraction * sizes[self._index]
        if done <= 0:
            return None
        return (time.perf_counter() - self._started) * (sum(sizes) - done) / done

    def _tell(self, step: str, **more: Any) -> None:
        case, left = self._cases[self._index], self.seconds_left()
        if self._style == "json":
            told = {
                "case": case.name,
                "index": self._index + 1,
                "num_cases": len(self._cases),
                "step": step,
                "fraction": round(self._fraction, 3),
                "seconds_left": None if left is None else round(left, 1),
            }
            self._out.write(json.dumps(told | more) + "\n")
            self._out.flush()
        elif self._bars is not None:
            present, whole = self._bars.task_ids
            self._bars.update(present, completed=self._fraction, left=step)
            batch = (self._index + self._fraction) / len(self._cases)
            self._bars.update(whole, completed=batch, left=f"{clock(left)} left")
            if len(self._cases) == 1:
                self._bars.update(present, left=f"{step}, {clock(left)} left")


def case_fraction(step: str, fraction: float) -> float:
    """Give the share of a case that is done in the middle of a step.

    Parameters
    ----------
    step : str
        The step; one that is not in :data:`STEP_SHARES` takes no time.
    fraction : float
        Share of the step that is done.

    Returns
    -------
    float
        0 to 1.
    """
    before = 0.0
    for name, share in STEP_SHARES.items():
        if name == step:
            return before + share * fraction
        before += share
    return 0.0


def clock(seconds: float | None) -> str:
    """Write a duration as minutes and seconds: 1:05."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _make_bars(stream: TextIO) -> "Bars":
    # Only a terminal needs it; a log or a program does not wait for its import.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(file=stream),
        transient=True,
    )
