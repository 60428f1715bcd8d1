"""Training state, so that a killed run goes on, and weights, so that a finished one serves."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer

from app.errors import OutputError, WeightsError
from app.imaging.io import atomic_path
from app.manifest import CHECKPOINT_NAME
from app.training.config import TrainingConfig
from app.training.optimizer import MuonAndAdamW
from app.training.record import note_weights
from app.training.schedule import AveragedModel


def save_state(
    path: Path,
    *,
    step: int,
    model: nn.Module,
    average: AveragedModel,
    objective: nn.Module,
    optimizer: Optimizer | MuonAndAdamW,
    config: TrainingConfig,
) -> None:
    """Write all that a run needs to go on; whole or not at all."""
    state = {
        "step": step,
        "model": model.state_dict(),
        "average": average.module.state_dict(),
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": asdict(config),
    }
    with _whole(path) as partial:
        torch.save(state, partial)


def load_start(path: Path, *, model: nn.Module, average: AveragedModel) -> dict[str, Any]:
    """Read the weights of an earlier stage to begin a new one with.

    Parameters
    ----------
    path : Path
        Training state.
    model, average : nn.Module, AveragedModel
        Filled in place.

    Returns
    -------
    dict
        All that the file holds.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or belongs to another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average.module.load_state_dict(state["average"])
    except (
        OSError,
        EOFError,
        UnpicklingError,
        LookupError,
        TypeError,
        RuntimeError,
        ValueError,
    ) as error:
        raise WeightsError(
            f"{path}: not a training state of this network ({error}); give another, or move it away"
        ) from error
    return dict(state)


def load_state(
    path: Path,
    *,
    model: nn.Module,
    average: AveragedModel,
    objective: nn.Module,
    optimizer: Optimizer | MuonAndAdamW,
) -> int:
    """Read all that :func:`save_state` wrote, to go on with a run.

    Parameters
    ----------
    path : Path
        Training state.
    model, average, objective, optimizer
        Filled in place.

    Returns
    -------
    int
        Steps done.

    Raises
    ------
    WeightsError
        If the file is damaged, or belongs to another network, objective or optimizer.
    """
    state = load_start(path, model=model, average=average)
    load_training(path, state, objective=objective, optimizer=optimizer)
    return int(state["step"])


def load_training(
    path: Path, state: dict[str, Any], *, objective: nn.Module, optimizer: Optimizer | MuonAndAdamW
) -> None:
    """Take from a state what training needs beside the network, in place.

    Parameters
    ----------
    path : Path
        Where the state was read from.
    state : dict
        From :func:`load_start`.
    objective, optimizer
        Filled in place; the optimizer's settings are those of the state.

    Raises
    ------
    WeightsError
        If the state belongs to another objective or optimizer.
    """
    try:
        objective.load_state_dict(state["objective"])
        optimizer.load_state_dict(state["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a state of this kind of run ({error}); "
            f"{CHECKPOINT_NAME} beside it has the network's weights alone"
        ) from error


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a network's weights as float16 safetensors; whole or not at all.

    Their SHA-256 goes into the record beside them. A kill between the two leaves the earlier
    one there until the run that goes on saves again.
    """
    tensors = {
        name: tensor.half().contiguous() if tensor.dtype.is_floating_point else tensor
        for name, tensor in model.state_dict().items()
    }
    with _whole(path) as partial:
        save_file(tensors, partial)
        partial.chmod(0o644)  # safetensors makes files that only their owner can read
    note_weights(path)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Offer a name as ``atomic_path`` does; both libraries tell a full disk by no ``OSError``."""
    with atomic_path(path) as partial:
        try:
            yield partial
        except (RuntimeError, SafetensorError) as error:
            raise OutputError(
                f"{path}: cannot be written whole ({error}); is the disk full? The earlier one "
                "stays, and the same command goes on from it"
            ) from error


def load_weights(path: Path, model: nn.Module) -> None:
    """Read float16 safetensors into a float32 network.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or belongs to another network.
    """
    try:
        model.load_state_dict(load_file(path))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{path}: no weights of this network ({error})") from error
