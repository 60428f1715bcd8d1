"""What turns gradients into steps: AdamW, or Muon for the matrices and AdamW for the rest."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from app.training.config import TrainingConfig

LEAST_CHANNELS = 60
"""A dense kernel over fewer input channels is no matrix to speak of, a depthwise one is none."""


class MuonAndAdamW:
    """Muon for weights that are matrices, AdamW for all others, as one optimizer.

    Muon steps along the gradient's nearest orthogonal matrix: as far in directions that few
    patches show as in those that all do. Its steps are scaled to the length of AdamW's, so that
    one learning rate serves both.

    Keller Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025, "Muon is
    scalable for LLM training", arXiv:2502.16982 (the scale).

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        What is trained, on the device where it stays. Linear layers and dense convolutions over
        at least ``LEAST_CHANNELS`` channels are Muon's, these as (outputs, inputs x kernel).
    learning_rate, weight_decay : float
        Of both.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float
    ) -> None:
        parameters = list(parameters)
        self.matrices = [weights for weights in parameters if _is_matrix(weights)]
        # PyTorch's Muon takes matrices alone; these share their memory with the kernels (a view
        # that had to copy would train nothing, and is refused).
        self.flat = [
            nn.Parameter(weights.detach().view(len(weights), -1)) for weights in self.matrices
        ]
        self.adamw = torch.optim.AdamW(
            [weights for weights in parameters if not _is_matrix(weights)],
            lr=learning_rate,
            weight_decay=weight_decay,
        )
        self.muon = torch.optim.Muon(
            self.flat,
            lr=learning_rate,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Settings of either, to be changed in place."""
        return [*self.adamw.param_groups, *self.muon.param_groups]

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        self.adamw.zero_grad(set_to_none=set_to_none)
        for weights in self.matrices:
            if set_to_none:
                weights.grad = None
            elif weights.grad is not None:
                weights.grad.zero_()

    def step(self) -> None:
        """Take one step with all."""
        for flat, weights in zip(self.flat, self.matrices, strict=True):
            flat.grad = None if weights.grad is None else weights.grad.flatten(1)
        self.adamw.step()
        self.muon.step()
        for flat in self.flat:
            flat.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Give the moments and settings of both."""
        return {"adamw": self.adamw.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the moments and settings of both.

        Raises
        ------
        ValueError
            If they are of other parameters, or of another optimizer.
        """
        if state.keys() != {"adamw", "muon"}:
            raise ValueError("its optimizer is not muon")
        self.adamw.load_state_dict(state["adamw"])
        self.muon.load_state_dict(state["muon"])


def make_optimizer(
    parameters: Iterable[nn.Parameter], config: TrainingConfig
) -> torch.optim.Optimizer | MuonAndAdamW:
    """Make the optimizer of a stage.

    Parameters
    ----------
    parameters : iterable of nn.Parameter
        What is trained, on the device where it stays.
    config : TrainingConfig
        Optimizer, learning rate and weight decay.
    """
    if config.optimizer == "muon":
        return MuonAndAdamW(
            parameters, learning_rate=config.learning_rate, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)


def _is_matrix(weights: nn.Parameter) -> bool:
    return weights.ndim == 2 or (weights.ndim > 2 and weights.shape[1] >= LEAST_CHANNELS)
