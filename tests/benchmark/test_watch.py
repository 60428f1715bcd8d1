import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.benchmark import watch
from app.benchmark.watch import MIB, watch_container, watch_process

BLOCK_MIB = 96
FILL = (
    f"block = bytearray({BLOCK_MIB} * 1024 * 1024)\n"
    "block[::4096] = b'x' * len(block[::4096])\n"
    "import time; time.sleep(1)"
)

needs_shell = pytest.mark.skipif(os.name != "posix", reason="the stand-ins are shell scripts")


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_peak_and_area_count_what_a_process_touched():
    watched = watch_process([sys.executable, "-c", FILL])
    assert watched.exit_code == 0
    assert BLOCK_MIB < watched.peak_mib < BLOCK_MIB + 200
    # Held for at least one second.
    assert watched.curve.memory_area_mib_s > BLOCK_MIB * 0.8
    assert watched.curve.samples[-1].seconds == watched.wall_s


def test_what_children_hold_and_use_counts_too():
    busy = "sum(i * i for i in range(300_000))"
    parent = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {busy + chr(10) + FILL!r}], check=True)"
    )
    watched = watch_process([sys.executable, "-c", parent])
    alone = watch_process([sys.executable, "-c", "pass"])
    assert watched.peak_mib > BLOCK_MIB
    assert watched.curve.cpu_area_s > alone.curve.cpu_area_s > 0


def test_processor_time_never_falls():
    used = [s.cpu_s for s in watch_process([sys.executable, "-c", FILL]).curve.samples]
    assert used == sorted(used)


def test_exit_code_comes_through():
    assert watch_process([sys.executable, "-c", "raise SystemExit(3)"]).exit_code == 3


def test_what_the_kernel_kills_ends_as_in_a_shell():
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert watch_process([sys.executable, "-c", killed]).exit_code == watch.KILLED


@needs_shell
def test_container_tells_samples_and_at_last_the_kernels_peak(tmp_path):
    docker = script(
        tmp_path / "docker",
        "#!/bin/sh\necho scanning\necho sample 900.25 1048576 5000000\n"
        "echo sample 900.75 3145728 5500000\necho peak_bytes 4194304\nexit 3\n",
    )
    watched = watch_container([docker, "run", "image"], "true")
    assert (watched.exit_code, watched.peak_mib) == (3, 4.0)
    assert watched.curve.memory_area_mib_s == 1.0  # (1 + 3) / 2 MiB for half a second
    assert watched.curve.cpu_area_s == 0.5


@needs_shell
def test_a_container_killed_before_it_told_anything_has_no_peak(tmp_path):
    docker = script(tmp_path / "docker", "#!/bin/sh\nexit 137\n")
    watched = watch_container([docker, "run"], "true")
    assert (watched.exit_code, watched.peak_mib, watched.curve.samples) == (137, None, ())


@pytest.mark.skipif(not Path("/proc/uptime").exists(), reason="containers run on Linux")
@pytest.mark.parametrize("version", [1, 2])
def test_control_groups_of_both_versions_are_read(tmp_path, version):
    files = {
        1: {
            "memory/memory.usage_in_bytes": "2097152\n",
            "memory/memory.max_usage_in_bytes": "8388608\n",
            "cpuacct/cpuacct.usage": "1500000000\n",
        },
        2: {
            "memory.current": "2097152\n",
            "memory.peak": "8388608\n",
            "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\n",
        },
    }[version]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    ran = subprocess.run(
        ["/bin/sh", "-c", watch._container_script("sleep 0.3; (exit 5)", str(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (5, "")
    curve = watch._read_samples(ran.stdout)
    assert len(curve.samples) >= 2
    assert {sample.memory_mib for sample in curve.samples} == {2.0}
    assert " 2097152 1500000\n" in ran.stdout  # bytes and microseconds
    assert f"peak_bytes {8 * MIB}\n" in ran.stdout
