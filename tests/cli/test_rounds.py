"""Rounds of training on pseudo-labels, with networks that are tiny and know nothing."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from own_data import write_image
from safetensors.torch import load_file, save_file

from app.cli.main import main
from app.config import SEGMENT
from app.export.to_ir import export_phase
from app.manifest import sha256_of
from app.models.build import build_network

TINY = """
[phase]
spacing_mm = [10.0, 9.0, 8.0]
patch_shape = [16, 32, 48]
depths = [1, 1, 1, 1]
[training]
batch_size = 1
patches_per_scan = 1
"""
PHASE = replace(
    SEGMENT,
    spacing_mm=(10.0, 9.0, 8.0),
    patch_shape=(16, 32, 48),
    depths=(1, 1, 1, 1),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, body, stand_in_weights):
    """Give a folder with weights and data: a is labeled, b is not, c is damaged, d is air."""
    folder = tmp_path_factory.mktemp("rounds")
    hu, labels, (z, y, x) = body
    for name in "ab":
        write_image(folder / "data" / "imagesTr" / f"{name}_0000.nii.gz", hu, spacing_xyz=(x, y, z))
    air = np.full((5, 6, 7), -1000, np.int16)
    write_image(folder / "data" / "imagesTr" / "d_0000.nii.gz", air, spacing_xyz=(x, y, z))
    (folder / "data" / "imagesTr" / "c_0000.nii.gz").write_bytes(b"\x1f\x8b no more")
    write_image(folder / "data" / "labelsTr" / "a.nii.gz", labels, spacing_xyz=(x, y, z))
    shutil.copytree(stand_in_weights / "locate", folder / "weights" / "locate")
    segment = folder / "weights" / "segment"
    segment.mkdir()
    torch.manual_seed(4)
    save_file(build_network(PHASE).half().state_dict(), segment / "checkpoint.safetensors")
    record = {"config": asdict(PHASE), "license": "none", "provenance": "made up", "training": {}}
    (segment / "training.json").write_text(json.dumps(record))
    export_phase(segment, segment)
    (folder / "tiny.toml").write_text(TINY)
    return folder


def rounds(folder, number, *more, output="out"):
    words = ["rounds", "--data", folder / "data", "--weights", folder / "weights", "--steps", "1"]
    words += ["--output", folder / output, "--rounds", number, *more]
    words += ["--", "--config", folder / "tiny.toml", "--folds", "1", "--workers", "0"]
    return main([str(word) for word in words])


def states(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_each_round_goes_on_from_the_one_before_and_nothing_is_done_twice(folder, capfd):
    first, second = (folder / "out" / f"round_{number}" for number in (1, 2))
    assert rounds(folder, 1) == 0
    assert {path.name for path in (first / "predictions").glob("?.nii.gz")} == {
        "a.nii.gz", "b.nii.gz", "d.nii.gz",
    }  # fmt: skip
    assert {path.name for path in (first / "labels").iterdir()} == {"a.nii.gz", "b.nii.gz"}
    assert "d: the prediction is empty" in capfd.readouterr().err
    cases = json.loads((first / "segment" / "data.json").read_text())["train"]
    assert [case["labels"] for case in cases] == [
        str(folder / "data" / "labelsTr" / "a.nii.gz"),
        str(first / "labels" / "b.nii.gz"),
    ]
    begun, trained = (
        load_file(weights / "segment" / "checkpoint.safetensors")
        for weights in (folder / "weights", first / "weights")
    )
    assert any(not torch.equal(begun[name], trained[name]) for name in begun)
    before = states(first)

    second.mkdir()
    (second / "segment").touch()  # is in the way of the training
    assert rounds(folder, 2) != 0
    assert "train: ended with exit code" in capfd.readouterr().err
    predicted = json.loads((second / "predictions" / "run.json").read_text())
    assert predicted["weights"]["segment"] == sha256_of(
        first / "weights" / "segment" / "checkpoint.safetensors"
    )
    (second / "segment").unlink()
    done = states(second)
    assert rounds(folder, 2) == 0

    after = states(first) | states(second)
    assert {path: after[path] for path in before | done} == before | done
    record = json.loads((second / "weights" / "segment" / "training.json").read_text())
    assert len(record["training"]["stages"]) == 2
    assert (second / "weights" / "segment" / "manifest.json").exists()
    assert (second / "weights" / "locate" / "manifest.json").exists()
    assert "round 1: done before" in capfd.readouterr().out


def test_rounds_end_where_no_scan_can_be_predicted(tmp_path, folder, capfd):
    scans = tmp_path / "imagesTr"
    scans.mkdir()
    shutil.copy(folder / "data" / "imagesTr" / "c_0000.nii.gz", scans)
    words = ["rounds", "--data", str(tmp_path), "--output", str(tmp_path / "out"), "--weights"]
    assert main([*words, str(folder / "weights")]) == 1
    assert "refine" not in capfd.readouterr().out
    assert not (tmp_path / "out" / "round_1" / "labels").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--weights", "nowhere"], "no checkpoint of segment"),
        (["--", "--output", "there"], "--output behind --"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(tmp_path, folder, capsys, more, told):
    words = ["rounds", "--data", "data", "--output", str(tmp_path), "--weights"]
    assert main([*words, str(folder / "weights"), *more]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--data", "nowhere"], "--data: no folder nowhere/imagesTr"),
        (["--labels", "nowhere"], "--labels: no folder nowhere"),
        (["--labels", "misnamed"], "--labels misnamed: no label map is named as a scan of"),
        (["--labels", "moved"], "moved/b.nii.gz: not on the grid of"),
        (["--", "--hold-out", "manifest.json"], "--hold-out manifest.json: only with --bank"),
    ],
)
def test_rounds_are_not_begun_on_what_they_cannot_go_through(
    tmp_path, folder, capsys, monkeypatch, more, told
):
    (tmp_path / "misnamed").mkdir()
    shutil.copy(folder / "data" / "labelsTr" / "a.nii.gz", tmp_path / "misnamed" / "a_0000.nii.gz")
    labels = sitk.ReadImage(str(folder / "data" / "labelsTr" / "a.nii.gz"))
    (tmp_path / "moved").mkdir()
    # On the scan's grid, though stored in another order; and beside it.
    sitk.WriteImage(sitk.DICOMOrient(labels, "RAI"), str(tmp_path / "moved" / "a.nii.gz"))
    labels.SetOrigin((2.0, 0.0, 0.0))
    sitk.WriteImage(labels, str(tmp_path / "moved" / "b.nii.gz"))
    shutil.copy(tmp_path / "moved" / "b.nii.gz", tmp_path / "moved" / "c.nii.gz")  # damaged scan
    monkeypatch.chdir(tmp_path)
    words = ["rounds", "--data", str(folder / "data"), "--output", "out", "--weights"]

    assert main([*words, str(folder / "weights"), *more]) == 2
    assert told in capsys.readouterr().err
    # No record either: the same output serves when it is mended.
    assert not (tmp_path / "out").exists()


def test_a_faulty_settings_file_is_told_before_any_work(tmp_path, folder, capsys):
    (tmp_path / "faulty.toml").write_text("[training]\nstepps = 3")
    words = ["rounds", "--data", "data", "--output", str(tmp_path / "out"), "--weights"]
    options = ["--", "--config", str(tmp_path / "faulty.toml")]
    assert main([*words, str(folder / "weights"), *options]) == 2
    assert "stepps" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_that_train_does_not_know_are_wrong_use(tmp_path, folder, capsys):
    words = ["rounds", "--data", "data", "--output", str(tmp_path), "--weights"]
    for option, value in (("--fold", "x"), ("--devices", "0")):
        with pytest.raises(SystemExit) as ended:
            main([*words, str(folder / "weights"), "--", option, value])
        assert ended.value.code == 2
        assert f"argument {option}: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_rounds_begun_otherwise_are_not_gone_on_with(tmp_path, folder, capsys):
    begun = {"--data": "/elsewhere", "--weights": None, "--labels": None, "--rule": "published"}
    (tmp_path / "rounds.json").write_text(json.dumps(begun))
    words = ["rounds", "--data", "data", "--output", str(tmp_path)]
    assert main([*words, "--weights", str(folder / "weights")]) == 2
    assert "begun with {'--data': '/elsewhere'" in capsys.readouterr().err
