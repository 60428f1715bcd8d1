"""What `pip install .` brings: all of the package, the weights, types and a command."""

import os
import shutil
import subprocess
import sys
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
