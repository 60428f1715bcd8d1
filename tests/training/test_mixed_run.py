"""``train --bank --real``: some patches of real scans among synthetic ones."""

import json
import shutil

import pytest
import torch
from own_data import write_case

from app.cli.main import main
from app.config import SEGMENT
from app.errors import UsageError
from app.training.loop import STATE_NAME, Trainer
from app.training.own_cases import OwnData, settle_mixture

TINY = """
[phase]
spacing_mm = [14.0, 12.0, 13.0]
depths = [1, 1, 1, 1]
[training]
patch_shape = [32, 32, 64]
real_share = 0.5
"""
SEED = 1
"""With which steps 1 and 3 see a real scan, 2 and 4 a synthetic one."""


@pytest.fixture
def seen(monkeypatch):
    """Note the batches that are trained on."""
    batches = []
    step = Trainer.train_step

    def note(trainer, *batch):
        batches.append(batch)
        return step(trainer, *batch)

    monkeypatch.setattr(Trainer, "train_step", note)
    return batches


def test_a_stopped_run_goes_on_with_scans_among_the_synthetic_patches(bank, tmp_path, seen, capsys):
    data, output, config = tmp_path / "data", tmp_path / "run", tmp_path / "tiny.toml"
    write_case(data, "ours")
    organs = ["liver", "right_kidney", "left_kidney"]
    (data / "dataset.json").write_text(json.dumps({"labeled_organs": {"ours": organs}}))
    config.write_text(TINY)

    def train(output, steps, *more):
        words = ["--phase", "segment", "--bank", bank, "--output", output, "--config", config]
        words += ["--steps", steps, "--workers", 0, "--seed", SEED, *more]
        return main(["train", *map(str, words)])

    assert train(output, 2, "--real", data) == 0
    shutil.copytree(output, tmp_path / "copy")
    assert train(output, 4, "--real", data) == 0
    assert train(tmp_path / "copy", 4, "--real", data) == 0

    # New patches of both kinds, and the same ones whenever it goes on from there.
    first, resumed, again = seen[:2], seen[2:4], seen[4:]
    assert len(again) == 2
    for batch, same in zip(resumed, again, strict=True):
        assert all(torch.equal(*pair) for pair in zip(batch, same, strict=True))
    for part in (first, resumed):
        assert {bool(labeled.all()) for _, _, labeled in part} == {False, True}
    assert not any(torch.equal(one[0], other[0]) for one in first for other in resumed)
    record = json.loads((output / "training.json").read_text())
    assert record["training"]["cases"] == ["ours", "testing_0001_0", "testing_0002_0"]
    assert record["license"].startswith("CC-BY-NC-4.0; the terms of the scans")
    assert "1 real scans of a user's own" in record["provenance"]
    assert "No real scan" not in record["provenance"]
    capsys.readouterr()
    assert train(output, 6) == 2
    assert "begun with --real" in capsys.readouterr().err


def test_a_run_on_the_bank_alone_does_not_go_on_with_scans(tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    (output / STATE_NAME).touch()
    assert settle_mixture(None, SEGMENT, output) is None

    with pytest.raises(UsageError, match="begun without --real"):
        settle_mixture(OwnData(folder=tmp_path, num_folds=1, flag="--real"), SEGMENT, output)


def test_a_missing_folder_is_named_by_its_flag(bank, tmp_path, capsys):
    words = ["--phase", "locate", "--bank", bank, "--real", tmp_path, "--output", tmp_path / "run"]

    assert main(["train", *map(str, words)]) == 2
    assert "--real: no folder" in capsys.readouterr().err


def test_real_scans_beside_data_are_wrong_use(tmp_path, capsys):
    words = ["--phase", "locate", "--data", tmp_path, "--real", tmp_path, "--output", tmp_path]

    assert main(["train", *map(str, words)]) == 2
    assert "only with --bank" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "flag", "value", "told"),
    [
        ("--bank", "--pseudo-labels", "there", "only with --data or --real"),
        ("--bank", "--labeled-organs", "liver,spleen", "only with --data or --real"),
        ("--bank", "--fold", "1", "only with --data"),
        ("--bank", "--folds", "1", "only with --data"),
        ("--bank", "--validate-every", "5", "only with --data"),
        ("--bank", "--devices", "2", "only with --data"),
        ("--data", "--hold-out", "manifest.json", "only with --bank"),
    ],
)
def test_what_would_be_ignored_is_wrong_use(tmp_path, capsys, source, flag, value, told):
    words = ["--phase", "segment", source, tmp_path, "--output", tmp_path / "run", flag, value]

    assert main(["train", *map(str, words)]) == 2
    assert f"{flag} {value}: {told}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_leaves_one_kind_out_is_wrong_use(tmp_path, capsys, share):
    config = tmp_path / "share.toml"
    config.write_text(f"[training]\nreal_share = {share}")
    words = ["--phase", "locate", "--bank", tmp_path, "--output", tmp_path, "--config", config]

    assert main(["train", *map(str, words)]) == 2
    assert "real_share" in capsys.readouterr().err
