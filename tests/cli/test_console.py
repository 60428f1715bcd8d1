"""A console that cannot be written to costs what would be printed, and nothing else."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scans(tmp_path_factory, body):
    """Give a folder with two scans, one of a name that not every terminal can show."""
    hu, _, spacing_mm = body
    folder = tmp_path_factory.mktemp("scans")
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    for name in ("a", "é"):
        sitk.WriteImage(image, folder / f"{name}_0000.nii.gz")
    return folder


@contextlib.contextmanager
def broken(kind):
    """Open what fails when it is written to."""
    if kind == "a pipe that nobody reads":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    try:
        yield writer
    finally:
        os.close(writer)


def predict(scans, output, weights, *more, **streams):
    command = [sys.executable, "-m", "app", "predict", "--threads", "1", "--precision", "f32"]
    command += ["--input", str(scans), "--output", str(output), "--weights", str(weights), *more]
    return subprocess.run(command, cwd=ROOT, text=True, timeout=300, **streams)


def assert_whole(output, *, num_cases=2):
    cases = json.loads((output / "run.json").read_text())["cases"]
    assert [case["status"] for case in cases] == num_cases * ["ok"], cases
    assert all(sitk.ReadImage(output / case["output"]).GetSize() == (54, 62, 44) for case in cases)


@pytest.mark.parametrize("more", [(), ("--progress", "json"), ("--preview",)])
def test_reader_that_goes_away_costs_no_case(scans, tmp_path, stand_in_weights, more):
    with broken("a pipe that nobody reads") as pipe:
        finished = predict(
            scans, tmp_path, stand_in_weights, *more, stdout=pipe, stderr=subprocess.PIPE
        )
    assert finished.returncode == 0
    assert "Error" not in finished.stderr
    assert_whole(tmp_path)


@pytest.mark.parametrize("more", [(), ("--progress", "json")])
def test_full_disk_under_the_output_costs_no_case_and_has_its_code(
    scans, tmp_path, stand_in_weights, more
):
    with broken("a full disk") as disk:
        finished = predict(
            scans, tmp_path, stand_in_weights, *more, stdout=disk, stderr=subprocess.PIPE
        )
    assert finished.returncode == 3
    assert finished.stderr.count("standard output cannot be written (No space left on device)") == 1
    assert_whole(tmp_path)


@pytest.mark.parametrize("kind", ["a pipe that nobody reads", "a full disk"])
def test_errors_that_cannot_be_told_cost_no_case(scans, tmp_path, stand_in_weights, kind):
    (tmp_path / "scans").mkdir()
    for path in scans.iterdir():
        (tmp_path / "scans" / path.name).symlink_to(path)
    (tmp_path / "scans" / "c.zip").touch()  # told of before the first case
    with broken(kind) as stream:
        finished = predict(
            tmp_path / "scans", tmp_path / "labels", stand_in_weights,
            "--progress", "json", "-v", stdout=subprocess.PIPE, stderr=stream,
        )  # fmt: skip
    assert finished.returncode == 0
    steps = [json.loads(line)["step"] for line in finished.stdout.splitlines()]
    assert steps.count("done") == 2
    assert_whole(tmp_path / "labels")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_no_case(scans, tmp_path, stand_in_weights, closed):
    command = [sys.executable, "-m", "app", "predict", "--threads", "1", "--precision", "f32"]
    command += ["--input", scans, "--output", tmp_path / "labels", "--weights", stand_in_weights]
    finished = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command, "-v", "--preview"],
        cwd=ROOT,
        timeout=300,
        stdout=subprocess.DEVNULL,
    )
    assert finished.returncode == 0
    assert_whole(tmp_path / "labels")


def test_letters_that_the_terminal_lacks_are_written_out(scans, tmp_path, stand_in_weights):
    finished = predict(
        scans,
        tmp_path,
        stand_in_weights,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert finished.returncode == 0
    assert "[2/2] \\xe9: " in finished.stdout
    assert_whole(tmp_path)


@pytest.mark.parametrize(("kind", "code"), [("a pipe that nobody reads", 0), ("a full disk", 3)])
def test_what_a_command_prints_is_not_lost_without_a_word(kind, code):
    with broken(kind) as stream:
        finished = subprocess.run(
            [sys.executable, "-m", "app", "info", "--json"],
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert finished.returncode == code
    assert ("cannot be written" in finished.stderr) == (code == 3)
    assert "Traceback" not in finished.stderr
