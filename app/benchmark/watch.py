"""Run a command and sample what it uses: a process with its children, or a container."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.benchmark.curve import INTERVAL_S, Curve, Sample, since_first

KIB = 1024
MIB = 1024 * KIB

# Of what ended before the first sample. Linux counts what this process held as its child's, so
# that it serves for no more than that. In KiB, except on macOS.
_MAXRSS_MIB = 1 / MIB if sys.platform == "darwin" else KIB / MIB

KILLED = 137
"""Exit code of what the kernel ended, most often for its memory."""

# Runs inside the container, whose shell is all there is to measure with: `read` and `echo` are
# built into it, so that a sample costs one `sleep`. Control groups are version 2, else version 1,
# whose processor time is in ns. The kernel's own peak is gone with the container, so it is told
# last. The names in braces are filled in.
_SAMPLE_IN_CONTAINER = """
group={group}
sample() {
    memory=0 cpu=0
    read -r up idle </proc/uptime
    if [ -r $group/memory.current ]; then
        read -r memory <$group/memory.current
        read -r name cpu <$group/cpu.stat
    else
        read -r memory <$group/memory/memory.usage_in_bytes
        read -r cpu <$group/cpuacct/cpuacct.usage
        cpu=$((cpu / 1000))
    fi
    [ "$memory" = 0 ] || echo "sample $up $memory $cpu"
}
(while :; do sample; sleep {interval}; done) 2>/dev/null &
sampler=$!
{command}
code=$?
kill $sampler
(sample) 2>/dev/null
for file in memory.peak memory/memory.max_usage_in_bytes; do
    if [ -r $group/$file ]; then echo "peak_bytes $(cat $group/$file)"; break; fi
done
exit $code
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a command took.

    Parameters
    ----------
    exit_code : int
        137 if the kernel ended it.
    wall_s : float
        From start to end, in s.
    peak_mib : float or None
        Most memory, in MiB: the highest sample, or what the kernel saw between samples. None
        where neither is known.
    curve : Curve
        Sampled every 0.1 s.
    """

    exit_code: int
    wall_s: float
    peak_mib: float | None
    curve: Curve


def watch_process(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Watched:
    """Run a command and sample it and all processes that it starts.

    Memory is resident memory; pages that processes share count for each of them.

    Parameters
    ----------
    command : sequence of str
        Program and arguments. Its standard output is dropped.
    environment : mapping of str to str, optional
        Variables that it gets beside those of this process.

    Returns
    -------
    Watched
        A command ended by a signal has the exit code of a shell, 128 and the signal's number.

    Raises
    ------
    OSError
        If the program cannot be started.
    """
    started = time.perf_counter()
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})}
    )
    sampler = _TreeSampler(psutil.Process(child.pid), started)
    sampler.start()
    # wait4 tells the processor time up to the very end, which samples miss.
    _, status, usage = os.wait4(child.pid, 0)
    wall_s = time.perf_counter() - started
    sampler.stop()
    exit_code = os.waitstatus_to_exitcode(status)
    child.returncode = exit_code
    cpu_s = max([usage.ru_utime + usage.ru_stime, *(s.cpu_s for s in sampler.samples)])
    first = Sample(seconds=0.0, memory_mib=0.0, cpu_s=0.0)
    last = Sample(seconds=wall_s, memory_mib=0.0, cpu_s=cpu_s)
    curve = Curve((first, *sampler.samples, last))
    return Watched(
        exit_code=128 - exit_code if exit_code < 0 else exit_code,
        wall_s=wall_s,
        peak_mib=max(curve.peak_mib, sampler.process_peak_mib) or usage.ru_maxrss * _MAXRSS_MIB,
        curve=curve,
    )


def watch_container(run: Sequence[str], command: str) -> Watched:
    """Run a container and sample its control group from inside.

    Memory is what the kernel charges the container for, cached files included.

    Parameters
    ----------
    run : sequence of str
        ``docker run`` with its options and the image.
    command : str
        What the container's shell runs.

    Returns
    -------
    Watched
        The curve starts with the container, some tenths of a second after the client.

    Raises
    ------
    OSError
        If the client cannot be started.
    """
    started = time.perf_counter()
    finished = subprocess.run(
        [*run, "/bin/sh", "-c", _container_script(command)],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    wall_s = time.perf_counter() - started
    curve = _read_samples(finished.stdout)
    told = re.search(r"^peak_bytes (\d+)$", finished.stdout, re.MULTILINE)
    peaks_mib = [curve.peak_mib, int(told[1]) / MIB if told else 0.0]
    return Watched(
        exit_code=finished.returncode,
        wall_s=wall_s,
        peak_mib=max(peaks_mib) or None,
        curve=curve,
    )


def _container_script(command: str, group: str = "/sys/fs/cgroup") -> str:
    script = _SAMPLE_IN_CONTAINER
    for name, value in (("interval", str(INTERVAL_S)), ("group", group), ("command", command)):
        script = script.replace(f"{{{name}}}", value)
    return script


def _read_samples(told: str) -> Curve:
    lines = re.findall(r"^sample ([\d.]+) (\d+) (\d+)$", told, re.MULTILINE)
    return since_first(
        Sample(seconds=float(up), memory_mib=int(memory) / MIB, cpu_s=int(cpu) / 1e6)
        for up, memory, cpu in lines
    )


class _TreeSampler(threading.Thread):
    """Samples a process and its children until told to stop."""

    def __init__(self, root: psutil.Process, started: float) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self.process_peak_mib = 0.0
        self._root, self._zero_s = root, started
        self._ended = threading.Event()

    def run(self) -> None:
        self._sample()
        while not self._ended.wait(INTERVAL_S):
            self._sample()

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _sample(self) -> None:
        memory_bytes, cpu_s = 0, 0.0
        for process in _tree(self._root):
            try:
                with process.oneshot():
                    memory_bytes += process.memory_info().rss
                    # With what its ended children used; those that live are in the tree.
                    cpu_s += sum(process.cpu_times()[:4])
            except psutil.Error:
                continue  # it ended meanwhile
            self.process_peak_mib = max(self.process_peak_mib, _peak_mib(process.pid))
        if not memory_bytes:
            return
        # An orphan takes its processor time along; what was used stays used.
        before_s = self.samples[-1].cpu_s if self.samples else 0.0
        self.samples.append(
            Sample(
                seconds=time.perf_counter() - self._zero_s,
                memory_mib=memory_bytes / MIB,
                cpu_s=max(cpu_s, before_s),
            )
        )


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _peak_mib(pid: int) -> float:
    """Give the highest resident memory of a process so far, as Linux keeps it; 0 elsewhere."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * KIB / MIB if found else 0.0
