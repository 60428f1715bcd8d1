from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from app.config import LOCATE, SEGMENT
from app.errors import UsageError
from app.models.locator import Locator
from app.models.segmenter import Segmenter
from app.training.config import NO_SMOOTHING, RECIPES
from app.training.objective import (
    DeepSupervision,
    Objective,
    OverlapAndEntropy,
    make_objective,
    marginalize,
)

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

    deepest = network.encoder.stages[3][0].feed_forward.reduce.weight
    objective(network, images, labels).backward()
    assert deepest.grad.abs().sum() == 0  # before the classifiers know anything, nor do they teach
    assert all(head.weight.grad.abs().sum() > 0 for head in objective.heads)

    torch.optim.SGD(objective.parameters(), lr=0.1).step()
    objective(network, images, labels).backward()
    assert deepest.grad.abs().sum() > 0


def test_only_the_segmenter_is_supervised_deeply():
    deep = make_objective(Segmenter(SMALL), SMALL.widths, RECIPES["segment"])
    plain = make_objective(Locator(LOCATE), LOCATE.widths, RECIPES["locate"])

    assert isinstance(deep, DeepSupervision)
    assert isinstance(plain, Objective)
    assert plain.stride == RECIPES["locate"].loss_stride


def _specks(number):
    """Logits of a volume in which so many voxels are taken for the second of two organs."""
    logits = torch.zeros(1, 3, 4, 6, 8)
    logits[:, 0] = 50
    logits[:, :2, :2] = torch.tensor([0.0, 50.0])[None, :, None, None, None]
    logits.flatten(2)[..., -number:] = torch.tensor([0.0, 0.0, 50.0])[None, :, None]
    labels = torch.zeros(1, 1, 4, 6, 8, dtype=torch.long)
    labels[:, :, :2] = 1
    return logits, labels


def test_smoothing_makes_a_smaller_speck_of_an_absent_organ_the_lesser_evil():
    """The Dice alone: cross-entropy is taken off."""
    smoothed, plain = OverlapAndEntropy(10.0), OverlapAndEntropy()

    def dice_loss(loss, number):
        logits, labels = _specks(number)
        return (loss(logits, labels) - F.cross_entropy(logits, labels[:, 0])).item()

    # Two organs: one found whole, the other h voxels where there is none, so (0 + loss) / 2.
    assert dice_loss(smoothed, 5) == pytest.approx(5 / 15 / 2, abs=1e-5)
    assert dice_loss(smoothed, 30) == pytest.approx(30 / 40 / 2, abs=1e-5)
    assert dice_loss(plain, 5) == pytest.approx(dice_loss(plain, 30), abs=1e-5)


def test_only_with_smoothing_does_the_dice_unlearn_an_absent_organ():
    def push(loss):
        logits, labels = _specks(5)
        logits = (logits / 10).requires_grad_()  # not so sure that softmax passes nothing on
        (loss(logits, labels) - F.cross_entropy(logits, labels[:, 0])).backward()
        return logits.grad.flatten(2)[0, 2, -5:].mean().item()

    assert push(OverlapAndEntropy(10.0)) > 1e-4
    assert push(OverlapAndEntropy()) < 1e-6


def test_the_recipe_decides_on_smoothing_of_the_finest_stage_alone():
    recipe = replace(RECIPES["segment"], dice_smoothing=7.0)

    deep = make_objective(Segmenter(SMALL), SMALL.widths, recipe)
    plain = make_objective(Locator(LOCATE), LOCATE.widths, recipe)

    assert deep.loss.alone.dice.smooth_nr == deep.loss.alone.dice.smooth_dr == 7.0
    assert deep.loss.shared.smoothing == plain.loss.shared.smoothing == 7.0
    assert deep.coarse_loss.alone.dice.smooth_dr == NO_SMOOTHING
    with pytest.raises(UsageError, match="above 0"):
        replace(recipe, dice_smoothing=0.0)


def test_background_may_be_an_organ_that_nobody_looked_for():
    # One voxel, classes background, liver, spleen; the spleen was not looked for.
    logits = torch.log(torch.tensor([0.2, 0.5, 0.3])).reshape(1, 3, 1, 1, 1)
    labeled = torch.tensor([[True, True, False]])

    seen = marginalize(logits, labeled).softmax(dim=1).flatten()

    torch.testing.assert_close(seen, torch.tensor([0.5, 0.5, 0.0]))


def test_finding_an_unlabeled_organ_in_the_background_is_not_punished():
    labels = torch.zeros(1, 1, 2, 3, 4, dtype=torch.long)
    labels[..., 0] = 1
    spleen = torch.zeros(1, 3, 2, 3, 4)
    spleen[:, 1, ..., 0] = 50  # the liver, found where it is
    spleen[:, 2, ..., 1:] = 50  # all else is taken for spleen
    partial, full = torch.tensor([[True, True, False]]), torch.ones(1, 3, dtype=torch.bool)
    loss = OverlapAndEntropy()

    assert loss(spleen, labels, partial).item() == pytest.approx(0, abs=1e-4)
    assert loss(spleen, labels, full).item() > 20
    # Calling background liver costs as much as ever, and so does missing the liver.
    liver = torch.zeros(1, 3, 2, 3, 4)
    liver[:, 1] = 50
    assert loss(liver, labels, partial).item() > 20
    assert loss(liver.roll(1, dims=1), labels, partial).item() > 10


def test_an_unlabeled_organ_is_neither_taught_nor_unlearned():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 2, 3, 4, requires_grad=True)
    labels = torch.randint(0, 2, (2, 1, 2, 3, 4))
    labeled = torch.tensor([[True, True, False], [True, True, True]])

    OverlapAndEntropy()(logits, labels, labeled).backward()

    at_organ = (labels == 1).expand(-1, 3, -1, -1, -1)
    background, _, spleen = logits.grad[0][:, ~at_organ[0, 0]]
    # In the first case the two share what they are taught: neither is preferred.
    shares = logits.detach()[0][:, ~at_organ[0, 0]].exp()
    torch.testing.assert_close(spleen / background, shares[2] / shares[0])
    assert torch.isfinite(logits.grad).all()


def test_cases_with_other_organs_labeled_share_a_batch():
    labels = torch.zeros(2, 1, 2, 3, 4, dtype=torch.long)
    logits = torch.zeros(2, 3, 2, 3, 4)
    logits[:, 2] = 50  # spleen everywhere: unknown in the first case, wrong in the second
    labeled = torch.tensor([[True, True, False], [True, True, True]])
    loss = OverlapAndEntropy()

    both = loss(logits, labels, labeled).item()

    assert both > 20
    assert loss(logits[:1], labels[:1], labeled[:1]).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("smoothing", [NO_SMOOTHING, 20.0])
def test_what_several_processes_minimize_is_the_same_loss(tmp_path, smoothing):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 3, 4, 5), torch.randint(0, 4, (2, 1, 3, 4, 5))
    loss = OverlapAndEntropy(smoothing)
    alone = loss(logits, labels)
    meeting = (tmp_path / "meeting").as_uri()
    dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    try:
        torch.testing.assert_close(loss(logits, labels), alone)
    finally:
        dist.destroy_process_group()
