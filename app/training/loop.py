"""The training loop of both phases."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from app.errors import TrainingError
from app.manifest import CHECKPOINT_NAME
from app.training.checkpoint import (
    load_start,
    load_state,
    load_training,
    load_weights,
    save_state,
    save_weights,
)
from app.training.config import TrainingConfig
from app.training.curve import Curve
from app.training.machine import computes_in_bfloat16
from app.training.optimizer import make_optimizer
from app.training.processes import Process
from app.training.schedule import AveragedModel, learning_rate

if TYPE_CHECKING:  # TensorBoard takes seconds to import, and not every run has a board
    from app.training.board import Board

logger = logging.getLogger(__name__)

STATE_NAME = "state.pt"
CURVE_NAME = "curve.csv"

MOST_SKIPPED = 5
"""Steps in a row without a finite gradient that end a run; a single one may be a patch's fault."""


class _Costs(nn.Module):
    """Network and objective as one, so that several processes share all gradients."""

    def __init__(self, model: nn.Module, objective: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, *batch: Tensor) -> Tensor:
        cost: Tensor = self.objective(self.model, *batch)
        return cost


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
    process : Process
        Where to compute. Of several processes each takes its own batches, the gradients
        are shared, and the first writes the files.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        output: Path,
        *,
        objective: nn.Module,
        process: Process | None = None,
    ) -> None:
        self.process = process or Process()
        self.model = model.to(self.process.device)
        self.config = config
        self.output = output
        self.objective = objective.to(self.process.device)
        self.costs: nn.Module = _Costs(model, objective)
        if self.process.size > 1:
            self.costs = DistributedDataParallel(self.costs)
        self.average = AveragedModel(model, config.ema_decay)
        self.in_bfloat16 = config.mixed_precision and computes_in_bfloat16(self.process.device)
        self.optimizer = make_optimizer([*model.parameters(), *objective.parameters()], config)
        self.step = 0
        self.num_skipped = 0  # in a row, up to now
        self.saved_at = 0.0
        output.mkdir(parents=True, exist_ok=True)

    def start_from(self, weights: Path) -> None:
        """Begin a new stage with the weights of an earlier one.

        A state brings the objective's own weights and the optimizer's moments as well. Without
        those AdamW's first steps are as long for noise as for what matters, and a hundred
        steps go into regaining what they cost.

        Parameters
        ----------
        weights : Path
            ``state.pt`` of a run, or published ``checkpoint.safetensors``.
        """
        if weights.suffix == Path(CHECKPOINT_NAME).suffix:
            load_weights(weights, self.model)
            load_weights(weights, self.average.module)
        else:
            state = load_start(weights, model=self.model, average=self.average)
            load_training(weights, state, objective=self.objective, optimizer=self.optimizer)
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
        self.saved_at = time.monotonic()

    def train_step(self, *batch: Tensor) -> float:
        """Take one optimizer step and give its loss.

        Without a finite gradient the step is skipped: weights, averages and moments
        would be lost for good. It counts as a step all the same.

        Parameters
        ----------
        *batch : tensors
            Images, (N, 1, Z, Y, X) of float32; labels, (N, 1, Z, Y, X) of int64; and,
            if not all are labeled in every case, the labeled classes, (N, C) of bool.

        Returns
        -------
        float
            NaN for a step that was skipped.

        Raises
        ------
        TrainingError
            If this step is the last of ``MOST_SKIPPED`` in a row that were skipped.
        """
        device = self.process.device
        batch = tuple(tensor.to(device, non_blocking=True) for tensor in batch)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.config)
            # A state brings back that of the run's start.
            group["weight_decay"] = self.config.weight_decay
        # The forward pass moves the running statistics of batch norms, NaN or not.
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.in_bfloat16):
            loss = self.costs(*batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self.config.max_gradient_norm
        of_model = nn.utils.clip_grad_norm_(self.model.parameters(), limit)  # length before
        length = nn.utils.get_total_norm([of_model, *_gradients(self.objective)])
        self.step += 1
        # Both at once: each number read makes a GPU wait.
        cost, norm = torch.hstack([loss.detach(), length]).tolist()
        # Several processes share the gradients, but not the loss, and have to decide alike.
        if not math.isfinite(norm):
            self._skip(cost, norm, statistics)
            return math.nan
        self.num_skipped = 0
        self.optimizer.step()
        self.average.update(self.model, self.step)
        return float(cost)

    def _skip(self, loss: float, norm: float, statistics: list[Tensor]) -> None:
        """Leave all as it was before a step, and end the run if there were too many of them."""
        for buffer, before in zip(self.model.buffers(), statistics, strict=True):
            buffer.copy_(before)
        self.num_skipped += 1
        logger.warning("step %d skipped: loss %g, length of the gradient %g", self.step, loss, norm)
        if self.num_skipped == MOST_SKIPPED:
            raise TrainingError(
                f"{self.output}: the gradient was not finite in {MOST_SKIPPED} steps in a row, up "
                f"to step {self.step}; {STATE_NAME} there is of before, if there is one. Give the "
                "command again with a lower --learning-rate or, in the [training] table of "
                "--config, mixed_precision = false"
            )

    def run(
        self,
        batches: Iterable[tuple[Tensor, ...]],
        *,
        validate: Callable[[nn.Module, int], None] | None = None,
        board: "Board | None" = None,
    ) -> None:
        """Train to the end of the stage.

        Parameters
        ----------
        batches : iterable of tuples of tensors
            Endless; see :meth:`train_step` for what is in one.
        validate : callable, optional
            Given the averaged network and the step every ``config.validate_every`` steps
            and at the end, after the state was saved; by the first process only.
        board : Board, optional
            Shown the curve as well.
        """
        if self.step >= self.config.steps:
            logger.info("nothing left to train: %d of %d steps done", self.step, self.config.steps)
        self.model.train()
        # All processes drew the same weights; the paths that each drops are to be its own.
        torch.manual_seed(self.config.seed_from(self.step) + self.process.rank)
        self.saved_at = time.monotonic()
        curve = Curve(self.output / CURVE_NAME, self.config, board)
        if self.process.is_first:
            curve.forget_after(self.step)
        for batch in itertools.islice(batches, max(0, self.config.steps - self.step)):
            loss = self.train_step(*batch)
            if not self.process.is_first:
                continue
            curve.add(self.step, loss)
            if validate is not None and self.is_validation_due():
                self.save()
                validate(self.average.module, self.step)
                curve.start_clock()
            elif self._is_save_due():
                self.save()
        if self.process.is_first:
            self.save()

    def _is_save_due(self) -> bool:
        # While steps are skipped, the weights themselves may be at fault.
        is_late = time.monotonic() - self.saved_at > self.config.checkpoint_every_s
        return is_late and self.num_skipped == 0

    def is_validation_due(self) -> bool:
        """Tell whether the weights are to be validated at this step."""
        every = self.config.validate_every
        return every > 0 and (self.step % every == 0 or self.step >= self.config.steps)


def _gradients(module: nn.Module) -> list[Tensor]:
    return [weights.grad for weights in module.parameters() if weights.grad is not None]
