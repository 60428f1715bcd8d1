"""Start the system as its users do, and measure it from outside."""

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1024 * 1024

# A container's own memory peak, page cache included, as its kernel counts it (cgroup v2, then v1).
# It is gone with the container, so the container itself says it last.
_PREDICT_THEN_TELL_PEAK = """
sh predict.sh; code=$?
for file in memory.peak memory/memory.max_usage_in_bytes; do
    if [ -r /sys/fs/cgroup/$file ]; then echo "peak_bytes=$(cat /sys/fs/cgroup/$file)"; break; fi
done
exit $code
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one run of the system took.

    Parameters
    ----------
    case : str
        Name of the benchmark case.
    exit_code : int
        0 if the label map was written; 137 if the kernel ended it for its memory.
    wall_s : float
        From the command to its end, start-up included, in s.
    peak_mib : float or None
        Peak memory in MiB. For a container the larger of what its kernel charged it for, cached
        files included, and the process's own peak, since libraries that an earlier container
        loaded are charged to that one. None where neither is known.
    case_record : dict
        The case's own entry in ``run.json``.
    """

    case: str
    exit_code: int
    wall_s: float
    peak_mib: float | None
    case_record: dict[str, Any]


def image_is_ready(docker: str, image: str) -> bool:
    """Tell whether a Docker engine answers and has an image."""
    command = [docker, "image", "inspect", image]
    try:
        finished = subprocess.run(command, check=False, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return finished.returncode == 0


def run_image(
    name: str, *, docker: str, image: str, memory: str, scans: Path, results: Path
) -> Measurement:
    """Segment a folder in a container with nothing but a memory cap and two folders.

    Parameters
    ----------
    name : str
        Name of the benchmark case.
    docker, image : str
        Docker client and the image it runs.
    memory : str
        Memory of the container as Docker writes it, such as ``"8g"``; swap is ruled out.
    scans, results : Path
        Folders that become ``/inputs`` and ``/outputs``.

    Returns
    -------
    Measurement
    """
    command = [docker, "run", "--rm", "--memory", memory, "--memory-swap", memory]
    command += ["--network", "none", "--read-only", "--tmpfs", "/tmp"]
    command += ["--volume", f"{scans.resolve()}:/inputs:ro"]
    command += ["--volume", f"{results.resolve()}:/outputs"]
    command += [image, "/bin/sh", "-c", _PREDICT_THEN_TELL_PEAK]
    start = time.perf_counter()
    finished = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    wall_s = time.perf_counter() - start
    told = re.search(r"^peak_bytes=(\d+)$", finished.stdout, re.MULTILINE)
    record = _case_record(results)
    peaks_mib = [int(told[1]) / MIB] if told else []
    peaks_mib += [float(record["peak_mib"])] if record.get("peak_mib") else []
    return Measurement(
        case=name,
        exit_code=finished.returncode,
        wall_s=wall_s,
        peak_mib=max(peaks_mib, default=None),
        case_record=record,
    )


def run_local(name: str, *, memory: str, scans: Path, results: Path) -> Measurement:
    """Segment a folder with the Python that runs this; parameters as :func:`run_image`."""
    command = [sys.executable, "-m", "app", "predict", "--input", str(scans)]
    command += ["--output", str(results), "--memory-limit", memory]
    start = time.perf_counter()
    exit_code, peak_bytes = _run_and_weigh(command)
    return Measurement(
        case=name,
        exit_code=exit_code,
        wall_s=time.perf_counter() - start,
        peak_mib=peak_bytes / MIB,
        case_record=_case_record(results),
    )


def describe_machine() -> dict[str, Any]:
    """Say what the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        cpu = model[1] if model else cpu
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "num_cpus": os.cpu_count(),
        "memory_gib": round(memory_bytes / MIB / 1024, 1),
        "system": platform.platform(terse=True),
    }


def _run_and_weigh(command: Sequence[str]) -> tuple[int, int]:
    """Run a child process and give its exit code and its peak resident memory in bytes.

    Linux counts the parent's memory at the fork as the child's, so the parent must be small.
    """
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    # ru_maxrss is in KiB, except on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return child.returncode, usage.ru_maxrss * unit


def _case_record(results: Path) -> dict[str, Any]:
    """Read what the run itself wrote down about its one case."""
    record = results / "run.json"
    if not record.exists():
        return {}
    cases = json.loads(record.read_text()).get("cases", [])
    return dict(cases[0]) if cases else {}
