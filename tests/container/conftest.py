"""The image, built from this working tree, and a phantom for it to segment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "abdomen-cascade"
DEFAULT_BASE_IMAGE = "python:3.11-slim-bookworm"


def _answers(docker):
    try:
        finished = subprocess.run([docker, "info"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return finished.returncode == 0


def _has_base_image(docker):
    base_image = os.environ.get("BASE_IMAGE", DEFAULT_BASE_IMAGE)
    for command in (["image", "inspect", base_image], ["pull", base_image]):
        if subprocess.run([docker, *command], capture_output=True).returncode == 0:
            return True
    return False


@pytest.fixture(scope="session")
def docker():
    # As the Makefile chooses: the system's own client first.
    client = os.environ.get("DOCKER") or shutil.which("docker", path="/usr/bin") or "docker"
    if not _answers(client):
        pytest.skip("no Docker engine answers; start one to run the container tests")
    return client


@pytest.fixture(scope="session")
def image(docker):
    if not _has_base_image(docker):
        pytest.skip("the base image is not here and cannot be pulled; name one in BASE_IMAGE")
    built = subprocess.run(
        ["make", "image", f"IMAGE={IMAGE}", f"DOCKER={docker}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-6000:]
    return f"{IMAGE}:latest"


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """Make a small scan; slices are thick, as many scans' are."""
    path = tmp_path_factory.mktemp("phantom") / "body_0000.nii.gz"
    command = [sys.executable, "-m", "app", "synthesize", "--seed", "3", "--output", str(path)]
    command += ["--size", "100x90x40", "--spacing", "3.2x3.3x5"]
    subprocess.run(command, cwd=ROOT, check=True)
    return path


@pytest.fixture
def folders(tmp_path, phantom):
    """Lay out a folder with one scan and an empty folder for its result."""
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    for folder in (inputs, outputs):
        folder.mkdir(mode=0o755)
    shutil.copy(phantom, inputs)
    return inputs, outputs


@pytest.fixture
def run_container(docker, image):
    """Run the image the way a careful user does: capped, offline, nothing writable but /tmp."""

    def run(*options, command=()):
        fixed = ["run", "--rm", "-m", "8g", "--network", "none", "--read-only", "--tmpfs", "/tmp"]
        return subprocess.run(
            [docker, *fixed, *map(str, options), image, *command],
            capture_output=True,
            text=True,
            timeout=900,
        )

    return run
