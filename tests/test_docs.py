"""README, guide and the other pages show only what works, and the site builds.

Every fenced block has a kind. ``sh`` is run as it stands, ``python`` too. ``parsed``
would train for hours, needs data that nobody has here or writes to the program's own
weights: the shell must understand it, and each flag must exist. ``make`` is run without
doing anything. Of ``docker`` the options for the program inside are checked here, and the
Docker commands are run by tests/container/; Apptainer is not at hand. ``toml`` and ``json``
are read.
"""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series
from doc_blocks import PAGES, ROOT, blocks, blocks_of, inline_code, lines_of

from app.cli.main import COMMANDS, _parser
from app.config import PhaseConfig
from app.training.config import TrainingConfig


def each(kind):
    found = blocks(kind)
    return pytest.mark.parametrize("commands", found.values(), ids=found.keys())


def parse(arguments):
    """Let the command line take some arguments; its complaint is the test's."""
    if "--help" in arguments or "--version" in arguments:
        with pytest.raises(SystemExit) as ended:
            _parser().parse_args(arguments)
        assert ended.value.code == 0
        return
    assert callable(_parser().parse_args(arguments).run)


@pytest.fixture(scope="module")
def clone(tmp_path_factory, body):
    """Give a folder that looks like a clone after `make run`, with scans in it."""
    folder = tmp_path_factory.mktemp("clone")
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    hu, labels, spacing_mm = body
    series = write_series(folder / "SERIES", hu, spacing_mm=spacing_mm)
    grid = sitk.ReadImage([str(path) for path in series])
    scans = ("inputs/a_0000", "SCANS/a_0000")
    maps = ("outputs/a", "labels/a", "LABELS/a", "CORRECTED/a")
    for name, array in [*((name, hu) for name in scans), *((name, labels) for name in maps)]:
        image = sitk.GetImageFromArray(np.ascontiguousarray(array))
        image.CopyInformation(grid)
        (folder / name).parent.mkdir(exist_ok=True)
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    return folder


@each("sh")
def test_commands_run_as_they_stand(commands, clone):
    path = f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}"
    finished = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=clone,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@each("parsed")
def test_flags_of_long_commands_exist(commands):
    subprocess.run(["sh", "-n", "-c", commands], check=True)
    of_the_program = [line for line in lines_of(commands) if "-m app" in line]
    assert of_the_program
    for line in of_the_program:
        program, *arguments = shlex.split(line)
        assert program in {"python", ".venv/bin/python"}
        parse(arguments[2:])


@each("make")
def test_targets_exist(commands):
    for line in lines_of(commands):
        subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@each("docker")
def test_what_the_container_is_told_is_what_the_program_takes(commands):
    for line in lines_of(commands):
        words = shlex.split(line)
        if "run" not in words[1:3]:
            continue
        *_, image = (at for at, word in enumerate(words) if word.startswith("abdomen-cascade"))
        told = words[image + 1 :]
        if told[:1] != ["/bin/bash"]:  # the challenge's call, which takes no options
            parse(["predict", "--input", "inputs", "--output", "outputs", *told])


@each("python")
def test_lines_of_python_run_as_they_stand(commands, body):
    hu, _, spacing_mm = body
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    known = {"image": image, "array": hu}
    exec(compile(commands, "docs", "exec"), known)
    assert known["labels"].shape == hu.shape


@each("toml")
def test_settings_shown_are_settings_that_there_are(commands):
    known = {"phase": PhaseConfig, "training": TrainingConfig}
    for table, fields in tomllib.loads(commands).items():
        assert fields.keys() <= {field.name for field in dataclasses.fields(known[table])}


@each("json")
def test_json_shown_is_json(commands):
    json.loads(commands)


def test_every_block_is_of_a_kind_that_is_checked():
    kinds = {kind for page in PAGES for kind, _ in blocks_of(page)}
    assert kinds <= {"sh", "parsed", "make", "docker", "python", "toml", "json", "text"}


def test_commands_within_sentences_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, code in inline_code():
        words = code.split()
        if words[0] == "make" and len(words) > 1:
            assert words[1] in targets, (page, code)
        elif "-m app" in code:
            assert words[words.index("app") + 1] in {*COMMANDS, "COMMAND"}, (page, code)
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), (page, code)


def test_flags_within_sentences_exist(capsys):
    helps = []
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            _parser().parse_args([command, "--help"])
        helps.append(capsys.readouterr().out)
    known = set(re.findall(r"--[a-z][a-z-]+", " ".join(helps)))
    of_other_programs = {"docker", "pip", "torchrun", "tensorboard"}
    # docker's
    known |= {"--network", "--read-only", "--tmpfs", "--user", "--cap-drop", "--security-opt"}
    known |= {"--containall", "--memory", "--memory-swap"}  # Apptainer's
    known |= {"--require-hashes"}  # pip's
    known |= {"--runs", "--first", "--only"}  # of tests/fuzz/fuzz_readers.py
    for page, code in inline_code():
        words = code.split()
        if words[0] in of_other_programs or "tests/" in code:
            continue
        flags = re.findall(r"(?<!\S)--[a-z][a-z-]+", code)
        assert set(flags) <= known, (page, code)


def test_site_builds_and_every_link_leads_somewhere(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    finished = subprocess.run(
        [*command, "--site-dir", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "site" / "index.html").exists()


def test_links_between_the_pages_of_the_repository_lead_somewhere():
    for page in PAGES:
        if page.parent.name == "site":
            continue  # checked by the site's own build
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), (page.name, target)
