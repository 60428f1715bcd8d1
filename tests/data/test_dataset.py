import itertools
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from full_disk import room_for
from own_data import write_case

from app.config import LOCATE, SEGMENT
from app.data import dataset as room
from app.data.case_list import CaseList, read_cases, write_cases
from app.data.cases import find_cases
from app.data.dataset import (
    EndlessSampler,
    Prepare,
    batches,
    held_out_dataset,
    training_dataset,
)
from app.errors import OutputError
from app.imaging.geometry import Geometry
from app.imaging.preprocess import network_input
from app.imaging.resample import resample_nearest
from app.imaging.volume import Volume

PHASE = replace(SEGMENT, spacing_mm=(4.0, 5.0, 6.0), patch_shape=(16, 16, 16))
COARSE = replace(LOCATE, spacing_mm=(8.0, 6.0, 7.0), patch_shape=(32, 32, 32))


@pytest.fixture
def cases(tmp_path):
    for name in "abc":
        write_case(tmp_path / "data", name)
    return find_cases(tmp_path / "data")[0]


def make(cases, tmp_path, phase=COARSE, patches_per_scan=1):
    return training_dataset(
        cases, phase, patch_shape=phase.patch_shape, patches_per_scan=patches_per_scan,
        cache=tmp_path / "prepared",
    )  # fmt: skip


def test_a_network_sees_in_training_what_it_sees_in_use(tmp_path, cases):
    scan, labels = write_case(tmp_path / "data", "a")
    spacing_mm = (5.0, 4.0, 3.0)
    volume = Volume(scan, Geometry(shape=scan.shape, spacing_mm=spacing_mm))

    found = Prepare(COARSE, COARSE.patch_shape)({"case": cases[0]})

    expected = network_input(volume, COARSE)
    np.testing.assert_allclose(found["image"][0], expected, atol=2e-3)
    np.testing.assert_array_equal(
        found["label"][0], resample_nearest(labels, spacing_mm, COARSE.spacing_mm)
    )


def test_cases_that_do_not_fit_into_memory_are_kept_as_files(tmp_path, cases, monkeypatch):
    monkeypatch.setattr(room, "_free_bytes", lambda: 0)

    examples = held_out_dataset(cases, PHASE, cache=tmp_path / "prepared")
    first = examples[0]

    assert len(list((tmp_path / "prepared").iterdir())) == 1
    monkeypatch.undo()
    in_memory = held_out_dataset(cases, PHASE, cache=tmp_path / "other")[0]
    assert torch.equal(torch.as_tensor(first["image"]), torch.as_tensor(in_memory["image"]))
    assert not (tmp_path / "other").exists()


def test_what_was_kept_as_files_is_read_back_as_it_was(tmp_path, cases, monkeypatch):
    monkeypatch.setattr(room, "_free_bytes", lambda: 0)

    def held_out():
        return list(held_out_dataset(cases, PHASE, cache=tmp_path / "prepared"))

    prepared = held_out()
    monkeypatch.setattr(room, "read_case", None)  # from here on only what was kept is read
    for again in (held_out(), held_out()):
        for example, first in zip(again, prepared, strict=True):
            for key in ("image", "label", "labeled"):
                assert torch.equal(torch.as_tensor(example[key]), torch.as_tensor(first[key]))
    assert len(list((tmp_path / "prepared").iterdir())) == 3


def test_a_run_that_goes_on_reads_what_was_prepared_before(tmp_path, cases, monkeypatch):
    monkeypatch.setattr(room, "_free_bytes", lambda: 0)
    first = held_out_dataset(cases, PHASE, cache=tmp_path / "prepared")[0]
    write_cases(CaseList(train=tuple(cases), held_out=(), refused=()), tmp_path / "data.json")
    monkeypatch.setattr(room, "read_case", None)  # nothing may be prepared anew

    begun = read_cases(tmp_path / "data.json").train
    again = held_out_dataset(begun, PHASE, cache=tmp_path / "prepared")[0]

    assert torch.equal(torch.as_tensor(again["image"]), torch.as_tensor(first["image"]))
    assert len(list((tmp_path / "prepared").iterdir())) == 1


