"""What a training run leaves behind besides its weights: how they came about."""

import json
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from app import __version__
from app.config import PhaseConfig
from app.manifest import TRAINING_NAME

LICENSE = "CC-BY-NC-4.0"
PROVENANCE = (
    "Trained on CT scans synthesized from label maps alone: organ shapes of 250 patients "
    "predicted by the authors of the method for the FLARE 2024 validation and test scans, set "
    "into the tissues of two bodies of the TotalSegmentator dataset (Wasserthal et al. 2023, "
    "CC BY 4.0). No real scan was seen in training. For research; never to be scored on the "
    "FLARE 2024 validation or test sets as if unseen."
)


def commit() -> str:
    """Name the commit that the code was at, or say that it is unknown."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def stages_of(folder: Path) -> list[dict[str, Any]]:
    """Read the stages behind the weights of a folder; none are known without a record."""
    record = folder / TRAINING_NAME
    if not record.exists():
        return []
    return list(json.loads(record.read_text(encoding="utf-8"))["training"].get("stages", []))


def write_record(
    output: Path,
    *,
    phase: PhaseConfig,
    stages: list[dict[str, Any]],
    cases: list[str],
    provenance: str = PROVENANCE,
    terms: str = LICENSE,
) -> None:
    """Write ``training.json`` beside a checkpoint.

    Parameters
    ----------
    output : Path
        Folder of ``checkpoint.safetensors``.
    phase : PhaseConfig
        What was trained.
    stages : list of dict
        How: a :class:`~app.training.config.TrainingConfig` each, in the order they were run.
    cases : list of str
        Names of the cases trained on.
    provenance : str
        Where the training data came from, in a sentence.
    terms : str
        License of the weights.
    """
    record: dict[str, Any] = {
        "config": asdict(phase),
        "license": terms,
        "provenance": provenance,
        "training": {
            "stages": stages,
            "cases": sorted(cases),
            "commit": commit(),
            "versions": {
                "app": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        },
    }
    text = json.dumps(record, indent=2) + "\n"
    (output / TRAINING_NAME).write_text(text, encoding="utf-8")
