"""Where patches lie on a volume, how they blend, and how their scores add up."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from app.cascade.engine import PatchNetwork
from app.cascade.memory import drop_contents
from app.imaging.geometry import BoolVolume, Box, FloatVolume, IndexZYX
from app.imaging.preprocess import AIR

_Marks: TypeAlias = npt.NDArray[np.bool_]

StepVolume: TypeAlias = npt.NDArray[np.int16]
"""Scores in steps; see :data:`STEPS_PER_LOGIT`."""

_BLENDED_SLICES = 8

COARSE_STEPS = (16, 8, 1)
"""From and to what multiples of voxels a second look's patches reach; see ``place_patches``."""

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
        return moved


def patch_starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """Place the fewest patches that cover an axis, evenly spread.

    ::

        size 20, patch 8, overlap at least 2

        |0 1 2 3 4 5 6 7 8 9 ...            19|
        [--------------]                        start 0
                    [--------------]            start 6
                                [-----------]   start 12

        size 5, patch 8: the patch reaches 1 voxel into the air before the
        volume and 2 voxels into the air behind it

             |0 1 2 3 4|
          [--------------]                      start -1

    Parameters
    ----------
    size : int
        Length of the axis, in voxels.
    patch : int
        Length of a patch, in voxels.
    overlap : float
        Least share of a patch that neighbors have in common.

    Returns
    -------
    tuple of int
        First voxel of each patch, rising; one negative start for a short axis.
    """
    spare = size - patch
    if spare <= 0:
        return (-(-spare // 2),)
    stride = max(1, math.floor(round(patch * (1 - overlap), 6)))
    num_steps = math.ceil(spare / stride)
    return tuple(round(step * spare / num_steps) for step in range(num_steps + 1))


def place_patches(
    wanted: BoolVolume,
    patch_shape: IndexZYX,
    overlap: float,
    anchor: IndexZYX | None = None,
) -> list[IndexZYX]:
    """Place few patches that together cover what is wanted.

    All of a row share their slices. A row covers what is wanted in its slices, a line
    within it what is wanted in that line, so that patches follow the shape rather than
    fill its box: ::

         +-------+                two patches instead of four,
         | o o   |                lines first
         |   o o |
         +-------+
               +-------+
               | o o o |
               +-------+

    Parameters
    ----------
    wanted : (Z, Y, X) array of bool
        What must be covered.
    patch_shape : (z, y, x) ints
        Size of a patch, in voxels.
    overlap : float
        Least share of a patch that neighbors along an axis have in common.
    anchor : (z, y, x) ints, optional
        How many voxels of the scan's grid lie before the volume. If it is given, what is
        wanted counts from and to a multiple of 16 voxels of that grid, or of 8 if that takes
        fewer patches, or of 1: a voxel of it more or less, which may be a matter of rounding,
        then moves no patch in most cases, and takes none more.

    Returns
    -------
    list of (z, y, x) ints
        First voxels of the patches, row by row; empty if nothing is wanted. A patch
        reaches beyond the volume only where the volume is smaller than a patch.
    """
    steps = (1,) if anchor is None else COARSE_STEPS
    axes = list(zip(patch_shape, anchor or (0, 0, 0), strict=True))
    choices = [
        _place(wanted, [_Axis(patch, overlap, step, before) for patch, before in axes])
        for step in steps
    ]
    # The first, that is coarsest, wins a tie.
    return min(choices, key=len)


@dataclass(frozen=True, slots=True)
class _Axis:
    """How patches lie along an axis: from and to multiples of a step, counted from an anchor."""

    patch: int
    overlap: float
    step: int
    before: int

    def starts_over(self, wanted: _Marks) -> list[int]:
        """Place patches from the first wanted voxel to the last."""
        places = np.flatnonzero(wanted)
        if not places.size:
            return []
        if wanted.size <= self.patch:
            return list(patch_starts(wanted.size, self.patch, self.overlap))
        first, stop = int(places[0]), int(places[-1]) + 1
        first -= (self.before + first) % self.step
        stop += -(self.before + stop) % self.step
        # Real surroundings are better for a network than the air beyond the volume.
        return [
            min(max(0, first + start), wanted.size - self.patch)
            for start in patch_starts(stop - first, self.patch, self.overlap)
        ]


def _place(wanted: BoolVolume, axes: Sequence[_Axis]) -> list[IndexZYX]:
    along_z, *plane = axes
    starts: list[IndexZYX] = []
    for z in along_z.starts_over(_along(wanted, (1, 2))):
        in_row = _along(wanted[max(0, z) : z + along_z.patch], 0)
        by_lines = _place_in_plane(in_row, plane)
        by_columns = [(y, x) for x, y in _place_in_plane(in_row.T, plane[::-1])]
        fewer = min(by_lines, by_columns, key=len)
        starts += [(z, y, x) for y, x in fewer]
    return starts


def _place_in_plane(wanted: _Marks, axes: Sequence[_Axis]) -> list[tuple[int, int]]:
    along_y, along_x = axes
    starts = []
    for y in along_y.starts_over(_along(wanted, 1)):
        in_line = _along(wanted[max(0, y) : y + along_y.patch], 0)
        starts += [(y, x) for x in along_x.starts_over(in_line)]
    return starts


def _along(wanted: _Marks, axes: int | tuple[int, int]) -> _Marks:
    """Tell where anything is wanted along the given axes."""
    return np.asarray(wanted.any(axis=axes))


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
        best = patch[:, some].max(axis=0) if len(patch) > 1 else 0
        for mean, channel in zip(kept[:, some], patch[:, some], strict=True):
            fresh = _in_steps(channel - best)
            if share is not None:
                fresh -= mean
                fresh *= share
                fresh += mean
            mean[...] = np.rint(fresh, out=fresh)


def _in_steps(logits: FloatVolume) -> FloatVolume:
    """Scale scores to steps, in place and not rounded yet."""
    np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT, out=logits)
    logits *= STEPS_PER_LOGIT
    return logits


def _overlap(box: Box, shape: tuple[int, ...]) -> tuple[Box, Box]:
    """Clip a box to a volume; also give the clipped box in the box's own voxels."""
    inside = Box.between(np.maximum(0, box.start).tolist(), np.minimum(shape, box.stop).tolist())
    return inside, inside.relative_to(box)
