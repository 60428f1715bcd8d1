"""Compare what an IR computes with what its checkpoint computes.

Done on patches of a phantom scan, not on noise: only there do the logits
have the margins they have in use.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from app.cascade.engine import CpuNetwork
from app.config import PhaseConfig
from app.errors import ParityError
from app.imaging.geometry import FloatVolume
from app.imaging.intensity import normalize
from app.synthesis.phantom import make_phantom

LARGEST_DIFFERENCE = 1e-3
LEAST_EQUAL_ARGMAX = 0.9999
SEEDS = (11, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far IR and checkpoint agree.

    Parameters
    ----------
    largest_difference : float
        Between any two logits.
    equal_argmax : float
        Share of voxels, 0 to 1, to which both give the same class.
    num_patches : int
        Patches compared.
    """

    largest_difference: float
    equal_argmax: float
    num_patches: int


def phantom_patches(config: PhaseConfig) -> list[FloatVolume]:
    """Make network inputs (Z, Y, X) from the middle of phantom scans."""
    return [
        normalize(
            make_phantom(shape=config.patch_shape, spacing_mm=config.spacing_mm, seed=seed)[0],
            config.window_hu,
        )
        for seed in SEEDS
    ]


def _comparable(logits: FloatVolume) -> FloatVolume:
    """Reduce two classes to their difference, which is all that the locator's IR gives."""
    return logits[1:] - logits[:1] if len(logits) == 2 else logits


def _classes(logits: FloatVolume) -> npt.NDArray[np.intp]:
    classes: npt.NDArray[np.intp] = logits[0] > 0 if len(logits) == 1 else logits.argmax(axis=0)
    return classes


def check_parity(network: nn.Module, model_path: Path, config: PhaseConfig) -> Parity:
    """Run the same patches through a checkpoint and its IR.

    Parameters
    ----------
    network : nn.Module
        The trained network, unfolded, in evaluation mode.
    model_path : Path
        The IR, run in float32.
    config : PhaseConfig
        Patch size and intensity window.

    Returns
    -------
    Parity

    Raises
    ------
    ParityError
        If logits differ by more than 1e-3 or less than 99.99 % of voxels agree.
    """
    engine = CpuNetwork(model_path, precision="f32")
    differences, equal = [], []
    patches = phantom_patches(config)
    for patch in patches:
        with torch.no_grad():
            expected = _comparable(network(torch.from_numpy(patch)[None, None])[0].numpy())
        scores = engine.run(patch)
        differences.append(float(np.abs(scores - expected).max()))
        equal.append(float(np.mean(_classes(scores) == _classes(expected))))
    parity = Parity(
        largest_difference=max(differences), equal_argmax=min(equal), num_patches=len(patches)
    )
    if parity.largest_difference > LARGEST_DIFFERENCE or parity.equal_argmax < LEAST_EQUAL_ARGMAX:
        raise ParityError(
            f"{model_path}: logits differ by {parity.largest_difference:.2e} (at most "
            f"{LARGEST_DIFFERENCE:.0e} allowed) and {parity.equal_argmax:.4%} of voxels agree "
            f"(at least {LEAST_EQUAL_ARGMAX:.2%} needed); nothing was published"
        )
    return parity
