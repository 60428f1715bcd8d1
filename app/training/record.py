"""What a training run leaves behind besides its weights: how they came about."""

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from app import __version__
from app.config import PhaseConfig
from app.errors import UsageError
from app.imaging.io import atomic_path
from app.manifest import TRAINING_NAME, sha256_of
from app.training.config import TrainingConfig

LICENSE = "CC-BY-NC-4.0"
_NONE_REAL = "No real scan was seen in training."
PROVENANCE = (
    "Trained on CT scans synthesized from label maps alone: organ shapes of 250 patients "
    "predicted by the authors of the method for the FLARE 2024 validation and test scans, set "
    "into the tissues of two bodies of the TotalSegmentator dataset (Wasserthal et al. 2023, "
    f"CC BY 4.0). {_NONE_REAL} For research; never to be scored on the "
    "FLARE 2024 validation or test sets as if unseen."
)


UNKNOWN = "unknown"

_Record = dict[str, Any]


def mixed_provenance(num_scans: int) -> str:
    """Say where training data came from if real scans were among the synthetic ones."""
    return PROVENANCE.replace(
        _NONE_REAL,
        f"Besides, {num_scans} real scans of a user's own were seen; see the list of cases.",
    )


def commit() -> str:
    """Name the commit that the code was at, or say that it is unknown."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN


def write_record(
    output: Path,
    *,
    phase: PhaseConfig,
    config: TrainingConfig,
    cases: list[str],
    provenance: str = PROVENANCE,
    terms: str = LICENSE,
    start_from: Path | None = None,
    resumed_at: int | None = None,
    hold_out: bool | None = None,
) -> None:
    """Write ``training.json`` beside a checkpoint, as a run starts.

    A run that goes on keeps the record of its first start, and adds to it where it goes
    on with another commit or other settings. Stages, cases, license and provenance of the
    weights that it began with stay theirs.

    Parameters
    ----------
    output : Path
        Folder of ``checkpoint.safetensors``.
    phase : PhaseConfig
        What is trained.
    config : TrainingConfig
        How, in this stage.
    cases : list of str
        Names of the cases trained on.
    provenance : str
        Where the training data came from, in a sentence.
    terms : str
        License of the weights.
    start_from : Path, optional
        Weights that the stage began with; their record lies beside them.
    resumed_at : int, optional
        Step at which a run that was killed goes on.
    hold_out : bool, optional
        Whether patients of a bank are held out, for :func:`check_begun`.
    """
    path = output / TRAINING_NAME
    if resumed_at is not None and path.exists():
        record = _read(path)
        record["training"]["cases"] = sorted({*record["training"]["cases"], *cases})
    else:
        record = _begin(phase, config, cases, provenance, terms, start_from)
        if hold_out is not None:
            record["training"]["hold_out"] = hold_out
        if resumed_at is not None:
            record["training"]["commit"] = UNKNOWN
    if resumed_at is not None:
        begun = record["training"]["stages"][-1]
        add_resume(record["training"], begun, config, resumed_at)
    write_json(record, path)


def check_begun(output: Path, phase: PhaseConfig, *, hold_out: bool) -> None:
    """Refuse to go on with a run on a bank otherwise than it was begun.

    Parameters
    ----------
    output : Path
        Folder of the run. Without a record there is nothing to hold against.
    phase : PhaseConfig
        What is to be trained.
    hold_out : bool
        Whether patients are to be held out; not checked in a record that does not say.

    Raises
    ------
    UsageError
        If the grid or the network is another, or patients that were held out would be
        trained on.
    """
    path = output / TRAINING_NAME
    if not path.exists():
        return
    record = _read(path)
    if record["config"] != json.loads(json.dumps(asdict(phase))):
        raise UsageError(f"{path}: begun with another grid or network; choose another --output")
    if record["training"].get("hold_out", hold_out) and not hold_out:
        raise UsageError(
            f"{path}: begun with --hold-out; give it again, or choose another --output to train on "
            "all patients"
        )


def add_resume(
    record: _Record, begun: Mapping[str, Any], config: TrainingConfig, step: int
) -> None:
    """Add to a record that a run goes on, if it does so with another commit or other settings.

    Parameters
    ----------
    record : dict
        With the ``commit`` of the start; ``resumed`` is added to.
    begun : mapping
        Settings of the start.
    config : TrainingConfig
        Settings now.
    step : int
        Where the run goes on. One that is at its end changes nothing.
    """
    if step >= config.steps:
        return
    earlier = record.get("resumed", [])
    known = dict(begun)
    for entry in earlier:
        known |= entry["settings"]
    settings: _Record = json.loads(json.dumps(asdict(config)))
    changed = {name: value for name, value in settings.items() if known.get(name) != value}
    last = [record["commit"], *(entry["commit"] for entry in earlier)][-1]
    now = commit()
    if changed or now != last:
        record["resumed"] = [*earlier, {"step": step, "commit": now, "settings": changed}]


def note_weights(path: Path) -> None:
    """Write the SHA-256 of weights into the record beside them, which ``export`` holds them to.

    Does nothing without a record.
    """
    beside = path.with_name(TRAINING_NAME)
    if not beside.exists():
        return
    record = _read(beside)
    record["files"] = record.get("files", {}) | {path.name: sha256_of(path)}
    write_json(record, beside)


def write_json(record: Mapping[str, Any], path: Path) -> None:
    """Write a record, whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _read(path: Path) -> _Record:
    record: _Record = json.loads(path.read_text(encoding="utf-8"))
    return record


def _begin(
    phase: PhaseConfig,
    config: TrainingConfig,
    cases: list[str],
    provenance: str,
    terms: str,
    start_from: Path | None,
) -> _Record:
    """Make the record of a new stage, which goes on from that of the weights it begins with."""
    stages: list[_Record] = []
    if start_from is not None:
        earlier = start_from.parent / TRAINING_NAME
        before = _read(earlier) if earlier.exists() else {}
        training = before.get("training", {})
        stages = training.get("stages", [])
        cases = [*training.get("cases", []), *cases]
        # The record goes where the weights go, where nobody needs to know this machine.
        missing = f"Unknown: {Path(*start_from.parts[-2:])} came without a record."
        provenance = _joined(before.get("provenance", missing), provenance, " In a later stage: ")
        terms = _joined(before.get("license", missing), terms, "; ")
    settings: _Record = json.loads(json.dumps(asdict(config)))
    return {
        "config": asdict(phase),
        "license": terms,
        "provenance": provenance,
        "training": {
            "stages": [*stages, settings],
            "cases": sorted(set(cases)),
            "commit": commit(),
            "versions": {
                "app": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        },
    }


def _joined(earlier: str, new: str, link: str) -> str:
    """Say what holds for the earlier weights, then what came to it."""
    if new in earlier:
        return earlier
    return f"{earlier}{link}{new.removeprefix(earlier + link)}"
