import copy
import csv
import itertools
import math
from dataclasses import replace

import pytest
import torch
from full_disk import room_for
from torch import nn

from app.errors import OutputError, TrainingError, WeightsError
from app.manifest import CHECKPOINT_NAME
from app.training.checkpoint import load_weights, save_weights
from app.training.config import TrainingConfig
from app.training.curve import Curve
from app.training.loop import CURVE_NAME, MOST_SKIPPED, STATE_NAME, Trainer
from app.training.objective import Objective

CONFIG = TrainingConfig(
    steps=6, patch_shape=(6, 8, 10), batch_size=2, learning_rate=0.05, warmup_steps=1, log_every=2
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 1), nn.ReLU(), nn.Conv3d(4, 2, 1))


def bright_voxels(skip=0):
    """Patches whose label is whether a voxel is bright; an endless stream."""
    generator = torch.Generator().manual_seed(0)

    def stream():
        while True:
            images = torch.randn(2, 1, 6, 8, 10, generator=generator)
            yield images, (images > 0.5).long()

    return itertools.islice(stream(), skip, None)


def test_training_learns_a_threshold(tmp_path):
    trainer = Trainer(network(), replace(CONFIG, steps=150), tmp_path, objective=Objective())

    trainer.run(bright_voxels())

    images, labels = next(bright_voxels(skip=1000))
    found = trainer.average.module(images).argmax(dim=1, keepdim=True)
    assert (found == labels).float().mean().item() > 0.95


