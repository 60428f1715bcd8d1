"""What travels with a network: its configuration, checksums, history and license.

Each ``weights/<phase>/`` holds a ``manifest.json`` beside its files. The export
writes it, the runtime refuses weights that do not agree with it. A checksum of the
configuration stands in it too: intensities or spacing that were changed by hand, or
by a bad disk, would spoil every result in silence.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from app.config import PhaseConfig
from app.errors import UsageError, WeightsError

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1
"""Raised when a field changes its meaning; manifests of another version are refused."""

MODEL_NAME = "model.xml"
MODEL_WEIGHTS_NAME = "model.bin"
CHECKPOINT_NAME = "checkpoint.safetensors"

TRAINING_NAME = "training.json"
"""Beside each checkpoint: config, license, provenance, training record and checksums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The record kept beside one network.

    Parameters
    ----------
    config : PhaseConfig
        What the network was trained with, and so what it must be run with.
    files : mapping of str to str
        SHA-256 (hexadecimal) of each file in the folder, by file name.
    parameters : int
        Number of trained parameters, before any folding.
    gmacs_per_patch : float
        Multiply-adds for one patch of the unfolded network, in 1e9.
    license : str
        License of the weights.
    provenance : str
        Where the training data came from, in a sentence.
    training : mapping
        The training record: steps, seed, data, scores; anything JSON can hold.
    conversion : mapping
        What the conversion measured: versions, differences; anything JSON can hold.
    """

    config: PhaseConfig
    files: Mapping[str, str]
    parameters: int
    gmacs_per_patch: float
    license: str
    provenance: str
    training: Mapping[str, Any] = field(default_factory=dict)
    conversion: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> dict[int, str]:
        """Meaning of each value the network can give."""
        return dict(enumerate(self.config.class_names))

    def to_json(self) -> str:
        """Write the manifest as JSON, two spaces deep, ending in a line break."""
        fields = asdict(self)
        record = {
            "manifest_version": MANIFEST_VERSION,
            "labels": self.labels,
            "config_sha256": _config_sha256(fields["config"]),
            **fields,
        }
        return json.dumps(record, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read a manifest.

        Raises
        ------
        WeightsError
            If the text is not JSON, of another version, lacks or adds a field, or
            holds a configuration that was changed. A manifest from before the
            configuration had a checksum is read without one.
        """
        try:
            record = json.loads(text)
        except ValueError as error:
            raise WeightsError(f"the manifest is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise WeightsError("the manifest must be a JSON object")
        version = record.pop("manifest_version", None)
        if version != MANIFEST_VERSION:
            raise WeightsError(
                f"manifest version {version} found, {MANIFEST_VERSION} expected; export again"
            )
        labels = record.pop("labels", None)
        expected = record.pop("config_sha256", None)
        found = _config_sha256(record.get("config"))
        try:
            record["config"] = config_from_json(record["config"])
            manifest = cls(**record)
        except (LookupError, ArithmeticError, TypeError, AttributeError, UsageError) as error:
            raise WeightsError(f"the manifest does not describe a network: {error}") from error
        if not isinstance(manifest.files, Mapping):
            raise WeightsError("the manifest must give the checksum of each file by its name")
        if expected not in (None, found):
            raise WeightsError(
                f"SHA-256 of config {found} found, {str(expected)[:64]!a} expected; it was "
                "changed, restore the manifest or export again"
            )
        if labels != {str(value): name for value, name in manifest.labels.items()}:
            raise WeightsError(f"labels {labels} differ from class names {manifest.labels}")
        return manifest


def _config_sha256(config: object) -> str:
    """Give the SHA-256 of a configuration, whatever the order and spacing of its JSON."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Give the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Give the SHA-256 of each named file of a folder, ready for ``Manifest.files``."""
    return {name: sha256_of(folder / name) for name in names}


def check_recorded(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse weights that the training record beside them does not speak of.

    Parameters
    ----------
    path : Path
        A file of weights. Its name does not matter: the best weights of a run are used
        under another than they were written under.
    record : mapping
        ``training.json``, whose ``files`` give the SHA-256 of what the run has written, by
        name. One from before that was written down is no help, and refuses nothing.

    Raises
    ------
    WeightsError
        If none of them is the file's.
    OSError
        If the file cannot be read.
    """
    if "files" not in record:
        return
    found, files = sha256_of(path), record["files"]
    if not isinstance(files, Mapping) or found not in files.values():
        raise WeightsError(
            f"{path}: SHA-256 {found} found, which {TRAINING_NAME} does not name; restore the file "
            "or give the `train` command that made it once more; if it was changed on purpose, "
            f'write that SHA-256 under "files" in {TRAINING_NAME}'
        )


def config_from_json(record: Mapping[str, Any]) -> PhaseConfig:
    """Make a configuration from its JSON object.

    JSON knows no tuples; every list in a :class:`PhaseConfig` was one.
    """
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
    }
    return PhaseConfig(**fields)
