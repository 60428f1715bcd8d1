"""The training loop of both phases."""

import csv
import itertools
import logging
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from app.manifest import CHECKPOINT_NAME
from app.training.checkpoint import load_start, load_state, load_weights, save_state, save_weights
from app.training.config import TrainingConfig
from app.training.schedule import AveragedModel, learning_rate

logger = logging.getLogger(__name__)

STATE_NAME = "state.pt"
CURVE_NAME = "curve.csv"


class Trainer:
    """One stage of training, able to go on where it was killed.

    Parameters
    ----------
    model : nn.Module
        The network; (N, 1, Z, Y, X) to logits (N, classes, Z, Y, X).
    config : TrainingConfig
        The stage.
    objective : nn.Module
        Called with network, images and labels, gives the loss; may have weights of its own.
    output : Path
        Folder for state, weights and curve.
    """

    def __init__(
        self, model: nn.Module, config: TrainingConfig, output: Path, *, objective: nn.Module
    ) -> None:
        self.model = model
        self.config = config
        self.output = output
        self.objective = objective
        self.average = AveragedModel(model, config.ema_decay)
        self.optimizer = torch.optim.AdamW(
            [*model.parameters(), *objective.parameters()],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.step = 0
        output.mkdir(parents=True, exist_ok=True)

    def start_from(self, weights: Path) -> None:
        """Begin a new stage with the weights of an earlier one.

        Parameters
        ----------
        weights : Path
            ``state.pt`` of a run, or published ``checkpoint.safetensors``.
        """
        if weights.suffix == Path(CHECKPOINT_NAME).suffix:
            load_weights(weights, self.model)
            load_weights(weights, self.average.module)
        else:
            load_start(weights, model=self.model, average=self.average)
        logger.info("starting from the weights of %s", weights)

    def resume(self) -> bool:
        """Go on with this stage if it was begun before."""
        state = self.output / STATE_NAME
        if not state.exists():
            return False
        self.step = load_state(
            state,
            model=self.model,
            average=self.average,
            objective=self.objective,
            optimizer=self.optimizer,
        )
        logger.info("resuming %s at step %d", state, self.step)
        return True

    def save(self) -> None:
        """Write state and averaged weights."""
        save_state(
            self.output / STATE_NAME,
            step=self.step,
            model=self.model,
            average=self.average,
            objective=self.objective,
            optimizer=self.optimizer,
            config=self.config,
        )
        save_weights(self.output / CHECKPOINT_NAME, self.average.module)

    def train_step(self, images: Tensor, labels: Tensor) -> float:
        """Take one optimizer step and give its loss.

        Parameters
        ----------
        images : (N, 1, Z, Y, X) tensor of float32
        labels : (N, 1, Z, Y, X) tensor of int64
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        with torch.autocast(
            images.device.type, torch.bfloat16, enabled=self.config.mixed_precision
        ):
            loss = self.objective(self.model, images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.step += 1
        self.average.update(self.model, self.step)
        return float(loss.detach())

    def run(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Train to the end of the stage.

        Parameters
        ----------
        batches : iterable of (images, labels)
            Endless; see :meth:`train_step` for shapes.
        """
        self.model.train()
        saved = since = time.monotonic()
        losses: list[float] = []
        curve = self.output / CURVE_NAME
        with curve.open("a", newline="") as file:
            rows = csv.writer(file)
            for images, labels in itertools.islice(batches, self.config.steps - self.step):
                losses.append(self.train_step(images, labels))
                now = time.monotonic()
                if self.step % self.config.log_every == 0:
                    mean, pace_s = sum(losses) / len(losses), (now - since) / len(losses)
                    rate = learning_rate(self.step, self.config)
                    logger.info("step %d  loss %.4f  %.2f s a step", self.step, mean, pace_s)
                    rows.writerow([self.step, f"{mean:.5f}", f"{rate:.3e}", f"{pace_s:.3f}"])
                    file.flush()
                    losses, since = [], now
                if now - saved > self.config.checkpoint_every_s:
                    self.save()
                    saved = now
        self.save()
