from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from app.config import LOCATE
from app.errors import CascadeError, UsageError
from app.models.locator import DropPath, Locator
from app.training.config import TrainingConfig
from app.training.loop import Trainer
from app.training.objective import Objective
from app.training.processes import Process, run_on_devices

CONFIG = TrainingConfig(
    steps=1, patch_shape=(32, 32, 64), batch_size=1, mixed_precision=False, max_gradient_norm=1e9
)


def patches():
    """Four patches whose organs differ much in size."""
    images = torch.randn(4, 1, *CONFIG.patch_shape, generator=torch.Generator().manual_seed(0))
    threshold = torch.tensor([-1.0, 0.0, 1.0, 2.5]).reshape(4, 1, 1, 1, 1)
    return images, (images > threshold).long()


def gradients_of_share(*, process, output):
    """Train on every so-manieth patch and leave the gradients behind."""
    torch.manual_seed(process.rank)  # training together has to make the starts equal, too
    network = Locator(LOCATE).eval()  # no random paths
    trainer = Trainer(network, CONFIG, output, objective=Objective(), process=process)
    images, labels = patches()
    mine = slice(process.rank, None, process.size)
    trainer.train_step(images[mine], labels[mine])
    gradients = {name: weights.grad for name, weights in network.named_parameters()}
    torch.save(gradients, output / f"{process.rank}_of_{process.size}.pt")


def test_two_processes_have_the_gradients_of_one_with_the_double_batch(tmp_path):
    gradients_of_share(process=Process(), output=tmp_path)
    run_on_devices(gradients_of_share, 2, output=tmp_path)

    alone = torch.load(tmp_path / "0_of_1.pt", weights_only=True)
    assert len(alone) > 30
    for rank in (0, 1):
        shared = torch.load(tmp_path / f"{rank}_of_2.pt", weights_only=True)
        for name, expected in alone.items():
            largest = float(expected.abs().max())
            torch.testing.assert_close(shared[name], expected, rtol=0, atol=1e-4 * largest + 1e-9)


def refuse(*, process, folder):
    raise UsageError(f"{folder}: choose another")


def test_what_a_process_refuses_is_told_as_if_there_were_one(tmp_path):
    with pytest.raises(CascadeError) as alone:
        run_on_devices(refuse, 1, folder=tmp_path)
    with pytest.raises(CascadeError) as together:
        run_on_devices(refuse, 2, folder=tmp_path)

    assert str(together.value) == str(alone.value) == f"{tmp_path}: choose another"


class RandomPath(nn.Module):
    """A network that notes which of its samples were dropped."""

    def __init__(self):
        super().__init__()
        self.begin = nn.Conv3d(1, 4, 1)
        self.norm = nn.BatchNorm3d(4)
        self.path = DropPath(0.5)
        self.end = nn.Conv3d(4, 2, 1)
        self.kept = []

    def forward(self, x):
        x = self.path(self.norm(self.begin(x)))
        self.kept.append(x.flatten(1).any(dim=1))
        return self.end(x)


class OwnEntropy(nn.Module):
    """A loss that the processes do not share."""

    def forward(self, model, images, labels):
        return F.cross_entropy(model(images), labels[:, 0])


def train_together(*, process, output):
    """Train for three steps, with a voxel that is no number in the second of the last process."""
    torch.manual_seed(0)
    config = replace(CONFIG, steps=3)
    trainer = Trainer(RandomPath(), config, output, objective=OwnEntropy(), process=process)
    images = torch.randn(3, 16, 1, 4, 5, 6)
    labels = (images > 0.5).long()
    if process.rank == 1:
        images[1, 0, 0, 0, 0, 0] = torch.nan
    trainer.run(zip(images, labels, strict=True))
    network = trainer.model
    found = {"kept": torch.stack(network.kept), "weights": network.state_dict()}
    torch.save(found, output / f"{process.rank}.pt")


def test_processes_drop_paths_of_their_own_and_skip_a_step_together(tmp_path):
    run_on_devices(train_together, 2, output=tmp_path)

    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for name, value in first["weights"].items():
        assert value.isfinite().all()
        if "running" not in name:  # which each process keeps where there is no GPU
            torch.testing.assert_close(second["weights"][name], value, rtol=0, atol=0)
    assert first["weights"]["norm.num_batches_tracked"] == 2
    sound = [0, 2]  # what is no number is not dropped
    assert (first["kept"][sound] != second["kept"][sound]).any(dim=1).all()
