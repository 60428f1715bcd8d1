"""What can be measured: the container image, this installation, the reference, any command."""

import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from app.benchmark.curve import Curve
from app.benchmark.watch import Watched, watch_container, watch_process
from app.errors import UsageError, WeightsError
from app.manifest import CHECKPOINT_NAME, MANIFEST_NAME, Manifest, sha256_of

INPUT, OUTPUT = "{input}", "{output}"
"""What stands for the two folders in a command."""

_REST, _COMPILE = "other", "compile"

AVX2_ALONE = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
"""Environment in which OpenVINO and PyTorch compute as on a processor with AVX2 and no more.

The first is read by oneDNN, which both rely on, the others by PyTorch and its MKL. Matrix products
of OpenVINO (MLAS) and NumPy ask the processor itself."""

Checkpoints: TypeAlias = dict[str, str]
"""SHA-256 of the checkpoint that each phase's network comes from, by phase."""

_PHASES = ("locate", "segment")

_ENDLESS = 1e300
"""JSON knows whole numbers that no float can hold, and Python's also infinity and NaN."""


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
        ending. Where compiling runs beside other steps, it is no part of the sum: what a step
        waits for it counts in that step.
        """
        startup, steps = self._told_s
        if not startup and not steps:
            return {}
        in_turn = {**startup, **steps}
        if self.compiles_beside:
            del in_turn[_COMPILE]
        return {**startup, **steps, _REST: max(0.0, self.wall_s - sum(in_turn.values()))}

    @property
    def compiles_beside(self) -> bool:
        """Tell whether the run compiled its networks while it did something else.

        This system does, in a thread of its own; what does not says ``startup_in_sequence``.
        """
        startup, _ = self._told_s
        return _COMPILE in startup and self.record.get("startup_in_sequence") is not True

    @property
    def num_patches(self) -> int | None:
        """Patches that the networks ran, as the run recorded them; None if it did not."""
        cases = _cases_in(self.record)
        told = _numbers_in(cases[0]).get("num_patches") if cases else None
        return None if told is None else round(told)

    @property
    def _told_s(self) -> tuple[dict[str, float], dict[str, float]]:
        """Give the seconds of start-up and of the scan's steps, as far as the record tells them."""
        cases = _cases_in(self.record)
        steps = _numbers_in(cases[0].get("seconds")) if cases else {}
        return _numbers_in(self.record.get("startup_seconds")), steps


