import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from app.errors import UsageError, WeightsError
from app.training.config import TrainingConfig
from app.training.loop import STATE_NAME, Trainer
from app.training.objective import Objective
from app.training.optimizer import LEAST_CHANNELS, MuonAndAdamW, make_optimizer

WIDTH = LEAST_CHANNELS
CONFIG = TrainingConfig(
    steps=6, patch_shape=(4, 6, 8), batch_size=1, optimizer="muon", learning_rate=0.01
)


def network():
    """A dense kernel and a head, a depthwise kernel and scales between them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, WIDTH, 1),
        nn.Conv3d(WIDTH, WIDTH, 3, padding=1),
        nn.Conv3d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH),
        nn.GroupNorm(2, WIDTH),
        nn.Conv3d(WIDTH, 2, 1),
    )


def bias():
    """AdamW takes no empty list of parameters."""
    return nn.Parameter(torch.zeros(6))


def bright_voxels(skip=0):
    generator = torch.Generator().manual_seed(0)
    patches = (torch.randn(1, 1, 4, 6, 8, generator=generator) for _ in itertools.count())
    return itertools.islice(((image, (image > 0.5).long()) for image in patches), skip, None)


def test_muon_turns_dense_kernels_and_adamw_all_other_weights(tmp_path):
    trainer = Trainer(network(), CONFIG, tmp_path, objective=Objective())
    before = [weights.clone() for weights in trainer.model.parameters()]

    trainer.train_step(*next(bright_voxels()))

    assert isinstance(trainer.optimizer, MuonAndAdamW)
    shapes = [tuple(weights.shape) for weights in trainer.optimizer.matrices]
    assert shapes == [(WIDTH, WIDTH, 3, 3, 3), (2, WIDTH, 1, 1, 1)]
    for weights, old in zip(trainer.model.parameters(), before, strict=True):
        assert not torch.equal(weights, old)


def test_a_step_of_muon_is_as_long_in_all_directions_of_a_matrix():
    torch.manual_seed(0)
    weights = nn.Parameter(torch.zeros(6, LEAST_CHANNELS))
    optimizer = MuonAndAdamW([weights, bias()], learning_rate=0.1, weight_decay=0.0)
    # Directions a thousand times as steep as others.
    rows, _, columns = torch.linalg.svd(torch.randn(6, LEAST_CHANNELS), full_matrices=False)
    weights.grad = rows @ torch.diag(torch.logspace(0, 3, 6)) @ columns

    optimizer.step()

    lengths = torch.linalg.svdvals(weights.detach())
    assert lengths.max() / lengths.min() < 3
    # A root mean square of 0.2 for a rate of 1 is what AdamW's steps have.
    rms = weights.detach().square().mean().sqrt() / 0.1
    assert rms.item() == pytest.approx(0.2, rel=0.3)


def test_weights_without_a_gradient_stay():
    weights = nn.Parameter(torch.ones(6, LEAST_CHANNELS))
    optimizer = MuonAndAdamW([weights, bias()], learning_rate=0.1, weight_decay=0.0)

    optimizer.zero_grad()
    optimizer.step()

    assert torch.equal(weights, torch.ones_like(weights))


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_of_both_are_forgotten(to_none):
    parameters = list(network().parameters())
    optimizer = MuonAndAdamW(parameters, learning_rate=0.1, weight_decay=0.0)
    for weights in parameters:
        weights.grad = torch.ones_like(weights)

    optimizer.zero_grad(set_to_none=to_none)

    for weights in parameters:
        assert weights.grad is None if to_none else not weights.grad.any()


def test_a_killed_run_goes_on_with_the_moments_and_rates_of_both(tmp_path):
    whole = Trainer(network(), CONFIG, tmp_path / "whole", objective=Objective())
    whole.run(bright_voxels())

    killed = Trainer(network(), CONFIG, tmp_path / "killed", objective=Objective())
    killed.model.train()
    for batch in itertools.islice(bright_voxels(), 4):
        killed.train_step(*batch)
    killed.save()
    resumed = Trainer(network(), CONFIG, tmp_path / "killed", objective=Objective())
    assert resumed.resume()
    resumed.run(bright_voxels(skip=4))

    assert len({group["lr"] for group in resumed.optimizer.param_groups}) == 1
    for found, expected in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("begun", "now"), [("adamw", "muon"), ("muon", "adamw")])
def test_the_state_of_the_other_optimizer_is_refused(tmp_path, begun, now):
    begun = replace(CONFIG, optimizer=begun)
    Trainer(network(), begun, tmp_path, objective=Objective()).save()
    other = Trainer(network(), replace(CONFIG, optimizer=now), tmp_path, objective=Objective())

    with pytest.raises(WeightsError, match=STATE_NAME):
        other.resume()


def test_kernels_that_would_have_to_be_copied_are_refused():
    kernel = nn.Parameter(
        torch.ones(2, LEAST_CHANNELS, 3, 3, 3).to(memory_format=torch.channels_last_3d)
    )
    with pytest.raises(RuntimeError, match="view"):
        make_optimizer([kernel], CONFIG)


def test_an_unknown_optimizer_is_told():
    with pytest.raises(UsageError, match="adamw or muon"):
        replace(CONFIG, optimizer="sgd")
