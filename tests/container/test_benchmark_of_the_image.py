"""The image as `python -m app benchmark` measures it: a real engine, a real control group."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.benchmark.systems import Image, reference, weights_differ

pytestmark = pytest.mark.container

ROOT = Path(__file__).resolve().parents[2]


def benchmark(docker, image, scans, output, *options):
    command = [sys.executable, "-m", "app", "benchmark", "--docker", docker, "--image", image]
    command += ["--input", str(scans), "--output", str(output), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)


def test_a_container_is_measured_from_its_start_to_its_end(docker, image, folders, tmp_path):
    output = tmp_path / "figures.json"
    finished = benchmark(docker, image, folders[0], output)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    record = json.loads(output.read_text())
    assert record["system"] == f"image {image}"
    assert record["missed"] == []
    case = record["cases"]["body"]
    (run,) = case["runs"]
    assert run["exit_code"] == 0
    assert case["num_patches"] >= 1
    assert {"import", "compile", "read", "locate", "segment", "restore", "write", "other"} <= set(
        case["steps_s"]
    )
    # Python, its libraries and the networks alone take more than 100 MiB.
    samples = run["samples"]
    assert 100 < max(samples["memory_mib"]) <= case["peak_mib"] < 8192
    # Every 0.1 s, of a run that is never over in half a second.
    assert len(samples["seconds"]) > 5
    assert samples["seconds"][-1] <= case["seconds"]
    assert samples["cpu_s"] == sorted(samples["cpu_s"])
    assert 0 < case["cpu_area_s"]
    assert 0 < case["memory_area_mib_s"] < case["peak_mib"] * case["seconds"]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "body-ours-1.csv",
        "body.png",
        "tables.md",
    }


def test_a_container_that_takes_more_than_its_budget_is_told_of(docker, image, folders, tmp_path):
    output = tmp_path / "figures.json"
    finished = benchmark(docker, image, folders[0], output, "--memory-budget", "50")
    assert finished.returncode == 1, finished.stdout + finished.stderr
    (missed,) = json.loads(output.read_text())["missed"]
    assert f"MISSED  {missed}" in finished.stdout
    assert "50" in missed


def test_the_image_tells_that_it_runs_the_checkpoints_of_the_reference(docker, image):
    told = Image(docker=docker, image=image, memory="8g").checkpoints()
    loaded = reference(weights=ROOT / "weights").checkpoints()
    assert weights_differ(told, loaded, image) == ""