class System(Protocol):
    """Anything that turns a folder with one scan into a folder with its label map."""

    @property
    def name(self) -> str:
        """What it is called in the report."""

    def check(self) -> None:
        """Raise a UsageError if it cannot be run at all; a wrong call may still fail."""

    def checkpoints(self) -> Checkpoints | None:
        """Tell what its networks come from; None if it has no way to tell."""

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
    weights : Checkpoints or None
        What its networks come from, if that is known.
    packages : tuple of str
        What its Python needs beside this program's own packages.
    environment : mapping of str to str
        Variables that it gets beside those of this process.
    """

    name: str
    words: tuple[str, ...]
    weights: Checkpoints | None = field(default=None, kw_only=True)
    packages: tuple[str, ...] = field(default=(), kw_only=True)
    environment: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    def check(self) -> None:
        """Check that the program exists.

        Raises
        ------
        UsageError
            If it, or a package, does not.
        """
        if shutil.which(self.words[0]) is None:
            raise UsageError(
                f"{self.words[0]}: cannot be started (no such program); give its whole path"
            )
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise UsageError(
                f"{self.name}: needs {', '.join(missing)}, not installed here; see the README on "
                "setting up for development"
            )

    def checkpoints(self) -> Checkpoints | None:
        """Tell what its networks come from."""
        return self.weights

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
            watched = watch_process(words, self.environment)
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
    environment : mapping of str to str
        Variables that the container gets.
    """

    docker: str
    image: str
    memory: str
    environment: Mapping[str, str] = field(default_factory=dict)

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

    def check(self) -> None:
        """Nothing: what is not ready is not measured."""

    def checkpoints(self) -> Checkpoints | None:
        """Ask the program in the image what its networks come from."""
        command = [*self._container(), self.image, "info", "--json"]
        try:
            told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            phases = json.loads(told.stdout)["phases"]
            return {name: str(phases[name]["checksums"][CHECKPOINT_NAME]) for name in _PHASES}
        except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
            return None

    def _container(self) -> list[str]:
        command = [self.docker, "run", "--rm", "--memory", self.memory]
        command += ["--memory-swap", self.memory]
        for name, value in self.environment.items():
            command += ["--env", f"{name}={value}"]
        return [*command, "--network", "none", "--read-only", "--tmpfs", "/tmp"]

    def run(self, scans: Path, results: Path) -> Measurement:
        """Run a container on a folder.

        Raises
        ------
        UsageError
            If Docker cannot be told of one of the folders.
        """
        for folder in (scans.resolve(), results.resolve()):
            if ":" in str(folder):
                raise UsageError(f"{folder}: Docker takes no folder with a colon in its path")
        command = self._container()
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

    Raises
    ------
    WeightsError
        If the folder does not tell what its networks come from.
    """
    words = (sys.executable, "-m", "app", "predict", "--input", INPUT, "--output", OUTPUT)
    options = ("--memory-limit", memory, "--weights", str(weights))
    told = {phase: _converted_from(weights / phase) for phase in _PHASES}
    return Command("local installation", (*words, *options), weights=told)


def reference(*, weights: Path) -> Command:
    """Give the published pipeline, plainly built; see :mod:`app.benchmark.reference`.

    Raises
    ------
    WeightsError
        If the folder of weights lacks a checkpoint.
    """
    words = (sys.executable, "-m", "app.benchmark.reference", "--input", INPUT)
    options = ("--output", OUTPUT, "--weights", str(weights))
    try:
        # Not the manifest's word for it: the reference loads what lies there.
        loaded = {phase: sha256_of(weights / phase / CHECKPOINT_NAME) for phase in _PHASES}
    except OSError as error:
        raise WeightsError(f"{weights}: no checkpoint for the reference ({error})") from error
    packages = ("torch", "monai", "nibabel")
    return Command("reference", (*words, *options), weights=loaded, packages=packages)


def weights_differ(ours: Checkpoints | None, reference: Checkpoints, name: str) -> str:
    """Say that a system runs other networks than the reference; empty if it runs the same.

    Parameters
    ----------
    ours : Checkpoints or None
        What the system's networks come from; None if it does not tell.
    reference : Checkpoints
        What the reference loads.
    name : str
        The system's.

    Returns
    -------
    str
        A sentence.
    """
    if ours is None:
        return (
            f"{name} does not tell which weights it runs, so it may not run the reference's; "
            "build it anew"
        )
    apart = [
        f"{phase} {ours.get(phase, 'unknown')[:12]}, not {digest[:12]}"
        for phase, digest in reference.items()
        if ours.get(phase) != digest
    ]
    if not apart:
        return ""
    return (
        f"{name} does not run the reference's weights: of checkpoint {'; '.join(apart)}; build it "
        "anew, or give --weights the folder that it was built from"
    )


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
    peaks_mib += [_numbers_in(case).get("peak_mib", 0.0) for case in _cases_in(record)]
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
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and _cases_in(record) else {}


def _cases_in(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the scans that a record tells of; none if it is of another kind."""
    cases = record.get("cases")
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        return []
    return cases


def _numbers_in(told: object) -> dict[str, float]:
    """Give what is a finite number in a JSON object, by name; nothing of what is no object."""
    if not isinstance(told, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in told.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < _ENDLESS  # nor is NaN
    }


def _converted_from(folder: Path) -> str:
    """Give the checksum of the checkpoint that a phase's network was converted from."""
    path = folder / MANIFEST_NAME
    try:
        files = Manifest.from_json(path.read_text(encoding="utf-8")).files
        return files[CHECKPOINT_NAME]
    except (OSError, LookupError, WeightsError) as error:
        raise WeightsError(f"{path}: does not tell its checkpoint ({error})") from error
