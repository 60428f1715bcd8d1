"""Run a network over a volume, patch by patch: how their scores blend, and how they are kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from app.cascade.engine import PatchNetwork
from app.cascade.memory import drop_contents
from app.cascade.placement import place_patches
from app.errors import ScoresError
from app.imaging.geometry import BoolVolume, Box, FloatVolume, IndexZYX
from app.imaging.preprocess import AIR

StepVolume: TypeAlias = npt.NDArray[np.int16]
"""Scores in steps; see :data:`STEPS_PER_LOGIT`."""

_BLENDED_SLICES = 8

STEPS_PER_LOGIT = 256
"""Scores are kept as 16-bit integers, in steps of 1/256 of a logit.

NumPy has vector instructions for these, not for float16, whose steps are coarser from 8 on."""

LARGEST_LOGIT = 100.0
"""Scores beyond are kept as this one: certain, and with room for what is taken off later."""

UNSEEN_MARGIN = 20.0
"""Certainty of background, as a logit, where no patch was run."""


@dataclass(slots=True)
class PatchScores:
    """Scores of a volume, put together from patches.

    Parameters
    ----------
    steps : (C, Z, Y, X) array of int16
        Blended scores, :data:`STEPS_PER_LOGIT` to a logit; certain background where no patch
        was run. Of several channels the best of each voxel and patch counts as 0, for only
        differences tell the class, and small numbers are kept exactly.
    weights : (Z, Y, X) array of float16
        What say all patches run so far have together; 0 where none was.
    num_run : int
        Patches run.
    """

    steps: StepVolume
    weights: npt.NDArray[np.float16]
    num_run: int = 0

    @classmethod
    def blank(cls, num_channels: int, shape: IndexZYX) -> "PatchScores":
        """Give the scores of a volume that no patch was run on.

        A single channel is the score of the foreground; of several the first is that
        of the background.
        """
        # What stays zero takes no memory, so it is the background that is raised.
        steps = np.zeros((num_channels, *shape), np.int16)
        steps[0] = round(UNSEEN_MARGIN * STEPS_PER_LOGIT) * (1 if num_channels > 1 else -1)
        return cls(steps, np.zeros(shape, np.float16))

    @property
    def seen(self) -> BoolVolume:
        """Where a patch was run, (Z, Y, X)."""
        seen: BoolVolume = self.weights > 0
        return seen

    def move_to(self, shape: IndexZYX, place: Box) -> "PatchScores":
        """Give the scores of a larger volume, channel by channel, and forget these.

        Parameters
        ----------
        shape : (z, y, x) ints
            Size of the larger volume.
        place : Box
            Where in it this volume lies.

        Returns
        -------
        PatchScores
            Those of these patches, and certain background around them.
        """
        moved = PatchScores.blank(len(self.steps), shape)
        moved.weights[place.slices] = self.weights
        moved.num_run = self.num_run
        for channel, known in zip(moved.steps, self.steps, strict=True):
            channel[place.slices] = known
            # Two sets of scores at a time would be the most that a scan takes.
            drop_contents(known)
        drop_contents(self.weights)
        return moved


def blending_weights(patch_shape: IndexZYX) -> FloatVolume:
    """Give each voxel of a patch its say where patches overlap.

    It falls linearly from the center to the faces, where a network knows least
    of its surroundings, and is never zero.

    Parameters
    ----------
    patch_shape : (z, y, x) ints
        Size of a patch, in voxels.

    Returns
    -------
    (Z, Y, X) array of float32
        In 0 ... 1.
    """
    z, y, x = (
        np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)) / ((size + 1) / 2)
        for size in patch_shape
    )
    return (z[:, None, None] * y[:, None] * x).astype(np.float32)


def cut_patch(volume: FloatVolume, box: Box) -> FloatVolume:
    """Cut out a patch; what reaches beyond the volume is air.

    Parameters
    ----------
    volume : (Z, Y, X) array of float32
        Network input.
    box : Box
        May reach beyond the volume on any side.

    Returns
    -------
    array of ``box.shape``, float32, C-contiguous
        A copy.
    """
    inside, within = _overlap(box, volume.shape)
    patch = np.full(box.shape, AIR, np.float32)
    patch[within.slices] = volume[inside.slices]
    return patch


def score_volume(
    volume: FloatVolume,
    network: PatchNetwork,
    overlap: float,
    wanted: BoolVolume | None = None,
    *,
    scores: PatchScores | None = None,
    anchor: IndexZYX | None = None,
    on_patch: Callable[[float], None] = lambda _: None,
) -> PatchScores:
    """Slide a network over a volume and blend the scores of its patches.

    Parameters
    ----------
    volume : (Z, Y, X) array of float32
        Network input.
    network : PatchNetwork
        Gives (C, Z, Y, X) scores for a patch.
    overlap : float
        Least share of a patch that neighbors have in common.
    wanted : (Z, Y, X) array of bool, optional
        What patches must cover; all by default.
    scores : PatchScores, optional
        Of patches run before, with which the new ones are blended, in place; none by default.
    anchor : (z, y, x) ints, optional
        As for :func:`place_patches`.
    on_patch : callable
        Told after each patch what share of all patches is behind it.

    Returns
    -------
    PatchScores
        On the volume's grid.

    Raises
    ------
    ScoresError
        If the best score of a voxel is NaN or infinite.
    """
    shape: IndexZYX = volume.shape
    if wanted is None:
        wanted = np.ones(shape, bool)
    if scores is None:
        scores = PatchScores.blank(network.num_channels, shape)
    starts = place_patches(wanted, network.patch_shape, overlap, anchor)
    blending = blending_weights(network.patch_shape)
    for num_done, start in enumerate(starts, start=1):
        box = Box.between(start, np.add(start, network.patch_shape).tolist())
        inside, within = _overlap(box, shape)
        patch = network.run(cut_patch(volume, box))
        _blend(scores, inside, patch[(slice(None), *within.slices)], blending[within.slices])
        on_patch(num_done / len(starts))
    scores.num_run += len(starts)
    return scores


def _blend(scores: PatchScores, where: Box, patch: FloatVolume, blending: FloatVolume) -> None:
    """Give a patch its say among those that were run before, in place.

    The scores kept are the weighted mean of all patches so far, so that no sum in float32
    is held beside them. A few slices at a time stay in the processor's cache.
    """
    kept, weights = scores.steps[(slice(None), *where.slices)], scores.weights[where.slices]
    for start in range(0, where.shape[0], _BLENDED_SLICES):
        some = slice(start, start + _BLENDED_SLICES)
        before, own = weights[some], blending[some]
        share = None
        if before.any():
            total = before + own
            share = own / total
            before[...] = total
        else:
            before[...] = own
        best = _finite_best(patch[:, some])
        for mean, channel in zip(kept[:, some], patch[:, some], strict=True):
            fresh = _in_steps(channel - best)
            if share is not None:
                fresh -= mean
                fresh *= share
                fresh += mean
            mean[...] = np.rint(fresh, out=fresh)


def _finite_best(scores: FloatVolume) -> FloatVolume | Literal[0]:
    """Give the best of several channels, of which only differences count; 0 for a single one."""
    # NaN in any channel is the maximum, so that no other channel need be looked at.
    best: FloatVolume = scores.max(axis=0)
    if not np.isfinite(best).all():
        raise ScoresError(
            "the network gave scores that are no finite numbers; compute in full precision with "
            "--precision f32 or precision='f32', and if that does not help, restore the weights or "
            "take others"
        )
    return best if len(scores) > 1 else 0


def _in_steps(logits: FloatVolume) -> FloatVolume:
    """Scale scores to steps, in place and not rounded yet."""
    np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT, out=logits)
    logits *= STEPS_PER_LOGIT
    return logits


def _overlap(box: Box, shape: tuple[int, ...]) -> tuple[Box, Box]:
    """Clip a box to a volume; also give the clipped box in the box's own voxels."""
    inside = Box.between(np.maximum(0, box.start).tolist(), np.minimum(shape, box.stop).tolist())
    return inside, inside.relative_to(box)
