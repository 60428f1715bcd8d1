import pytest
from torch import nn

from app.training.config import TrainingConfig
from app.training.schedule import AveragedModel, learning_rate

CONFIG = TrainingConfig(
    steps=110, patch_shape=(16, 32, 48), batch_size=1, learning_rate=1.0,
    final_learning_rate=0.2, warmup_steps=10,
)  # fmt: skip


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.1), (9, 1.0), (10, 1.0), (60, 0.6), (110, 0.2), (500, 0.2)]
)
def test_rate_rises_linearly_then_falls_along_a_cosine(step, rate):
    assert learning_rate(step, CONFIG) == pytest.approx(rate)


def test_average_starts_short_and_grows_long():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = AveragedModel(model, decay=0.9)
    nn.init.ones_(model.weight)

    average.update(model, step=0)  # keeps 1/10
    assert average.module.weight.item() == pytest.approx(0.9)
    average.update(model, step=10_000)  # keeps 0.9
    assert average.module.weight.item() == pytest.approx(0.91)


def test_average_takes_over_buffers_that_are_not_floats():
    model = nn.BatchNorm3d(2)
    average = AveragedModel(model, decay=0.9)
    model.num_batches_tracked.fill_(7)

    average.update(model, step=3)

    assert average.module.num_batches_tracked.item() == 7
