"""What `pip install .` brings: all of the package, the weights, types and a command."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def files_below(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the wheel from a copy, as building leaves folders behind, and unpack it."""
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    source, built, site = (tmp_path_factory.mktemp(name) for name in ("source", "built", "site"))
    for name in ("app", "weights"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", built, source]
    subprocess.run(command, check=True)
    (wheel,) = built.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_the_wheel_holds_all_of_the_package_and_of_the_weights(site):
    weights = {f"weights/{name}" for name in files_below(ROOT / "weights")}
    assert files_below(site / "app") == files_below(ROOT / "app") | weights
    assert "py.typed" in files_below(site / "app")


def test_an_installed_package_finds_its_weights_from_anywhere(site, tmp_path):
    program = "import sys; from app.cli.main import main; sys.exit(main(['info']))"
    finished = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert "CC-BY-NC-4.0" in finished.stdout
    (metadata,) = site.glob("*.dist-info")
    commands = (metadata / "entry_points.txt").read_text()
    assert "abdomen-cascade = app.cli.main:main" in commands
    assert "CC-BY-NC-4.0" in (metadata / "METADATA").read_text()


USER = """
from typing import assert_type

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from app import Segmentation, Segmenter, segment

def of_image(image: sitk.Image) -> float:
    found = segment(image, organs=["liver"], statistics=True, fast=True)
    assert_type(found, Segmentation[sitk.Image])
    return found.report.volumes_ml["liver"]

def of_array(hu: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    segmenter = Segmenter(threads=1, precision="f32", memory="4GiB")
    labels, report = segmenter.segment(hu, spacing_mm=(2.5, 0.8, 0.8), confidence=True)
    warnings: list[str] = report.warnings
    print(*warnings, *(flag.code for flag in report.flags))
    return labels
"""
WRONG = """
import numpy as np

from app import Segmenter, segment

segment(np.zeros((2, 3, 4)), spacing=(1.0, 1.0, 1.0))
Segmenter(precision="f16")
segment(np.zeros((2, 3, 4)), spacing_mm=(1.0, 1.0, 1.0)).labels.GetSize()
"""


@pytest.fixture(scope="module")
def checked(site, tmp_path_factory):
    """Give what checks a user's script with mypy, which sees an installed package."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False)
    (packages,) = environment.glob("lib/python*/site-packages")
    # What is installed here stands for what pip would have fetched.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    shutil.copytree(site, packages, dirs_exist_ok=True)

    def check(script):
        path = environment / "script.py"
        path.write_text(script)
        command = [sys.executable, "-m", "mypy", "--strict", "--python-executable"]
        command += [environment / "bin" / "python", "--config-file=", path]
        return subprocess.run(command, cwd=environment, capture_output=True, text=True)

    return check


def test_types_of_an_installed_package_reach_a_users_script(checked):
    finished = checked(USER)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_wrong_use_of_an_installed_package_is_told_by_its_types(checked):
    told = [line for line in checked(WRONG).stdout.splitlines() if ": error:" in line]
    assert {int(line.split(":")[1]) for line in told} == {6, 7, 8}, told
