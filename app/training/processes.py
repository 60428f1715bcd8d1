"""One process for each device, all training the same network."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessException, spawn

from app.errors import CascadeError

PATIENCE = timedelta(hours=4)
"""How long the others wait while the first process validates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One of the processes that train together.

    Parameters
    ----------
    rank, size : int
        Which one of how many; the first, rank 0, writes the files.
    device : torch.device
        What it computes on.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def is_first(self) -> bool:
        """Tell whether this process writes the files."""
        return self.rank == 0


def this_device(local_rank: int = 0) -> torch.device:
    """Choose the GPU of this process, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


@contextmanager
def joined(rank: int, size: int, local_rank: int, meeting: str) -> Iterator[Process]:
    """Join the processes that train together, and leave them in the end.

    Parameters
    ----------
    rank, size : int
        Which one of how many this is.
    local_rank : int
        Which one of this machine; it takes the GPU of that number.
    meeting : str
        Where they meet, in the words of ``torch.distributed``: ``file:///...`` or ``env://``.
    """
    device = this_device(local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=meeting,
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    try:
        yield Process(rank=rank, size=size, device=device)
    finally:
        dist.destroy_process_group()


def launched_rank() -> int:
    """Give the number of this process among those that ``torchrun`` started; 0 without it."""
    return int(os.environ["RANK"]) if dist.is_torchelastic_launched() else 0


def run_on_devices(task: Callable[..., None], devices: int, **arguments: Any) -> None:
    """Call a function in one process for each device.

    Started by ``torchrun``, this process is one of those that it has started.

    Parameters
    ----------
    task : callable
        A function of a module; gets ``process`` and ``arguments``.
    devices : int
        How many; 1 stays in this process.
    **arguments
        Handed on; must be picklable.

    Raises
    ------
    CascadeError
        What one of the processes refuses.
    """
    if dist.is_torchelastic_launched():
        rank, size, local = (int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        with joined(rank, size, local, "env://") as process:
            task(process=process, **arguments)
    elif devices == 1:
        task(process=Process(device=this_device()), **arguments)
    else:
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "refused"
            meeting = (Path(folder) / "meeting").as_uri()
            try:
                spawn(_join_and_call, (devices, meeting, told, task, arguments), nprocs=devices)
            except ProcessException:
                if told.exists():
                    raise CascadeError(told.read_text(encoding="utf-8")) from None
                raise


def _join_and_call(
    rank: int,
    size: int,
    meeting: str,
    told: Path,
    task: Callable[..., None],
    arguments: dict[str, Any],
) -> None:
    try:
        with joined(rank, size, rank, meeting) as process:
            task(process=process, **arguments)
    except CascadeError as error:
        # Of an error in another process only its traceback, as text, would reach the first.
        told.write_text(str(error), encoding="utf-8")
        raise
