"""The Docker commands of README and guide, run as they stand."""

import json
import os
import shlex
import subprocess
import tarfile

import pytest
from doc_blocks import ROOT, blocks, lines_of

pytestmark = pytest.mark.container

SHOWN = {
    f"{name}-{index}": line
    for name, commands in blocks("docker").items()
    for index, line in enumerate(lines_of(commands))
    if "run" in line.split()[1:3] and line.startswith("docker ")
}


@pytest.mark.parametrize("command", SHOWN.values(), ids=SHOWN.keys())
def test_containers_run_as_shown(docker, image, folders, command):
    inputs, outputs = folders
    finished = subprocess.run(
        ["sh", "-e", "-c", command.replace("docker", shlex.quote(docker), 1)],
        cwd=inputs.parent,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert (outputs / "body.nii.gz").exists()
    assert (outputs / "report.html").exists() == ("--preview" in command)


def test_submission_is_an_archive_that_holds_the_image(docker, image, tmp_path):
    command = ["make", "submission", f"TEAM={tmp_path / 'team'}", f"DOCKER={docker}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=os.environ)
    with tarfile.open(tmp_path / "team.tar.gz", "r|gz") as archive:
        (manifest,) = (
            json.load(archive.extractfile(one)) for one in archive if one.name == "manifest.json"
        )
    assert manifest[0]["RepoTags"] == [image]