def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(tmp_path):
    whole = Trainer(network(), CONFIG, tmp_path / "whole", objective=Objective())
    whole.run(bright_voxels())

    killed = Trainer(network(), CONFIG, tmp_path / "killed", objective=Objective())
    for images, labels in itertools.islice(bright_voxels(), 4):
        killed.model.train()
        killed.train_step(images, labels)
    killed.save()
    resumed = Trainer(network(), CONFIG, tmp_path / "killed", objective=Objective())
    assert resumed.resume()
    resumed.run(bright_voxels(skip=4))

    assert resumed.step == 6
    for found, expected in zip(
        resumed.average.module.parameters(), whole.average.module.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_a_run_leaves_state_weights_and_curve(tmp_path):
    trainer = Trainer(network(), CONFIG, tmp_path, objective=Objective())
    trainer.run(bright_voxels())

    assert (tmp_path / STATE_NAME).exists()
    with (tmp_path / CURVE_NAME).open() as file:
        assert [row[0] for row in csv.reader(file)] == ["2", "4", "6"]
    again = network()
    load_weights(tmp_path / CHECKPOINT_NAME, again)
    for found, expected in zip(
        again.parameters(), trainer.average.module.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def killed_after(steps):
    yield from itertools.islice(bright_voxels(), steps)
    raise KeyboardInterrupt


@pytest.mark.parametrize(("saved_at", "kept"), [(3, 3), (None, 0)])
def test_steps_that_are_taken_again_stand_in_the_curve_once(tmp_path, saved_at, kept):
    config = replace(CONFIG, log_every=1, validate_every=saved_at or 0)
    killed = Trainer(network(), config, tmp_path, objective=Objective())
    with pytest.raises(KeyboardInterrupt):
        killed.run(killed_after(5), validate=lambda *_: None)

    resumed = Trainer(network(), config, tmp_path, objective=Objective())
    assert resumed.resume() is (saved_at is not None)
    before = (tmp_path / CURVE_NAME).read_bytes().splitlines(keepends=True)
    resumed.run(bright_voxels(skip=resumed.step))

    after = (tmp_path / CURVE_NAME).read_bytes().splitlines(keepends=True)
    assert [int(row.split(b",")[0]) for row in after] == [1, 2, 3, 4, 5, 6]
    assert after[:kept] == before[:kept]


@pytest.mark.parametrize("name", [STATE_NAME, CHECKPOINT_NAME])
def test_a_full_disk_is_told_and_the_earlier_file_stays(tmp_path, name):
    trainer = Trainer(network(), CONFIG, tmp_path, objective=Objective())
    trainer.save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = {
        STATE_NAME: trainer.save,
        CHECKPOINT_NAME: lambda: save_weights(tmp_path / name, trainer.average.module),
    }

    with room_for(100), pytest.raises(OutputError, match=f"{name}: cannot be written whole"):
        write[name]()

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_curve_that_cannot_be_written_is_told_and_stays_whole(tmp_path):
    Trainer(network(), CONFIG, tmp_path, objective=Objective()).run(bright_voxels())
    state = (tmp_path / STATE_NAME).read_bytes()
    before = (tmp_path / CURVE_NAME).read_bytes()
    curve = Curve(tmp_path / CURVE_NAME, CONFIG, board=None)

    told = f"{CURVE_NAME}: cannot be written .*the same command goes on from the state"
    with room_for(len(before) + 5), pytest.raises(OutputError, match=told):
        curve.add(8, 0.5)

    assert (tmp_path / CURVE_NAME).read_bytes() == before
    assert (tmp_path / STATE_NAME).read_bytes() == state


class Weighted(Objective):
    """An objective with weights of its own, as deep supervision has."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, *batch):
        return super().forward(*batch) * self.scale**2


def test_a_new_stage_starts_from_all_that_a_state_holds_but_its_steps(tmp_path):
    first = Trainer(network(), CONFIG, tmp_path / "first", objective=Weighted())
    first.run(bright_voxels())

    second = Trainer(network(), CONFIG, tmp_path / "second", objective=Weighted())
    second.start_from(tmp_path / "first" / STATE_NAME)

    assert second.step == 0
    assert torch.equal(next(second.model.parameters()), next(first.model.parameters()))
    assert first.objective.scale != 1
    assert torch.equal(second.objective.scale, first.objective.scale)
    for mine, theirs in zip(second.model.parameters(), first.model.parameters(), strict=True):
        moments = second.optimizer.state[mine], first.optimizer.state[theirs]
        assert torch.equal(*[moment["exp_avg_sq"] for moment in moments])


def test_the_state_of_another_objective_is_refused_and_the_way_out_told(tmp_path):
    Trainer(network(), CONFIG, tmp_path, objective=Objective()).save()
    other = Trainer(network(), CONFIG, tmp_path / "other", objective=Weighted())

    with pytest.raises(WeightsError, match=r"(?s)state\.pt: .*checkpoint\.safetensors"):
        other.start_from(tmp_path / STATE_NAME)


def test_a_new_stage_starts_from_published_weights(tmp_path):
    first = Trainer(network(), CONFIG, tmp_path / "first", objective=Objective())
    first.run(bright_voxels())

    second = Trainer(network(), CONFIG, tmp_path / "second", objective=Objective())
    second.start_from(tmp_path / "first" / CHECKPOINT_NAME)

    for found in (second.model, second.average.module):
        for weights, expected in zip(
            found.parameters(), first.average.module.parameters(), strict=True
        ):
            torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-4)


def test_the_state_of_another_network_is_refused(tmp_path):
    Trainer(network(), CONFIG, tmp_path, objective=Objective()).save()
    other = Trainer(nn.Conv3d(1, 2, 1), CONFIG, tmp_path, objective=Objective())

    with pytest.raises(WeightsError, match=STATE_NAME):
        other.resume()


def test_a_run_that_goes_on_has_the_weight_decay_it_is_given(tmp_path):
    Trainer(network(), CONFIG, tmp_path, objective=Objective()).save()
    other = replace(CONFIG, weight_decay=0.25)
    resumed = Trainer(network(), other, tmp_path, objective=Objective())
    assert resumed.resume()

    resumed.train_step(*next(bright_voxels()))

    assert {group["weight_decay"] for group in resumed.optimizer.param_groups} == {0.25}


@pytest.mark.parametrize("content", ["nothing", "cut", "empty", "text", "list"])
def test_a_damaged_training_state_is_named(tmp_path, content):
    path = tmp_path / STATE_NAME
    trainer = Trainer(network(), CONFIG, tmp_path, objective=Objective())
    trainer.save()
    whole = path.read_bytes()
    if content == "nothing":
        path.unlink()
    elif content == "list":
        torch.save([1, 2], path)
    else:
        path.write_bytes({"cut": whole[:-90], "empty": b"", "text": b"no state"}[content])

    with pytest.raises(WeightsError, match=r"state\.pt: not a training state"):
        trainer.start_from(path)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(WeightsError, match="nothing.safetensors"):
        load_weights(tmp_path / "nothing.safetensors", network())


@pytest.mark.parametrize("size", [0, 5, -50])
def test_weights_that_are_cut_short_are_named(tmp_path, size):
    path = tmp_path / "cut.safetensors"
    save_weights(path, network())
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(WeightsError, match=r"cut\.safetensors: no weights of this network"):
        load_weights(path, network())


def test_fewer_steps_than_are_done_train_nothing_and_fail_not(tmp_path):
    Trainer(network(), CONFIG, tmp_path, objective=Objective()).run(bright_voxels())
    shorter = Trainer(network(), replace(CONFIG, steps=4), tmp_path, objective=Objective())
    assert shorter.resume()

    shorter.run(bright_voxels())

    assert shorter.step == 6


@pytest.mark.parametrize(
    ("step", "every", "due"),
    [(4, 2, True), (5, 2, False), (6, 4, True), (7, 4, True), (6, 0, False)],
)
def test_validation_is_due_every_so_often_and_at_the_end(tmp_path, step, every, due):
    config = replace(CONFIG, validate_every=every)  # of 6 steps
    trainer = Trainer(network(), config, tmp_path, objective=Objective())
    trainer.step = step

    assert trainer.is_validation_due() is due


class Rooted(Objective):
    """A weight of its own; at zero the loss is finite and the gradient is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, *batch):
        return super().forward(*batch) + self.weight.sqrt().sum()


def test_the_network_s_gradient_is_clipped_and_the_objective_s_left_alone(tmp_path):
    def gradients(max_gradient_norm):
        config = replace(CONFIG, max_gradient_norm=max_gradient_norm)
        trainer = Trainer(network(), config, tmp_path, objective=Weighted())
        trainer.objective.scale.data.fill_(20.0)  # with its gradient it would be clipped more
        trainer.train_step(*next(bright_voxels()))
        of_network = [weights.grad for weights in trainer.model.parameters()]
        return nn.utils.get_total_norm(of_network).item(), trainer.objective.scale.grad.item()

    whole, of_objective = gradients(1e9)
    assert gradients(whole / 4) == pytest.approx((whole / 4, of_objective))


def learnt(trainer):
    """Copy all that a step changes, running statistics among it."""
    parts = (trainer.model, trainer.average.module, trainer.objective)
    states = [*(part.state_dict() for part in parts), trainer.optimizer.state_dict()["state"]]
    return copy.deepcopy(states)


def broken_at(*steps):
    """As :func:`bright_voxels`, with a voxel that is no number in the patches of some steps."""
    for step, (images, labels) in enumerate(bright_voxels(), start=1):
        if step in steps:
            images[1, 0, 2, 3, 4] = torch.nan
        yield images, labels


@pytest.mark.parametrize("at_fault", ["patch", "gradient"])
def test_a_step_without_a_finite_gradient_changes_nothing_but_the_count(tmp_path, at_fault):
    torch.manual_seed(0)
    layers = [nn.Conv3d(1, 4, 1), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 1)]
    trainer = Trainer(nn.Sequential(*layers), CONFIG, tmp_path, objective=Rooted())
    sound, broken = itertools.islice(broken_at(2), 2)
    trainer.train_step(*sound)
    if at_fault == "gradient":
        trainer.objective.weight.data.zero_()
        broken = sound
    before = learnt(trainer)

    assert math.isnan(trainer.train_step(*broken))

    torch.testing.assert_close(learnt(trainer), before, rtol=0, atol=0)
    assert trainer.step == 2


