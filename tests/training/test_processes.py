import pytest
import torch

from app.config import LOCATE
from app.errors import CascadeError, UsageError
from app.models.locator import Locator
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
