"""Learning rate and weight averaging over the steps of a run."""

import copy
import math

import torch
from torch import nn

from app.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Give the learning rate of a step: linear warm-up, then a cosine to its final value."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.final_learning_rate + swing * (config.learning_rate - config.final_learning_rate)


class AveragedModel:
    """Exponential moving average of a network's weights and buffers.

    Early on the average is short, so that it does not drag the random start along.

    Parameters
    ----------
    model : nn.Module
        The network that is trained.
    decay : float
        Share of the average that a step keeps once the run is long.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the network after a step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = model.state_dict()
        for name, average in self.module.state_dict().items():
            if average.dtype.is_floating_point:
                average.lerp_(current[name], 1 - decay)
            else:
                average.copy_(current[name])
