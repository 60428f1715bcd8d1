from dataclasses import replace

import pytest
import torch
from torch import nn

from app.config import LOCATE, SEGMENT
from app.models.locator import Locator
from app.models.segmenter import Segmenter
from app.training.objective import DeepSupervision, Objective, make_objective

SMALL = replace(SEGMENT, depths=(1, 1, 1, 1))


class Fixed(nn.Module):
    """Always answers the same logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits


def test_a_certain_right_answer_costs_nothing_and_a_wrong_one_much():
    labels = torch.zeros(1, 1, 4, 6, 8, dtype=torch.long)
    labels[..., 4:] = 1
    right = torch.cat([1.0 - labels, labels.float()], dim=1) * 50
    images = torch.zeros(1, 1, 4, 6, 8)

    assert Objective()(Fixed(right), images, labels).item() == pytest.approx(0, abs=1e-4)
    assert Objective()(Fixed(right.flip(1)), images, labels).item() > 20


def test_the_loss_looks_at_every_second_voxel_only():
    labels = torch.zeros(1, 1, 4, 6, 8, dtype=torch.long)
    labels[:, :, 1::2] = 1  # between the slices that are looked at
    logits = torch.zeros(1, 2, 4, 6, 8)
    logits[:, 0] = 50

    assert Objective(stride=1)(Fixed(logits), labels.float(), labels).item() > 1
    assert Objective(stride=2)(Fixed(logits), labels.float(), labels).item() == 0


def test_deep_supervision_teaches_stages_that_the_logits_do_not_need():
    torch.manual_seed(0)
    network = Segmenter(SMALL).train()
    objective = DeepSupervision(SMALL.widths, 14)
    images = torch.randn(2, 1, 32, 32, 48)
    labels = torch.randint(0, 14, (2, 1, 32, 32, 48))
    network.decode = lambda skips: torch.zeros(2, 14, 32, 32, 48)

    objective(network, images, labels).backward()

    deepest = network.encoder.stages[3][0].feed_forward.reduce.weight
    assert deepest.grad.abs().sum() > 0
    assert all(head.weight.grad.abs().sum() > 0 for head in objective.heads)


def test_only_the_segmenter_is_supervised_deeply():
    assert isinstance(make_objective(Segmenter(SMALL), SMALL.widths, 1), DeepSupervision)
    assert isinstance(make_objective(Locator(LOCATE), LOCATE.widths, 2), Objective)
