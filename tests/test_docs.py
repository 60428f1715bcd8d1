"""The site builds, and the commands it shows do what it says.

Blocks marked ``sh`` are run as they stand. Those marked ``parsed`` would train for
hours or need label maps that nobody has here: their flags are checked. ``make`` is run
without doing anything. What is marked ``docker`` is run by tests/container/ where it
starts the image; Apptainer is not at hand.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from app.cli.main import _parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "site").glob("*.md"))


def blocks(kind):
    return [
        pytest.param(block.strip(), id=f"{page.stem}-{index}")
        for page in PAGES
        for index, block in enumerate(
            re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
        )
    ]


@pytest.fixture(scope="module")
def clone(tmp_path_factory, body):
    """Give a folder that looks like a clone after `make run`, with a scan in inputs/."""
    folder = tmp_path_factory.mktemp("clone")
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    hu, labels, spacing_mm = body
    for name, array in (("inputs/a_0000", hu), ("outputs/a", labels), ("labels/a", labels)):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array))
        image.SetSpacing(spacing_mm[::-1])
        (folder / name).parent.mkdir(exist_ok=True)
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    return folder


@pytest.mark.parametrize("commands", blocks("sh"))
def test_commands_run_as_they_stand(commands, clone):
    finished = subprocess.run(
        ["sh", "-e", "-c", commands], cwd=clone, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("commands", blocks("parsed"))
def test_flags_of_long_commands_exist(commands):
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        assert program == ".venv/bin/python"
        assert arguments[:2] == ["-m", "app"]
        assert callable(_parser().parse_args(arguments[2:]).run)


@pytest.mark.parametrize("commands", blocks("make"))
def test_targets_exist(commands):
    for line in commands.splitlines():
        subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_every_block_is_of_a_kind_that_is_checked():
    kinds = {
        kind
        for page in PAGES
        for kind in re.findall(r"^```(\w+)", page.read_text(encoding="utf-8"), re.M)
    }
    assert kinds <= {"sh", "parsed", "make", "docker"}


def test_site_builds_and_every_link_leads_somewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    finished = subprocess.run(
        [*command, "--site-dir", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "site" / "index.html").exists()
