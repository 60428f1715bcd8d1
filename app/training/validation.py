"""How good the averaged weights are on cases that are not trained on."""

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import nn
from torch.utils.data import Dataset

from app.config import PhaseConfig
from app.evaluation.metrics import dice
from app.imaging.geometry import LabelVolume
from app.imaging.io import atomic_path
from app.imaging.preprocess import AIR
from app.training.board import Board, draw_comparison
from app.training.checkpoint import save_weights
from app.training.machine import computes_in_bfloat16

logger = logging.getLogger(__name__)

VALIDATION_NAME = "validation.csv"
BEST_NAME = "best.safetensors"


class Validator:
    """Scores a network by sliding window, remembers the curve, keeps the best weights.

    Dice is the evaluation's own, on the phase's grid and inside the box that a
    perfect phase one would have given.

    Parameters
    ----------
    examples : Dataset
        What is held out, as :func:`app.data.dataset.held_out_dataset` gives it.
    phase : PhaseConfig
        Patch size and overlap.
    output : Path
        Folder for ``validation.csv`` and ``best.safetensors``.
    device : torch.device
        Where the network is.
    mixed_precision : bool
        Whether to compute in bfloat16 where training with it does.
    board : Board
        Shown scores and a picture of the first example.
    """

    def __init__(
        self,
        examples: Dataset[Any],
        phase: PhaseConfig,
        output: Path,
        *,
        device: torch.device,
        mixed_precision: bool,
        board: Board,
    ) -> None:
        self.examples = examples
        self.phase = phase
        self.output = output
        self.device = device
        self.in_bfloat16 = mixed_precision and computes_in_bfloat16(device)
        self.board = board

    def __call__(self, network: nn.Module, step: int) -> None:
        """Score a network; keep its weights if none were better."""
        scores: list[dict[str, float]] = []
        for index in range(len(self.examples)):  # type: ignore[arg-type]
            example = self.examples[index]
            found = self.predict(network, example["image"])
            scores.append(score_example(example, found, self.phase))
            if index == 0:
                wanted = self._classes(example["label"])
                picture = draw_comparison(
                    np.asarray(example["image"][0], np.float32), wanted, found, self.phase
                )
                self.board.picture(step, "held_out", picture)
        means = mean_scores(scores, self.phase)
        mean = float(np.nanmean(list(means.values()))) if scores else float("nan")
        logger.info("step %d  mean Dice %.4f over %d cases", step, mean, len(scores))
        if mean > self.best():
            # Before the row: a run killed in between validates this step again.
            save_weights(self.output / BEST_NAME, network)
        self._write_row(step, mean, means)
        self.board.scalars(step, {"dice/mean": mean} | {f"dice/{k}": v for k, v in means.items()})

    def forget_after(self, step: int) -> None:
        """Take away the rows of later steps: of a run that is begun anew in the same folder."""
        rows = self._rows()
        kept = [row for row in rows if int(row["step"]) <= step]
        if kept != rows:
            self._write_rows(kept)

    def best(self) -> float:
        """Give the best mean Dice so far, of this run and of those it goes on from."""
        means = [float(row["mean"]) for row in self._rows()]
        return max((mean for mean in means if not np.isnan(mean)), default=-1.0)

    def has_scored(self, step: int) -> bool:
        """Tell whether the weights of a step were scored before."""
        return any(int(row["step"]) == step for row in self._rows())

    @torch.no_grad()
    def predict(self, network: nn.Module, image: torch.Tensor) -> LabelVolume:
        """Segment one network input (1, Z, Y, X); gives (Z, Y, X)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bfloat16):
            logits = sliding_window_inference(
                image[None].float(),
                self.phase.patch_shape,
                sw_batch_size=1,
                predictor=network,
                overlap=self.phase.overlap,
                mode="gaussian",
                cval=AIR,
                sw_device=self.device,
                device="cpu",
            )
        found: LabelVolume = logits[0].argmax(dim=0).to(torch.uint8).numpy()
        return found

    def _classes(self, label: torch.Tensor) -> LabelVolume:
        return classes_of(np.asarray(label[0], np.uint8), self.phase)

    def _rows(self) -> list[dict[str, str]]:
        path = self.output / VALIDATION_NAME
        if not path.exists():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _write_row(self, step: int, mean: float, means: Mapping[str, float]) -> None:
        scores = {"mean": mean, **means}
        row = {"step": str(step)} | {name: f"{value:.5f}" for name, value in scores.items()}
        self._write_rows([*self._rows(), row])

    def _write_rows(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Write the table anew: a row or a header cut short would end all later validations."""
        with (
            atomic_path(self.output / VALIDATION_NAME) as partial,
            partial.open("w", newline="") as file,
        ):
            table = csv.DictWriter(file, ["step", "mean", *self.phase.class_names[1:]])
            table.writeheader()
            table.writerows(rows)


def classes_of(organs: LabelVolume, phase: PhaseConfig) -> LabelVolume:
    """Give the classes of a phase for organ values: phase one knows one, "any organ"."""
    return np.minimum(organs, len(phase.class_names) - 1).astype(np.uint8)


def score_example(
    example: Mapping[str, Any], found: LabelVolume, phase: PhaseConfig
) -> dict[str, float]:
    """Give the Dice of each class that the label map of an example speaks of.

    Where it does not speak of all, what the network found of the others counts as
    background.

    Parameters
    ----------
    example : mapping
        ``label``, (1, Z, Y, X) of organ values, and ``labeled``, (14,) of bool.
    found : (Z, Y, X) array of uint8
        Classes that the network gave.
    phase : PhaseConfig
        Names the classes.

    Returns
    -------
    dict of str to float
        NaN for an organ that is in neither.
    """
    wanted = classes_of(np.asarray(example["label"][0], np.uint8), phase)
    return {
        name: dice(wanted == value, found == value)
        for value, name in enumerate(phase.class_names)
        if value > 0 and bool(example["labeled"][value])
    }


def mean_scores(scores: list[dict[str, float]], phase: PhaseConfig) -> dict[str, float]:
    """Average each class over the cases that have it; NaN where none has."""
    means = {}
    for name in phase.class_names[1:]:
        measured = [one[name] for one in scores if not np.isnan(one.get(name, np.nan))]
        means[name] = float(np.mean(measured)) if measured else float("nan")
    return means
