import csv
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from full_disk import room_for
from torch import nn

from app.config import LOCATE, SEGMENT
from app.errors import OutputError
from app.training.board import Board, draw_comparison
from app.training.checkpoint import load_weights
from app.training.validation import (
    BEST_NAME,
    VALIDATION_NAME,
    Validator,
    mean_scores,
    score_example,
)


class Bright(nn.Module):
    """Finds an organ where the input is above a threshold."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(threshold))

    def forward(self, images):
        return torch.cat([self.threshold - images, images - self.threshold], dim=1)


def example(labeled=range(14)):
    label = torch.zeros(1, 40, 50, 60, dtype=torch.uint8)
    label[0, 5:15, 10:30, 20:50] = 3
    known = torch.zeros(14, dtype=torch.bool)
    known[list(labeled)] = True
    return {"image": label.float() - 1, "label": label, "labeled": known}


def make(tmp_path, examples, phase=LOCATE, *, mixed_precision=True):
    return Validator(
        examples,
        phase,
        tmp_path,
        device=torch.device("cpu"),
        mixed_precision=mixed_precision,
        board=Board(tmp_path / "events"),
    )


def test_the_best_weights_are_kept_whatever_follows(tmp_path):
    validate = make(tmp_path, [example()])

    validate(Bright(1.5), 10)  # the organ is bright as 2, the rest dark as -1
    best = (tmp_path / BEST_NAME).read_bytes()
    validate(Bright(-5.0), 20)

    assert (tmp_path / BEST_NAME).read_bytes() == best
    with (tmp_path / VALIDATION_NAME).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["10", "20"]
    assert float(rows[0]["mean"]) == 1.0
    # All of 40 x 50 x 60 is found, 10 x 20 x 30 is wanted.
    assert float(rows[1]["organs"]) == pytest.approx(2 * 6_000 / (6_000 + 120_000), abs=1e-4)
    # A run that goes on knows what was best before.
    assert make(tmp_path, []).best() == 1.0
    assert any((tmp_path / "events").iterdir())


def steps_in(folder):
    with (folder / VALIDATION_NAME).open() as file:
        return [row["step"] for row in csv.DictReader(file)]


def test_a_table_that_a_full_disk_left_empty_gets_its_header(tmp_path):
    (tmp_path / VALIDATION_NAME).touch()
    validate = make(tmp_path, [example()])

    validate(Bright(1.5), 10)
    validate(Bright(-5.0), 20)

    assert steps_in(tmp_path) == ["10", "20"]
    assert validate.best() == 1.0


def test_a_table_that_cannot_be_written_stays_as_it_was(tmp_path):
    validate = make(tmp_path, [example()])
    validate(Bright(1.5), 10)
    before = (tmp_path / VALIDATION_NAME).read_bytes()
    with room_for(len(before)), pytest.raises(OutputError, match="validation.csv: cannot be"):
        validate._write_row(20, 0.5, {"organs": 0.5})

    assert (tmp_path / VALIDATION_NAME).read_bytes() == before


def test_a_run_begun_anew_does_not_compete_with_the_one_before(tmp_path):
    before = make(tmp_path, [example()])
    before(Bright(1.5), 10)
    before(Bright(-5.0), 20)

    anew = make(tmp_path, [example()])
    anew.forget_after(10)
    assert steps_in(tmp_path) == ["10"]
    anew.forget_after(0)
    anew(Bright(-5.0), 5)

    assert steps_in(tmp_path) == ["5"]
    kept = Bright(0.0)
    load_weights(tmp_path / BEST_NAME, kept)
    assert kept.threshold.item() == -5.0


@pytest.mark.parametrize("mixed_precision", [True, False])
def test_weights_are_scored_in_the_precision_they_are_trained_in(
    tmp_path, monkeypatch, mixed_precision
):
    capabilities = MappingProxyType({"avx512_bf16": True})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    phase = replace(LOCATE, patch_shape=(32, 32, 64))
    validate = make(tmp_path, [example()], phase, mixed_precision=mixed_precision)
    seen = set()

    class Probe(nn.Conv3d):
        def forward(self, images):
            found = super().forward(images)
            seen.add(found.dtype)
            return found

    validate.predict(Probe(1, 2, 1), example()["image"])

    assert seen == {torch.bfloat16 if mixed_precision else torch.float32}


def test_only_labeled_organs_are_scored():
    found = np.zeros((40, 50, 60), np.uint8)
    found[5:15, 10:30, 20:35] = 3  # half of it
    found[20:30] = 1

    assert score_example(example(labeled=(0, 3)), found, SEGMENT) == {
        "spleen": pytest.approx(2 / 3)
    }


def test_organs_weigh_the_same_however_many_cases_have_them():
    scores = [{"liver": 0.5, "spleen": float("nan")}, {"liver": 1.0}]

    means = mean_scores(scores, SEGMENT)

    assert means["liver"] == 0.75
    assert np.isnan(means["spleen"])


def test_the_picture_shows_the_reference_above_the_prediction():
    label = np.asarray(example()["label"][0])
    phase = SEGMENT
    image = np.zeros(label.shape, np.float32)

    picture = draw_comparison(image, label, np.zeros_like(label), phase)

    colored = (picture.max(axis=2).astype(int) - picture.min(axis=2) > 20).any(axis=1)
    half = len(colored) // 2
    assert colored[:half].any()
    assert not colored[half:].any()
