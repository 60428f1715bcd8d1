import json

import pytest

from app.cli.folders import sole_writer
from app.cli.main import main
from app.config import LOCATE
from app.errors import UsageError
from app.training.loop import Trainer
from app.training.run import training_bodies


def write_manifest(path, names):
    entries = [
        {"file": f"{name}.nii", "organ_ml": [100.0 * (index + 1) ** 2] * 13}
        for index, name in enumerate(names)
    ]
    path.write_text(json.dumps(entries))
    return path


def test_held_out_patients_are_not_trained_on(bank, tmp_path):
    manifest = write_manifest(tmp_path / "manifest.json", ["testing_0001", "testing_0002"])

    bodies = training_bodies(bank, manifest)

    assert [body.name for body in bodies] == ["testing_0002_0.npz"]


def test_an_empty_bank_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(UsageError, match="build a bank"):
        training_bodies(tmp_path, None)


@pytest.mark.parametrize(
    ("phase", "options"), [("locate", []), ("segment", []), ("segment", ["--scan-on-device"])]
)
def test_the_command_trains_and_leaves_a_publishable_folder(bank, tmp_path, phase, options):
    arguments = ["train", "--phase", phase, "--bank", str(bank), "--output", str(tmp_path)]
    arguments += ["--steps", "2", "--patch", "32x32x64", "--batch", "1", "--workers", "0", *options]

    assert main(arguments) == 0

    assert (tmp_path / "checkpoint.safetensors").stat().st_size > 1_000_000
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["config"]["name"] == phase
    assert record["training"]["stages"][0]["patch_shape"] == [32, 32, 64]
    assert record["training"]["cases"] == ["testing_0001_0", "testing_0002_0"]


@pytest.mark.parametrize("options", [
    ["--bank", "there", "--phase", "locate"],
    ["--bank", "there", "--phase", "segment", "--real", "scans"],
    ["--data", "there", "--phase", "segment"],
])  # fmt: skip
def test_what_a_device_cannot_scan_is_wrong_use(tmp_path, capsys, options):
    words = ["train", "--output", str(tmp_path / "run"), "--scan-on-device", *options]
    assert main(words) == 2
    assert "--scan-on-device: only with" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_further_stage_remembers_the_ones_before(bank, tmp_path):
    def stage(output, seed, *more):
        arguments = ["train", "--phase", "locate", "--bank", str(bank), "--output", str(output)]
        arguments += ["--steps", "1", "--patch", "32x32x64", "--batch", "1", "--workers", "0"]
        assert main([*arguments, "--seed", str(seed), *more]) == 0

    stage(tmp_path / "first", 1)
    start = tmp_path / "first" / "checkpoint.safetensors"
    stage(tmp_path / "second", 2, "--start-from", str(start))

    record = json.loads((tmp_path / "second" / "training.json").read_text())
    assert [past["seed"] for past in record["training"]["stages"]] == [1, 2]


def test_a_run_has_its_record_before_its_first_step(bank, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    monkeypatch.setattr(Trainer, "train_step", die)
    arguments = ["train", "--phase", "locate", "--bank", str(bank), "--output", str(tmp_path)]
    arguments += ["--steps", "2", "--patch", "32x32x64", "--batch", "1", "--workers", "0"]

    with pytest.raises(Killed):
        main(arguments)

    record = json.loads((tmp_path / "training.json").read_text())
    assert record["training"]["stages"][0]["steps"] == 2
    assert record["training"]["cases"] == ["testing_0001_0", "testing_0002_0"]


def test_a_run_goes_on_as_it_was_begun_or_not_at_all(bank, tmp_path, capsys):
    output, manifest = tmp_path / "run", tmp_path / "manifest.json"
    write_manifest(manifest, ["testing_0001", "testing_0002"])
    words = ["train", "--phase", "locate", "--bank", str(bank), "--output", str(output)]
    words += ["--patch", "32x32x64", "--batch", "1", "--workers", "0"]
    held_out = ["--hold-out", str(manifest)]
    assert main([*words, *held_out, "--steps", "1"]) == 0
    before = (output / "training.json").read_text()
    capsys.readouterr()

    for more, told in (
        ([*held_out, "--spacing", "5x4x4"], "begun with another grid"),
        ([], "begun with --hold-out"),
    ):
        assert main([*words, *more, "--steps", "2"]) == 2
        assert told in capsys.readouterr().err
    assert (output / "training.json").read_text() == before
    assert main([*words, *held_out, "--steps", "2"]) == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--patch", "32x48x64"], "patch_shape (32, 48, 64) must be positive multiples of 32"),
        (["--start-from", "nowhere.pt"], "--start-from nowhere.pt: no such file"),
    ],
)
def test_what_would_end_in_the_middle_is_told_first(bank, tmp_path, capsys, more, told):
    words = ["train", "--phase", "locate", "--bank", str(bank), "--output", str(tmp_path / "run")]

    assert main([*words, "--steps", "1", *more]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("source", ["--bank", "--data"])
def test_second_training_into_a_folder_is_refused_and_touches_nothing(
    bank, tmp_path, capsys, source
):
    words = ["train", "--phase", "locate", source, str(bank), "--output", str(tmp_path)]
    words += ["--steps", "1", "--patch", "32x32x64", "--batch", "1", "--workers", "0"]
    with sole_writer(tmp_path):
        assert main(words) == 2
    assert f"--output {tmp_path}: another run writes to it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("patch", ["64", "64x64", "0x64x64", "axbxc"])
def test_a_patch_that_is_not_three_sizes_is_wrong_use(tmp_path, patch, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--phase", LOCATE.name, "--bank", "b", "--output", "o", "--patch", patch])

    assert stop.value.code == 2
    assert "64x64x64" in capsys.readouterr().err
