"""How much memory this process holds; that of `predict` after each scan of a batch."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

# What is freed goes back to the system at once, so that what is left is what is still held:
# otherwise glibc keeps 20 MiB more or less, depending on where the last piece happens to lie.
NOTHING_KEPT = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_ARENA_MAX": "1",
}


def resident_bytes():
    """Give the memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def resident_after_each(scans, output, *options):
    """Segment a folder in one process; yield the MiB it holds whenever a scan is done."""
    command = [sys.executable, "-m", "app", "predict", "--input", str(scans)]
    command += ["--output", str(output), "--threads", "1", "--progress", "json", *options]
    environment = os.environ | NOTHING_KEPT
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            told = json.loads(line)
            if told["step"] == "done":
                status = Path(f"/proc/{process.pid}/status").read_text()
                yield int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
    assert process.returncode == 0


def slope(resident_mib, num_kinds):
    """Fit MiB a scan over rounds of ``num_kinds`` scans each, the first round left out.

    Scans of one kind are compared with each other: a large one leaves more in the
    allocator's hands than a small one.
    """
    rounds = np.reshape(resident_mib, (-1, num_kinds))[1:]
    above_its_kind = rounds - rounds.mean(axis=0)
    return float(np.polyfit(np.arange(rounds.size), above_its_kind.ravel(), 1)[0])
