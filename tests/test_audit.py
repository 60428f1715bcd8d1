"""An audit that could not be made is not taken for one that found nothing."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "requirements" / "audit.sh"

CLEAN = "No known vulnerabilities found"
SKIPPED = "Name Skip Reason\nx Dependency not found on PyPI and could not be audited: x (1.0)"
FOUND = "Found 2 known vulnerabilities in 1 package\nName Version ID\npillow 1.0 PYSEC-1"
UNREACHED = "requests.exceptions.ConnectionError: Max retries exceeded"


def audit(tmp_path, told, code):
    """Run the script with a stand-in that says what the real program would."""
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\necho \"$@\" > '{tmp_path}/asked'\ncat <<'END' >&2\n{told}\nEND\n")
    with tool.open("a") as script:
        script.write(f"exit {code}\n")
    tool.chmod(0o755)
    return subprocess.run([SCRIPT, tool], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("told", "tool_code", "code", "is_loud"),
    [
        (CLEAN, 0, 0, False),
        (FOUND, 1, 1, False),
        (f"{FOUND}\n{SKIPPED}", 1, 1, False),
        (f"{CLEAN}\n{SKIPPED}", 0, 3, True),
        (UNREACHED, 1, 3, True),
        ("", 0, 3, True),
    ],
)
def test_each_outcome_has_its_code(tmp_path, told, tool_code, code, is_loud):
    finished = audit(tmp_path, told, tool_code)
    assert finished.returncode == code
    assert finished.stdout.strip() == told
    assert ("NOT AUDITED" in finished.stderr) == is_loud
    assert (tmp_path / "asked").read_text().split()[-1].endswith("requirements/run.txt")


def test_program_that_is_not_there_audits_nothing(tmp_path):
    finished = subprocess.run([SCRIPT, tmp_path / "none"], capture_output=True, text=True)
    assert finished.returncode == 3
    assert "NOT AUDITED" in finished.stderr


@pytest.mark.parametrize(("code", "passes"), [(0, True), (1, False), (3, True)])
def test_check_goes_on_offline_and_stops_at_a_vulnerability(code, passes):
    (line,) = (
        line.strip()
        for line in (ROOT / "Makefile").read_text().splitlines()
        if "audit.sh" in line and "||" in line
    )
    audited = "requirements/audit.sh .venv/tools/bin/pip-audit"
    assert line.startswith(audited)
    line = line.replace("$$", "$").replace(audited, f"(exit {code})")
    assert (subprocess.run(["sh", "-c", line]).returncode == 0) == passes
