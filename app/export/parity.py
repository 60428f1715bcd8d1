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
        Between any logit of the IR and the checkpoint's: in float32 or, where that is more than
        1e-3, in float64.
    largest_rounding : float or None
        Between any logit of the checkpoint in float32 and in float64; None where the first of
        these was near enough.
    equal_argmax : float
        Share of voxels, 0 to 1, to which both give the same class.
    num_patches : int
        Patches compared.
    """

    largest_difference: float
    largest_rounding: float | None
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


def _scores(network: nn.Module, patch: FloatVolume) -> FloatVolume:
    with torch.no_grad():
        logits: FloatVolume = network(torch.from_numpy(patch)[None, None])[0].numpy()
    with np.errstate(invalid="ignore"):  # that two are infinite is found out later
        return _comparable(logits)


def _largest_difference(some: list[FloatVolume], others: list[FloatVolume]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(some, others, strict=True))


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
        If logits are not finite, or differ from the checkpoint's by more than 1e-3, and from exact
        ones by more than twice what float32 costs the checkpoint itself, or less than 99.99 % of
        voxels agree.
    """
    engine = CpuNetwork(model_path, precision="f32")
    patches = phantom_patches(config)
    found = [engine.run(patch).copy() for patch in patches]
    expected = [_scores(network, patch) for patch in patches]
    # What is no number differs from nothing by more than is allowed, and has the same class.
    if not all(np.isfinite(scores).all() for scores in (*expected, *found)):
        raise ParityError(
            f"{model_path}: the checkpoint gives scores that are not finite, or the network made "
            "of it does; nothing was published; export an earlier checkpoint of the training"
        )
    difference, rounding = _largest_difference(found, expected), None
    if difference > LARGEST_DIFFERENCE:
        # The checkpoint itself may be off by as much. PyTorch takes 9 GB for phase one in float64,
        # which a machine that builds the image need not have.
        exact_network = copy.deepcopy(network).double()
        exact = [_scores(exact_network, patch.astype(np.float64)) for patch in patches]
        rounding = _largest_difference(expected, exact)
        difference, expected = _largest_difference(found, exact), exact
    equal = [
        float(np.mean(_classes(scores) == _classes(others)))
        for scores, others in zip(found, expected, strict=True)
    ]
    parity = Parity(
        largest_difference=difference,
        largest_rounding=rounding,
        equal_argmax=min(equal),
        num_patches=len(patches),
    )
    allowed = max(LARGEST_DIFFERENCE, ROUNDING_FACTOR * (rounding or 0.0))
    if parity.largest_difference > allowed or parity.equal_argmax < LEAST_EQUAL_ARGMAX:
        raise ParityError(
            f"{model_path}: logits differ by {parity.largest_difference:.2e} (at most "
            f"{allowed:.1e} allowed) and {parity.equal_argmax:.4%} of voxels agree "
            f"(at least {LEAST_EQUAL_ARGMAX:.2%} needed); nothing was published"
        )
    return parity
