"""The whole command on stand-in systems: a slowed or bloated build makes it fail."""

import json
import sys

import numpy as np
import pytest
from label_files import write_labels

from app.benchmark import systems
from app.cli.main import main

# Starts as many programs, one after another, as its first argument says, holds as many MiB as its
# second says for a moment, and gives the scan, which is all zeros, as its label map.
BUILD = """
import pathlib, shutil, subprocess, sys, time
for _ in range(int(sys.argv[1])):
    subprocess.run([sys.executable, "-c", "sum(range(1_000_000))"], check=True)
block = bytearray(int(sys.argv[2]) * 1024 * 1024)
block[::4096] = b"x" * len(block[::4096])
time.sleep(0.5 if block else 0)
for scan in pathlib.Path(sys.argv[3]).iterdir():
    shutil.copy(scan, sys.argv[4])
"""


@pytest.fixture
def bench(tmp_path):
    """Give a function that runs the command on one small scan and gives exit code and figures."""
    scans = tmp_path / "scans"
    scans.mkdir()
    write_labels(scans / "small_0000.nii.gz", np.zeros((3, 4, 5), np.int16))

    def run(*options):
        output = tmp_path / "made" / "anew" / "benchmark.json"
        code = main(["benchmark", "--input", str(scans), "--output", str(output), *options])
        return code, json.loads(output.read_text())

    return run


@pytest.fixture
def build(tmp_path):
    """Give a function that gives the command line of a build: how much work, how many MiB."""
    path = tmp_path / "build.py"
    path.write_text(BUILD)

    def command(*, work=1, mib=0):
        return f"{sys.executable} {path} {work} {mib} {{input}} {{output}}"

    return command


@pytest.fixture
def _reference_of_work(build, monkeypatch):
    """Let a stand-in of eight units of work be the reference."""
    stand_in = systems.parse_command(build(work=8))
    monkeypatch.setattr(systems, "reference", lambda *, weights: stand_in)


@pytest.mark.usefixtures("_reference_of_work")
def test_a_slowed_build_misses_the_time_budget(bench, build, capsys):
    code, figures = bench("--system", build(work=16), "--against", "reference")
    assert code == 1
    assert figures["cases"]["small"]["time_ratio"] > figures["budgets"]["time_ratio"]["f32"]
    told = capsys.readouterr().out
    assert "MISSED  small: time ratio" in told
    assert "over the budget of 0.75 times" in told


@pytest.mark.usefixtures("_reference_of_work")
def test_a_swift_build_keeps_all_budgets(bench, build, capsys):
    code, figures = bench("--system", build(work=0), "--against", "reference", "--repeat", "2")
    assert (code, figures["missed"]) == (0, [])
    assert "MISSED" not in capsys.readouterr().out
    assert len(figures["cases"]["small"]["runs"]) == 4


def test_a_bloated_build_misses_the_memory_budget(bench, build, capsys):
    budget = ("--memory-budget", "200")
    assert bench("--system", build(mib=0), *budget)[0] == 0
    code, figures = bench("--system", build(mib=300), *budget)
    assert code == 1
    assert figures["cases"]["small"]["peak_mib"] > 300
    assert "over the budget of 200 MiB" in capsys.readouterr().out


def test_a_build_that_fails_fails_the_benchmark(bench):
    code, figures = bench("--system", f"{sys.executable} -c 1/0 {{input}} {{output}}")
    assert code == 1
    failed, without, *_ = figures["missed"]
    assert "ended with exit code 1" in failed
    assert "left no label map" in without


def test_samples_and_a_plot_lie_beside_the_figures(bench, build, tmp_path):
    bench("--system", build(), "--against", build())
    names = {path.name for path in (tmp_path / "made" / "anew" / "benchmark").iterdir()}
    assert names == {"small-ours-1.csv", "small-other-1.csv", "small.png"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cases", "thick51", "--growth"), "exclude each other"),
        (("--references", "labels"), "only with --input"),
        (("--time-budget", "0.5"), "add --against"),
        (("--repeat", "0"), "at least 1"),
        (("--cases", "thick51,thick50"), "thick50"),
        (("--against", "tool {input}"), "{output} expected"),
    ],
)
def test_wrong_use_is_exit_code_2(options, said, tmp_path, capsys):
    assert main(["benchmark", "--output", str(tmp_path / "out.json"), *options]) == 2
    assert said in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made_is_told_before_anything_is_measured(tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    output = tmp_path / "taken" / "new" / "out.json"
    assert main(["benchmark", "--output", str(output)]) == 2
    told = capsys.readouterr()
    assert f"--output {output}: cannot be made" in told.err
    assert "Measuring" not in told.out
