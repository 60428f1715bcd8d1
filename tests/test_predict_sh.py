"""Whom the container's entry point lets work, with a program in place of the real one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root may step down"
)

SOMEBODY = 12345
# The privileges that --cap-drop ALL takes.
NO_PRIVILEGE = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture
def workspace(tmp_path):
    """Give the image's folder: predict.sh, mounted folders, a python3 that says who it is."""
    tmp_path.chmod(0o755)
    for above in tmp_path.parents:  # of pytest, closed to others
        if above.stat().st_uid == 0 and above.name.startswith("pytest-"):
            above.chmod(0o755)
    shutil.copy(ROOT / "predict.sh", tmp_path)
    for name in ("inputs", "outputs", "bin"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
    (tmp_path / "inputs" / "a_0000.nii.gz").touch(mode=0o644)
    python = tmp_path / "bin" / "python3"
    python.write_text('#!/bin/sh\ntouch "$7/written" && echo "$(id -u) $*"\n')
    python.chmod(0o755)
    return tmp_path


def call(workspace, *before):
    """Call it as the challenge does; give who worked, and what that user was told to do."""
    finished = subprocess.run(
        [*before, "sh", workspace / "predict.sh", "/bin/bash", "-c", "sh predict.sh"],
        cwd=workspace,
        env={**os.environ, "PATH": f"{workspace / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert "written" not in finished.stderr, finished.stderr
    assert finished.returncode == 0, finished.stderr
    user, *told = finished.stdout.split()
    assert told[:3] == ["-m", "app", "predict"]
    return int(user), (workspace / "outputs" / "written").stat().st_uid


@pytest.mark.parametrize("owner", [0, SOMEBODY])
def test_owner_of_the_output_folder_does_the_work(workspace, owner):
    os.chown(workspace / "outputs", owner, owner)
    assert call(workspace) == (owner, owner)


def test_root_does_it_where_the_owner_may_not_read_the_scans(workspace):
    os.chown(workspace / "outputs", SOMEBODY, SOMEBODY)
    (workspace / "inputs" / "a_0000.nii.gz").chmod(0o600)
    assert call(workspace) == (0, 0)  # and predict hands over what it writes


def test_user_that_is_named_stays(workspace):
    (workspace / "outputs").chmod(0o777)
    as_other = ["setpriv", "--reuid=777", "--regid=777", "--clear-groups"]
    assert call(workspace, *as_other) == (777, 777)


def test_without_privileges_root_works_in_a_folder_of_its_own(workspace):
    assert call(workspace, *NO_PRIVILEGE) == (0, 0)