@pytest.mark.parametrize(("log_every", "without_loss"), [(2, []), (1, ["3"])])
def test_a_run_goes_on_after_a_skipped_step_and_tells_it(tmp_path, caplog, log_every, without_loss):
    config = replace(CONFIG, log_every=log_every)
    trainer = Trainer(network(), config, tmp_path, objective=Objective())

    trainer.run(broken_at(3))

    assert trainer.step == 6
    assert "step 3" in caplog.text
    with (tmp_path / CURVE_NAME).open() as file:
        rows = list(csv.reader(file))
    assert len(rows) == 6 // log_every
    assert [row[0] for row in rows if math.isnan(float(row[1]))] == without_loss


def test_a_run_of_skipped_steps_alone_ends_and_leaves_the_last_good_state(tmp_path):
    # Saved after each step, were it not for what is skipped.
    config = replace(CONFIG, steps=100, checkpoint_every_s=0.0)
    trainer = Trainer(network(), config, tmp_path, objective=Objective())
    first = 3 + 2  # one skipped step does not count with those after a good one
    last = first + MOST_SKIPPED - 1

    with pytest.raises(TrainingError, match=rf"{MOST_SKIPPED} steps .*{last}.*--learning-rate"):
        trainer.run(broken_at(3, *range(first, 100)))

    resumed = Trainer(network(), config, tmp_path, objective=Objective())
    assert resumed.resume()
    assert resumed.step == 4
    for found, expected in zip(resumed.model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(found, expected)
        assert found.isfinite().all()
