"""Compare what an IR computes with what its checkpoint computes.

Done on patches of a phantom scan, not on noise: only there do the logits
have the margins they have in use.
"""

import copy
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
ROUNDING_FACTOR = 2.0
"""The IR may be off by this times what the checkpoint itself is off by in float32, if that is more:
with logits of up to 113 its own rounding reached 3.3e-3 in one voxel of a patch."""

LEAST_EQUAL_ARGMAX = 0.9999
SEEDS = (11, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far IR and checkpoint agree.

    Parameters
    ----------
    largest_difference : float
        Between any logit of the IR and the checkpoint's in float64.
    largest_rounding : float
        Between any logit of the checkpoint in float32 and in float64.
    equal_argmax : float
        Share of voxels, 0 to 1, to which both give the same class.
    num_patches : int
        Patches compared.
    """

    largest_difference: float
    largest_rounding: float
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
        If logits differ from exact ones by more than 1e-3 and by more than twice what
        float32 costs the checkpoint itself, or less than 99.99 % of voxels agree.
    """
    engine = CpuNetwork(model_path, precision="f32")
    exact_network = copy.deepcopy(network).double()
    differences, roundings, equal = [], [], []
    patches = phantom_patches(config)
    for patch in patches:
        image = torch.from_numpy(patch)[None, None]
        with torch.no_grad():
            exact = _comparable(exact_network(image.double())[0].numpy())
            expected = _comparable(network(image)[0].numpy())
        scores = engine.run(patch)
        differences.append(float(np.abs(scores - exact).max()))
        roundings.append(float(np.abs(expected - exact).max()))
        equal.append(float(np.mean(_classes(scores) == _classes(exact))))
    parity = Parity(
        largest_difference=max(differences),
        largest_rounding=max(roundings),
        equal_argmax=min(equal),
        num_patches=len(patches),
    )
    allowed = max(LARGEST_DIFFERENCE, ROUNDING_FACTOR * parity.largest_rounding)
    if parity.largest_difference > allowed or parity.equal_argmax < LEAST_EQUAL_ARGMAX:
        raise ParityError(
            f"{model_path}: logits differ by {parity.largest_difference:.2e} (at most "
            f"{allowed:.1e} allowed) and {parity.equal_argmax:.4%} of voxels agree "
            f"(at least {LEAST_EQUAL_ARGMAX:.2%} needed); nothing was published"
        )
    return parity
