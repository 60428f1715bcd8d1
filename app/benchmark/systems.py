"""What can be measured: the container image, this installation, the reference, any command."""

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.benchmark.curve import Curve
from app.benchmark.watch import Watched, watch_container, watch_process
from app.errors import UsageError

INPUT, OUTPUT = "{input}", "{output}"
"""What stands for the two folders in a command."""

_REST = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one run took and what it said about itself.

    Parameters
    ----------
    exit_code : int
        0 if all went well; 137 if the kernel ended it for its memory.
    wall_s : float
        From the command to its end, start-up included, in s.
    peak_mib : float or None
        Peak memory in MiB. For a container the larger of what its kernel charged it for, cached
        files included, and the process's own peak, since libraries that an earlier container
        loaded are charged to that one. None where neither is known.
    curve : Curve
        Memory and processor time every 0.1 s.
    record : dict
        The run's own ``run.json``; empty if it wrote none.
    """

    exit_code: int
    wall_s: float
    peak_mib: float | None
    curve: Curve
    record: dict[str, Any]

    @property
    def steps_s(self) -> dict[str, float]:
        """Wall time of each step in s, as the run recorded it; empty if it did not.

        ``other`` is what lies between and around: starting a container, measuring volumes,
        ending.
        """
        if not self.record:
            return {}
        told = {**self.record.get("startup_seconds", {}), **self.record["cases"][0]["seconds"]}
        steps = {name: float(seconds) for name, seconds in told.items() if seconds is not None}
        return {**steps, _REST: max(0.0, self.wall_s - sum(steps.values()))}


class System(Protocol):
    """Anything that turns a folder with one scan into a folder with its label map."""

    @property
    def name(self) -> str:
        """What it is called in the report."""

    def run(self, scans: Path, results: Path) -> Measurement:
        """Segment what lies in one folder into another, and measure that."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program run as a child process.

    Parameters
    ----------
    name : str
        What it is called in the report.
    words : tuple of str
        Program and arguments; ``{input}`` and ``{output}`` stand for the folders.
    """

    name: str
    words: tuple[str, ...]

    def run(self, scans: Path, results: Path) -> Measurement:
        """Run the command on a folder.

        Raises
        ------
        UsageError
            If it cannot be started.
        """
        folders = {INPUT: str(scans.resolve()), OUTPUT: str(results.resolve())}
        words = [_fill(word, folders) for word in self.words]
        try:
            watched = watch_process(words)
        except OSError as error:
            raise UsageError(f"{shlex.join(words)}: cannot be started ({error})") from error
        return _measured(watched, results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The container image, with nothing but a memory cap and two folders.

    Parameters
    ----------
    docker, image : str
        Docker client and the image it runs.
    memory : str
        Memory of the container as Docker writes it, such as ``"8g"``; swap is ruled out.
    """

    docker: str
    image: str
    memory: str

    @property
    def name(self) -> str:
        """The image's name."""
        return f"image {self.image}"

    def is_ready(self) -> bool:
        """Tell whether a Docker engine answers and has the image."""
        command = [self.docker, "image", "inspect", self.image]
        try:
            finished = subprocess.run(command, check=False, capture_output=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return finished.returncode == 0

    def run(self, scans: Path, results: Path) -> Measurement:
        """Run a container on a folder."""
        command = [self.docker, "run", "--rm", "--memory", self.memory]
        command += ["--memory-swap", self.memory]
        command += ["--network", "none", "--read-only", "--tmpfs", "/tmp"]
        command += ["--volume", f"{scans.resolve()}:/inputs:ro"]
        command += ["--volume", f"{results.resolve()}:/outputs"]
        return _measured(watch_container([*command, self.image], "sh predict.sh"), results)


def local_installation(*, memory: str, weights: Path) -> Command:
    """Give this system, run with the Python that runs this.

    Parameters
    ----------
    memory : str
        What scans may need, such as ``"8GiB"``.
    weights : Path
        Folder of weights.
    """
    words = (sys.executable, "-m", "app", "predict", "--input", INPUT, "--output", OUTPUT)
    options = ("--memory-limit", memory, "--weights", str(weights))
    return Command("local installation", (*words, *options))


def reference(*, weights: Path) -> Command:
    """Give the published pipeline, plainly built; see :mod:`app.benchmark.reference`."""
    words = (sys.executable, "-m", "app.benchmark.reference", "--input", INPUT)
    return Command("reference", (*words, "--output", OUTPUT, "--weights", str(weights)))


def parse_command(text: str) -> Command:
    """Read a command line that holds ``{input}`` and ``{output}``.

    Raises
    ------
    UsageError
        If one of the two is missing or quotes do not match.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"command {text!r}: {error}") from error
    for placeholder in (INPUT, OUTPUT):
        if not any(placeholder in word for word in words):
            raise UsageError(
                f"command {text!r}: {placeholder} expected, where the folder of "
                f"{'scans' if placeholder == INPUT else 'label maps'} belongs"
            )
    return Command(text, words)


def _fill(word: str, folders: dict[str, str]) -> str:
    for placeholder, folder in folders.items():
        word = word.replace(placeholder, folder)
    return word


def _measured(watched: Watched, results: Path) -> Measurement:
    """Add what the run itself wrote down."""
    record = _read_record(results / "run.json")
    peaks_mib = [watched.peak_mib or 0.0]
    peaks_mib += [float(case.get("peak_mib") or 0.0) for case in record.get("cases", [])]
    return Measurement(
        exit_code=watched.exit_code,
        wall_s=watched.wall_s,
        peak_mib=max(peaks_mib) or None,
        curve=watched.curve,
        record=record,
    )


def _read_record(path: Path) -> dict[str, Any]:
    """Read what a run wrote about itself; empty if it wrote nothing of the kind."""
    try:
        record = json.loads(path.read_text())
        return record if isinstance(record["cases"][0], dict) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}