def test_a_container_has_no_more_memory_than_its_limit(monkeypatch):
    monkeypatch.setattr(room, "container_limit", lambda: 5_000_000)
    assert room._free_bytes() == 5_000_000
    monkeypatch.setattr(room, "container_limit", lambda: None)
    assert room._free_bytes() > 5_000_000


def test_a_case_is_prepared_anew_when_its_pseudo_label_changes(tmp_path, cases):
    path = cases[0].labels_path
    filled = replace(cases[0], labeled_organs=("liver",), filler_path=cases[1].labels_path)
    before = room._item(filled, PHASE, (4, 5, 6))

    os.utime(filled.filler_path, ns=(1, 1))

    assert room._item(filled, PHASE, (4, 5, 6)) != before
    assert path in filled.paths


def test_examples_are_prepared_once_and_varied_every_time(tmp_path, cases, monkeypatch):
    examples = make(cases, tmp_path, PHASE, patches_per_scan=2)
    monkeypatch.setattr(room, "read_case", None)  # nothing may be read any more

    drawn = [examples[0] for _ in range(4)]

    assert all(len(patches) == 2 for patches in drawn)
    # Two patches may both be cut from the air beside the body; not all eight.
    first, *others = [patch["image"] for patches in drawn for patch in patches]
    assert any(not torch.equal(first, other) for other in others)


def test_processes_together_see_what_one_would():
    alone = list(itertools.islice(EndlessSampler(5, seed=3), 20))
    pair = [
        itertools.islice(EndlessSampler(5, seed=3, rank=rank, world_size=2), 10) for rank in (0, 1)
    ]

    assert list(itertools.chain.from_iterable(zip(*pair, strict=True))) == alone
    assert sorted(alone[:5]) == [0, 1, 2, 3, 4]
    assert alone[:5] != alone[5:10]


def test_the_same_seed_gives_the_same_batches(tmp_path, cases):
    def draw(seed):
        examples = make(cases, tmp_path, PHASE, patches_per_scan=2)
        return next(batches(examples, scans_per_batch=2, seed=seed, workers=0))

    images, labels, labeled = draw(1)

    assert images.shape == labels.shape == (4, 1, 16, 16, 16)
    assert labels.dtype == torch.int64
    assert labeled.shape == (4, 14)
    assert type(images) is torch.Tensor
    assert torch.equal(images, draw(1)[0])
    assert not torch.equal(images, draw(2)[0])


@pytest.mark.parametrize("size", [0, 1000, -100])
def test_a_file_of_a_prepared_case_that_is_cut_short_is_made_anew(
    tmp_path, cases, monkeypatch, size
):
    monkeypatch.setattr(room, "_free_bytes", lambda: 0)
    examples = held_out_dataset(cases, PHASE, cache=tmp_path / "prepared")
    whole = examples[0]["image"]
    (file,) = (tmp_path / "prepared").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:size])

    assert torch.equal(examples[0]["image"], whole)
    assert len(file.read_bytes()) == len(content)


def test_prepared_cases_are_written_beside_each_other_alone(tmp_path, cases, monkeypatch):
    monkeypatch.setattr(room, "_free_bytes", lambda: 0)
    # A kill while a file is moved to another disk would leave a part of it.
    monkeypatch.setattr("shutil.move", None)
    examples = held_out_dataset(cases, PHASE, cache=tmp_path / "prepared")

    assert examples[0]["image"].shape[0] == 1
    assert [path.suffix for path in (tmp_path / "prepared").iterdir()] == [".pt"]
    with room_for(1000), pytest.raises(OutputError, match="prepared.*cannot be written"):
        examples[1]
    assert len(list((tmp_path / "prepared").iterdir())) == 1
