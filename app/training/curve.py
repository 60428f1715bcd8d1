"""The curve of a run: loss, learning rate and pace over the steps."""

import contextlib
import logging
import math
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import OutputError
from app.imaging.io import atomic_path
from app.training.config import TrainingConfig
from app.training.schedule import learning_rate

if TYPE_CHECKING:  # TensorBoard takes seconds to import, and not every run has a board
    from app.training.board import Board

logger = logging.getLogger(__name__)


class Curve:
    """Rows of step, mean loss, learning rate and seconds a step.

    Steps that were skipped have no loss (NaN) and no part in the mean.

    Parameters
    ----------
    path : Path
        CSV file to add rows to.
    config : TrainingConfig
        Says how many steps make a row.
    board : Board or None
        Shown every row as well.
    """

    def __init__(self, path: Path, config: TrainingConfig, board: "Board | None") -> None:
        self.path = path
        self.config = config
        self.board = board
        self.losses: list[float] = []
        self.num_steps = 0
        self.elapsed_s = 0.0
        self.start_clock()

    def forget_after(self, step: int) -> None:
        """Take away the rows of later steps, which a run that was killed is to take again."""
        if not self.path.exists():
            return
        rows = self.path.read_bytes().splitlines(keepends=True)
        kept = [row for row in rows if _is_up_to(step, row)]
        if kept != rows:
            with atomic_path(self.path) as partial:
                partial.write_bytes(b"".join(kept))

    def start_clock(self) -> None:
        """Count time from here on; called where something else has taken time."""
        self.since = time.monotonic()

    def add(self, step: int, loss: float) -> None:
        """Take in one step; every so often, write a row.

        Raises
        ------
        OutputError
            If the row cannot be written; then the file is as it was.
        """
        if not math.isnan(loss):
            self.losses.append(loss)
        self.num_steps += 1
        self.elapsed_s += time.monotonic() - self.since
        self.start_clock()
        if step % self.config.log_every:
            return
        mean = sum(self.losses) / len(self.losses) if self.losses else math.nan
        pace_s = self.elapsed_s / self.num_steps
        rate = learning_rate(step, self.config)
        logger.info("step %d  loss %.4f  %.2f s a step", step, mean, pace_s)
        self._append(f"{step},{mean:.5f},{rate:.3e},{pace_s:.3f}\r\n".encode())
        if self.board is not None:
            values = {"loss": mean, "learning_rate": rate, "seconds_per_step": pace_s}
            self.board.scalars(step, values)
        self.losses, self.num_steps, self.elapsed_s = [], 0, 0.0

    def _append(self, row: bytes) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as file:
                file.write(row)
        except OSError as error:
            with contextlib.suppress(OSError):  # a part of a row would be taken for another step
                os.truncate(self.path, size)
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); make room there, and the same "
                "command goes on from the state beside it"
            ) from error


def _is_up_to(step: int, row: bytes) -> bool:
    first = row.partition(b",")[0]
    return first.isdigit() and int(first) <= step
