import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import __version__
from app.cli import main as cli
from app.errors import CascadeError

ROOT = Path(__file__).resolve().parents[2]


def test_without_a_command_it_shows_where_to_start(capsys):
    assert cli.main([]) == 2
    shown = capsys.readouterr().err
    assert "python -m app predict --input" in shown
    assert "info" in shown


def test_unknown_command_is_wrong_use(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["segmentt"])
    assert stopped.value.code == 2
    assert "predict" in capsys.readouterr().err


BANK = ("bank", "--anatomies", "a", "--bodies", "b", "--output", "o")
BENCHMARK = ("benchmark", "--output", "o.json")
PREDICT = ("predict", "--input", "i", "--output", "o")
ROUNDS = ("rounds", "--data", "d", "--output", "o", "--weights", "w")
SYNTHESIZE = ("synthesize", "--output", "o")
TRAIN = ("train", "--phase", "locate", "--data", "d", "--output", "o")


@pytest.mark.parametrize(
    ("words", "option", "value", "told"),
    [
        (BANK, "--limit", "0", "at least 1"),
        (BANK, "--variants", "0", "at least 1"),
        (BANK, "--seed", "-1", "at least 0"),
        (BANK, "--processes", "0", "at least 1"),
        (BENCHMARK, "--repeat", "0", "at least 1"),
        (BENCHMARK, "--memory-budget", "nan", "a number above 0"),
        (BENCHMARK, "--memory-budget", "0", "a number above 0"),
        (BENCHMARK, "--memory-budget", "inf", "a number above 0"),
        (BENCHMARK, "--time-budget", "-1", "a number above 0"),
        (PREDICT, "--threads", "0", "at least 1"),
        (("refine", "--measure", "m"), "--count", "0", "at least 1"),
        (("refine", "--measure", "m"), "--spacing", "-1", "a number above 0"),
        (("refine", "--measure", "m"), "--seed", "-1", "at least 0"),
        (ROUNDS, "--rounds", "0", "at least 1"),
        (ROUNDS, "--steps", "0", "at least 1"),
        (SYNTHESIZE, "--count", "0", "at least 1"),
        (SYNTHESIZE, "--seed", "-1", "at least 0"),
        (TRAIN, "--steps", "0", "at least 1"),
        (TRAIN, "--batch", "0", "at least 1"),
        (TRAIN, "--learning-rate", "0", "a number above 0"),
        (TRAIN, "--spacing", "2x0x2", "a number above 0"),
        (TRAIN, "--seed", "-1", "at least 0"),
        (TRAIN, "--workers", "-1", "at least 0"),
        (TRAIN, "--fold", "-1", "at least 0"),
        (TRAIN, "--folds", "0", "at least 1"),
        (TRAIN, "--validate-every", "-1", "at least 0"),
        (TRAIN, "--devices", "0", "at least 1"),
    ],
)
def test_number_out_of_its_range_is_refused_by_the_parser(
    tmp_path, monkeypatch, capsys, words, option, value, told
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.main([*words, option, value])
    assert stopped.value.code == 2
    assert f"argument {option}: " in (error := capsys.readouterr().err)
    assert f"{told} expected" in error
    assert list(tmp_path.iterdir()) == []


def test_version_is_told(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == __version__


TOO_LONG = 300 * "x"

HERE = [name for name in cli.COMMANDS if (ROOT / "app" / "cli" / f"{name}.py").exists()]


@pytest.mark.parametrize("name", HERE)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([name, "--help"])
    assert stopped.value.code == 0
    assert "usage: python -m app" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CascadeError("the file is gone"), "error: the file is gone"),
        (ModuleNotFoundError("No module", name="torch"), "'torch'"),
        (
            PermissionError(13, "Permission denied", "/root/x"),
            "error: /root/x: cannot be used",
        ),
    ],
)
def test_expected_errors_are_one_line_and_exit_code_2(monkeypatch, capsys, error, message):
    def fail(_):
        raise error

    monkeypatch.setattr(importlib.import_module("app.cli.info"), "run", fail)
    assert cli.main(["info"]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_an_error_of_the_system_that_names_no_file_is_not_explained_away(monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(importlib.import_module("app.cli.info"), "run", fail)
    with pytest.raises(OSError, match="Input/output"):
        cli.main(["info"])


@pytest.mark.parametrize("words", [
    ("evaluate", "--references", ".", "--output", "o", "--predictions"),
    ("evaluate", "--predictions", ".", "--output", "o", "--references"),
    ("statistics", "--scans", ".", "--output", "o.csv", "--labels"),
    ("preview", "--input", ".", "--output"),
])  # fmt: skip
def test_a_folder_that_the_system_cannot_look_at_is_named(tmp_path, monkeypatch, capsys, words):
    """A name that is too long is as out of reach as what lies in another user's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.nii.gz").touch()
    assert cli.main([*words, TOO_LONG]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("error: ")
    assert TOO_LONG in told


def test_package_runs_as_a_program():
    finished = subprocess.run(
        [sys.executable, "-m", "app", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.stdout.strip() == __version__
    assert finished.returncode == 0


@pytest.mark.parametrize(
    "program",
    [
        "from app.cli.main import main; sys.exit(main(['predict', '--input=a', '--output=b']))",
        "from app import segment",
    ],
)
def test_system_that_is_not_supported_is_told_where_to_go(program, tmp_path):
    without = "import sys; sys.modules['resource'] = None; "  # as on Windows
    finished = subprocess.run(
        [sys.executable, "-c", without + program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode != 0
    last = finished.stderr.splitlines()[-1]
    assert "Linux or macOS" in last
    assert "WSL 2" in last
    assert "container" in last
