import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from own_data import write_case, write_image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app.cli.main import main
from app.config import LOCATE, SEGMENT
from app.data.case_list import read_cases
from app.errors import InputError, UsageError
from app.export.to_ir import open_checkpoint
from app.manifest import checksums
from app.synthesis.phantom import make_phantom
from app.training import record
from app.training.loop import CURVE_NAME, STATE_NAME
from app.training.own_cases import OwnData, settle_cases
from app.training.validation import Validator

ROOT = Path(__file__).resolve().parents[2]
TINY = """
[phase]
spacing_mm = [14.0, 12.0, 13.0]
patch_shape = [32, 32, 64]
depths = [1, 1, 1, 1]
[training]
batch_size = 2
patches_per_scan = 2
log_every = 1
checkpoint_every_s = 0.0
"""


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Ten phantoms in the FLARE layout."""
    folder = tmp_path_factory.mktemp("flare")
    for seed in range(10):
        scan, labels = make_phantom(shape=(36, 30, 40), spacing_mm=(12.0, 10.0, 9.0), seed=seed)
        grid = {"spacing_xyz": (9.0, 10.0, 12.0)}
        write_image(folder / "imagesTr" / f"p{seed}_0000.nii.gz", scan, **grid)
        write_image(folder / "labelsTr" / f"p{seed}.nii.gz", labels, **grid)
    return folder


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def arguments(phase, data, output, config, *more):
    return [
        "train", "--phase", phase, "--data", str(data), "--output", str(output),
        "--config", str(config), "--workers", "0", *more,
    ]  # fmt: skip


def steps_of(folder):
    with (folder / CURVE_NAME).open() as file:
        return [int(row[0]) for row in csv.reader(file)]


@pytest.mark.parametrize("phase", ["locate", "segment"])
def test_a_dry_run_on_ten_phantoms_leaves_all_that_a_run_should(phantoms, tmp_path, tiny, phase):
    output = tmp_path / "run"
    more = ["--steps", "3", "--validate-every", "2", "--seed", "5"]

    assert main(arguments(phase, phantoms, output, tiny, *more)) == 0

    cases = read_cases(output / "data.json")
    assert [case.name for case in cases.held_out] == ["p0", "p5"]
    assert len(cases.train) == 8
    run = json.loads((output / "run.json").read_text())
    assert run["seed"] == 5
    assert run["phase"]["spacing_mm"] == [14, 12, 13]
    assert {"commit", "training", "device"} <= set(run)
    assert steps_of(output) == [1, 2, 3]
    with (output / "validation.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "3"]
    assert (output / "best.safetensors").exists()
    board = EventAccumulator(str(output / "events")).Reload()
    assert [event.step for event in board.Scalars("loss")] == [1, 2, 3]
    assert [event.step for event in board.Scalars("dice/mean")] == [2, 3]
    assert [event.step for event in board.Images("held_out")] == [2, 3]
    assert min(board.Images("held_out")[0].width, board.Images("held_out")[0].height) > 100
    # What is left can be converted for use, on the grid it was trained on.
    checkpoint = open_checkpoint(output)
    assert checkpoint.config.spacing_mm == (14, 12, 13)
    assert checkpoint.record["training"]["cases"] == [case.name for case in cases.train]
    assert checkpoint.record["files"] == checksums(
        output, ("checkpoint.safetensors", "best.safetensors")
    )


def test_a_killed_run_goes_on_where_it_was(phantoms, tmp_path, tiny):
    output = tmp_path / "run"
    words = arguments("locate", phantoms, output, tiny, "--folds", "1", "--steps")
    child = subprocess.Popen([sys.executable, "-m", "app", *words, "1000"], cwd=ROOT)
    try:
        until = time.monotonic() + 600
        while not (output / STATE_NAME).exists():
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    done = max(steps_of(output))
    data = (output / "data.json").read_text()
    time.sleep(1.1)  # TensorBoard orders a run's files by the second in their names

    assert main([*words, str(done + 2)]) == 0

    # One step at most is done twice: the one that was not saved yet.
    again = steps_of(output)[steps_of(output).index(done) + 1 :]
    assert again in ([done + 1, done + 2], [done, done + 1, done + 2])
    assert (output / "data.json").read_text() == data
    board = EventAccumulator(str(output / "events")).Reload()
    assert [event.step for event in board.Scalars("loss")] == list(range(1, done + 3))


@pytest.mark.parametrize("phase", ["locate", "segment"])
def test_two_devices_train_one_network(tmp_path, tiny, phase):
    for name in "ab":
        write_case(tmp_path / "data", name)
    output = tmp_path / "run"
    more = ["--steps", "2", "--folds", "1", "--devices", "2"]

    assert main(arguments(phase, tmp_path / "data", output, tiny, *more)) == 0

    assert steps_of(output) == [1, 2]
    assert json.loads((output / "run.json").read_text())["processes"] == 2
    assert (output / "checkpoint.safetensors").exists()


def test_phase_one_passes_over_cases_of_which_not_all_is_known(tmp_path):
    write_case(tmp_path, "whole")
    write_case(tmp_path, "partly", organs=(1,))
    listed = {"labeled_organs": {"partly": ["liver"]}}
    (tmp_path / "dataset.json").write_text(json.dumps(listed))
    data = OwnData(folder=tmp_path, num_folds=1)

    for phase, names in ((LOCATE, ["whole"]), (SEGMENT, ["partly", "whole"])):
        cases = settle_cases(data, phase, tmp_path / phase.name)
        assert [case.name for case in cases.train] == names
        assert len(cases.refused) == 2 - len(names)


def test_a_run_does_not_go_on_with_another_grid(phantoms, tmp_path, tiny, capsys):
    def train(spacing):
        more = ("--folds", "1", "--spacing", spacing, "--steps", "1")
        return main(arguments("locate", phantoms, tmp_path / "run", tiny, *more))

    assert train("14x12x13") == 0
    assert train("15x12x13") == 2
    assert "another grid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("[phase]\nspaceing_mm = [1, 2, 3]", "spaceing_mm"),
        ("[fase]", "phase"),
        ("x", "TOML"),
        ("training = 3", "training"),
        ("[phase]\nspacing_mm = 2.0", "spacing_mm = 2.0"),
        ("[phase]\nspacing_mm = [2, 1.5]", "spacing_mm = [2, 1.5]"),
        ("[phase]\npatch_shape = [96, 96, 96.5]", "patch_shape"),
        ("[phase]\nname = 'segment'", "name"),
        ("[training]\nsteps = 'many'", "steps = 'many'"),
        ("[training]\nmixed_precision = 1", "mixed_precision = 1"),
    ],
)
def test_a_faulty_settings_file_is_named(tmp_path, text, finding, capsys):
    path = tmp_path / "faulty.toml"
    path.write_text(text)

    assert main(arguments("locate", tmp_path, tmp_path / "run", path)) == 2
    assert "faulty.toml" in (message := capsys.readouterr().err)
    assert finding in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_every", 0), ("loss_stride", 0), ("learning_rate", -1.0), ("learning_rate", "nan"),
        ("final_learning_rate", -1e-5), ("warmup_steps", -1), ("weight_decay", -1.0),
        ("ema_decay", 1.0), ("max_gradient_norm", 0.0), ("validate_every", -1), ("seed", -1),
    ],
)  # fmt: skip
def test_a_setting_out_of_its_range_is_told_before_training(tmp_path, capsys, name, value):
    path = tmp_path / "faulty.toml"
    path.write_text(f"[training]\n{name} = {value}")

    assert main(arguments("locate", tmp_path, tmp_path / "run", path)) == 2
    assert f"{name} {value} is out of range" in capsys.readouterr().err


def test_folder_of_a_run_that_was_killed_before_its_first_state_takes_another_grid(
    phantoms, tmp_path, tiny
):
    def train(spacing, steps):
        more = ("--folds", "1", "--spacing", spacing, "--steps", steps)
        return main(arguments("locate", phantoms, tmp_path / "run", tiny, *more))

    assert train("14x12x13", "1") == 0
    (tmp_path / "run" / STATE_NAME).unlink()
    assert train("15x12x13", "1") == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["phase"]["spacing_mm"] == [15.0, 12.0, 13.0]


def test_patches_that_cannot_be_shared_among_scans_are_wrong_use(tmp_path, tiny, capsys):
    tiny.write_text("[training]\npatches_per_scan = 4")

    assert main(arguments("segment", tmp_path, tmp_path / "run", tiny, "--batch", "6")) == 2
    assert "4 from each scan" in capsys.readouterr().err


class Killed(BaseException):
    """Stands for the end of a process."""


def die(*_):
    raise Killed


def test_a_run_killed_before_its_last_validation_makes_up_for_it(tmp_path, tiny, monkeypatch):
    for name in "ab":
        write_case(tmp_path / "data", name)
    output = tmp_path / "run"
    more = ["--folds", "2", "--validate-every", "5", "--steps"]
    words = arguments("locate", tmp_path / "data", output, tiny, *more)
    with monkeypatch.context() as patched:
        patched.setattr(Validator, "__call__", die)
        with pytest.raises(Killed):
            main([*words, "2"])
    assert not (output / "best.safetensors").exists()

    assert main([*words, "2"]) == 0

    assert (output / "best.safetensors").exists()
    with (output / "validation.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2"]
    # Validated once; and fewer steps than are done are nothing to do.
    before = (output / "validation.csv").read_text()
    assert main([*words, "2"]) == main([*words, "1"]) == 0
    assert (output / "validation.csv").read_text() == before
    assert steps_of(output) == [1, 2]


def test_a_tuned_network_keeps_its_license_and_a_resumed_run_how_it_began(
    tmp_path, tiny, monkeypatch
):
    write_case(tmp_path / "data", "a")
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    more = ["--folds", "1", "--steps"]
    assert main([*arguments("locate", tmp_path / "data", base, tiny, *more), "1"]) == 0
    published = json.loads((base / "training.json").read_text())
    published |= {"license": "CC-BY-NC-4.0", "provenance": "Made up."}
    (base / "training.json").write_text(json.dumps(published))

    start = ["--start-from", str(base / "checkpoint.safetensors")]
    words = arguments("locate", tmp_path / "data", tuned, tiny, *start, *more)
    assert main([*words, "1"]) == 0
    begun = json.loads((tuned / "run.json").read_text())
    monkeypatch.setattr(record, "commit", lambda: "another")
    assert main([*words, "2"]) == 0

    written = json.loads((tuned / "training.json").read_text())
    assert written["license"].startswith("CC-BY-NC-4.0; the terms of the scans")
    assert written["provenance"].startswith("Made up. In a later stage: Trained on 1 scans")
    run = json.loads((tuned / "run.json").read_text())
    resumed = [{"step": 1, "commit": "another", "settings": {"steps": 2}}]
    assert run == begun | {"resumed": resumed}
    assert written["training"]["resumed"] == resumed
    assert [stage["steps"] for stage in written["training"]["stages"]] == [1, 1]
    # Of these weights, not of those begun with; each save has put its own there.
    assert written["files"] == checksums(tuned, ["checkpoint.safetensors"])


def test_a_run_does_not_go_on_with_other_cases(tmp_path):
    for name in "abc":
        write_case(tmp_path, name)
    output = tmp_path / "run"
    settle_cases(OwnData(folder=tmp_path), LOCATE, output)
    # Nothing is trained yet: settled anew.
    first = settle_cases(OwnData(folder=tmp_path, fold=1, num_folds=3), LOCATE, output)
    assert [case.name for case in first.held_out] == ["b"]
    (output / STATE_NAME).touch()

    write_case(tmp_path, "d")
    again = settle_cases(OwnData(folder=tmp_path, fold=1, num_folds=3), LOCATE, output)

    assert again == first
    other = OwnData(folder=tmp_path, labeled_organs=("liver",), num_folds=3)
    with pytest.raises(UsageError, match=r"--fold 1 then, 0 now.*another --output") as caught:
        settle_cases(other, LOCATE, output)
    assert "--labeled-organs None then, ['liver'] now" in str(caught.value)
    assert "--folds" not in str(caught.value)


def test_a_run_of_which_files_are_gone_does_not_go_on(tmp_path):
    for name in "ab":
        write_case(tmp_path / "data", name)
    output = tmp_path / "run"
    data = OwnData(folder=tmp_path / "data", num_folds=2)
    settle_cases(data, SEGMENT, output)
    (output / STATE_NAME).touch()
    gone = tmp_path / "data" / "labelsTr" / "b.nii.gz"
    gone.unlink()

    with pytest.raises(UsageError, match=f"1 files of this run are gone, such as {gone}; put"):
        settle_cases(data, SEGMENT, output)


@pytest.mark.parametrize("below", [".", "run"])
def test_an_output_that_cannot_be_written_to_is_told_before_scans_are_read(
    tmp_path, tiny, capsys, below
):
    (tmp_path / "file").touch()
    output = tmp_path / "file" / below

    assert main(arguments("segment", tmp_path / "data", output, tiny)) == 2

    assert f"--output {output}: cannot be written to" in capsys.readouterr().err


def test_a_list_of_cases_that_was_damaged_is_to_be_put_back_not_removed(tmp_path):
    write_case(tmp_path / "data", "a")
    output = tmp_path / "run"
    data = OwnData(folder=tmp_path / "data", num_folds=1)
    settle_cases(data, LOCATE, output)
    (output / STATE_NAME).touch()
    whole = (output / "data.json").read_text()

    # Removed, it would look like a run that was begun with --bank, which no run goes on from.
    for damaged in ("", "[]", whole[:-40], '{"asked": {"--phase": "locate"}}'):
        (output / "data.json").write_text(damaged)
        with pytest.raises(InputError, match="put back the one that the run was begun with"):
            settle_cases(data, LOCATE, output)


def test_a_run_on_a_bank_does_not_go_on_with_scans_alone(tmp_path):
    write_case(tmp_path, "a")
    output = tmp_path / "run"
    output.mkdir()
    (output / STATE_NAME).touch()
    data = OwnData(folder=tmp_path, num_folds=1)
    with pytest.raises(UsageError, match="begun with --bank"):
        settle_cases(data, LOCATE, output)

    # Nor does one that had scans among its synthetic patches.
    (output / STATE_NAME).unlink()
    settle_cases(replace(data, flag="--real"), LOCATE, output)
    (output / STATE_NAME).touch()
    with pytest.raises(UsageError, match=r"--real .* then, None now"):
        settle_cases(data, LOCATE, output)


def test_a_run_goes_on_from_another_folder(tmp_path, monkeypatch):
    write_case(tmp_path / "data", "a")
    monkeypatch.chdir(tmp_path)
    begun = settle_cases(OwnData(folder=Path("data"), num_folds=1), LOCATE, Path("run"))
    Path("run", STATE_NAME).touch()

    monkeypatch.chdir(tmp_path / "data")
    cases = settle_cases(OwnData(folder=Path(), num_folds=1), LOCATE, Path("../run"))

    # Prepared cases are found again by their whole description, paths included.
    assert cases == begun
    assert all(path.exists() for path in cases.train[0].paths)


def test_a_list_of_cases_of_an_earlier_version_is_kept_to(tmp_path):
    write_case(tmp_path, "a")
    output = tmp_path / "run"
    found = settle_cases(OwnData(folder=tmp_path, num_folds=1), LOCATE, output)
    (output / STATE_NAME).touch()
    written = json.loads((output / "data.json").read_text())
    del written["asked"], written["train"][0]["filler"], written["train"][0]["notes"]
    (output / "data.json").write_text(json.dumps(written))

    again = settle_cases(OwnData(folder=tmp_path, num_folds=5), LOCATE, output)

    assert [case.name for case in again.train] == [case.name for case in found.train]


def test_phase_one_takes_partly_labeled_cases_that_pseudo_labels_fill(tmp_path):
    write_case(tmp_path, "partly", organs=(1,))
    (tmp_path / "dataset.json").write_text('{"labeled_organs": {"partly": ["liver"]}}')
    write_case(tmp_path / "other", "partly", organs=(1, 2))
    data = OwnData(folder=tmp_path, pseudo_labels=tmp_path / "other" / "labelsTr", num_folds=1)

    cases = settle_cases(data, LOCATE, tmp_path / "run")

    assert [case.name for case in cases.train] == ["partly"]
    assert read_cases(tmp_path / "run" / "data.json") == cases


def test_the_command_tells_what_the_reader_noticed(tmp_path, tiny, capsys):
    write_case(tmp_path / "data", "a", organs=(1, 2))  # nothing above 120
    write_case(tmp_path / "data", "b")
    (tmp_path / "data" / "imagesTr" / "b_0000.nii.gz").write_bytes(b"\x1f\x8b no more")
    output = tmp_path / "run"

    words = arguments("locate", tmp_path / "data", output, tiny, "--folds", "1", "--steps", "1")
    assert main(words) == 0

    told = capsys.readouterr().out
    assert "note on " in told
    assert "a_0000.nii.gz: nothing above 150 HU" in told
    assert "refused " in told
    assert "b_0000.nii.gz" in told
