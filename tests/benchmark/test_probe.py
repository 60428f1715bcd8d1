import os
import stat
import subprocess
import sys

import pytest

from app.benchmark import probe


def script(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_peak_of_a_child_counts_what_it_touched():
    fill = "block = bytearray(64 * 1024 * 1024)\nblock[::4096] = b'x' * len(block[::4096])"
    # From a small process: the test runner's own memory would be counted as the child's.
    weigh = (
        "import sys; from app.benchmark import probe; "
        f"print(*probe._run_and_weigh([sys.executable, '-c', {fill!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", weigh], capture_output=True, text=True, check=True)
    exit_code, peak_bytes = map(int, ran.stdout.split())
    assert exit_code == 0
    assert 64 * probe.MIB < peak_bytes < 512 * probe.MIB


def test_exit_code_of_a_child_comes_through():
    exit_code, _ = probe._run_and_weigh([sys.executable, "-c", "raise SystemExit(3)"])
    assert exit_code == 3


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for Docker is a shell script")
def test_container_peak_is_read_from_its_last_words(tmp_path):
    docker = script(tmp_path / "docker", "#!/bin/sh\necho scanning\necho peak_bytes=2097152\n")
    measured = probe.run_image(
        "case", docker=docker, image="any", memory="8g", scans=tmp_path, results=tmp_path
    )
    assert (measured.exit_code, measured.peak_mib) == (0, 2.0)


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for Docker is a shell script")
def test_a_process_that_shares_what_others_loaded_counts_it_as_its_own(tmp_path):
    docker = script(tmp_path / "docker", "#!/bin/sh\necho peak_bytes=2097152\n")
    (tmp_path / "run.json").write_text('{"cases": [{"peak_mib": 3}]}')
    measured = probe.run_image(
        "case", docker=docker, image="any", memory="8g", scans=tmp_path, results=tmp_path
    )
    assert measured.peak_mib == 3.0


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for Docker is a shell script")
def test_a_kernel_that_tells_no_peak_leaves_it_unknown(tmp_path):
    docker = script(tmp_path / "docker", "#!/bin/sh\nexit 137\n")
    measured = probe.run_image(
        "case", docker=docker, image="any", memory="8g", scans=tmp_path, results=tmp_path
    )
    assert (measured.exit_code, measured.peak_mib) == (137, None)


def test_no_docker_client_means_no_image(tmp_path):
    assert not probe.image_is_ready(str(tmp_path / "no-such-client"), "any")


def test_the_runs_own_record_of_its_case_is_kept(tmp_path):
    (tmp_path / "run.json").write_text('{"cases": [{"status": "ok"}]}')
    assert probe._case_record(tmp_path) == {"status": "ok"}


def test_a_run_that_wrote_no_record_has_none(tmp_path):
    assert probe._case_record(tmp_path) == {}


def test_machine_is_described():
    assert set(probe.describe_machine()) == {"cpu", "num_cpus", "memory_gib", "system"}
