"""Where patches lie on a volume, how they blend, and how their scores add up."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.cascade.engine import PatchNetwork
from app.imaging.geometry import Box, FloatVolume, IndexZYX
from app.imaging.preprocess import AIR

UNSEEN_LOGIT = 10.0
"""Certainty of background, as a logit, where no patch was run."""


@dataclass(frozen=True, slots=True)
class PatchScores:
    """Scores of a whole volume, put together from patches.

    Parameters
    ----------
    logits : (C, Z, Y, X) array of float16
        Blended scores; background where no patch was run.
    num_run, num_skipped : int
        Patches run, and patches left out because nothing was wanted there.
    """

    logits: npt.NDArray[np.float16]
    num_run: int
    num_skipped: int


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
    is_wanted: Callable[[Box], bool] = lambda _: True,
    *,
    on_patch: Callable[[float], None] = lambda _: None,
) -> PatchScores:
    """Slide a network over a volume and blend the scores of its patches.

    Scores are summed in float32 over as many slices as one patch is deep, and
    kept as float16 as soon as no further patch touches their slice: ::

        z    0         6         12        18
             [ first row  ]                       slices 0-5 are final,
                       [ second row ]             6-7 wait for the second row
                                 [ last row   ]

    Parameters
    ----------
    volume : (Z, Y, X) array of float32
        Network input.
    network : PatchNetwork
        Gives (C, Z, Y, X) scores for a patch.
    overlap : float
        Least share of a patch that neighbors have in common.
    is_wanted : callable
        Told a patch's box, clipped to the volume, says whether to run it.
    on_patch : callable
        Told after each patch that was run what share of all patches is behind it.

    Returns
    -------
    PatchScores
        On the volume's grid.
    """
    shape: IndexZYX = volume.shape
    depth = min(network.patch_shape[0], shape[0])
    logits = np.empty((network.num_channels, *shape), np.float16)
    sums = np.zeros((network.num_channels, depth, *shape[1:]), np.float32)
    weights = np.zeros((depth, *shape[1:]), np.float32)
    blending = blending_weights(network.patch_shape)
    num_run = num_skipped = 0
    rows = list(_patch_rows(shape, network.patch_shape, overlap))
    num_patches = sum(len(row) for row, _ in rows)
    for row, final_stop in rows:
        first = max(0, row[0].start[0])
        for box in row:
            inside, within = _overlap(box, shape)
            if not is_wanted(inside):
                num_skipped += 1
                continue
            num_run += 1
            scores = network.run(cut_patch(volume, box))
            _, y, x = inside.slices
            weights[:, y, x] += blending[within.slices]
            for total, channel in zip(sums, scores, strict=True):
                total[:, y, x] += blending[within.slices] * channel[within.slices]
            on_patch((num_run + num_skipped) / num_patches)
        num_final = final_stop - first
        _finish(sums[:, :num_final], weights[:num_final], logits[:, first:final_stop])
        _shift(sums, num_final, axis=1)
        _shift(weights, num_final, axis=0)
    return PatchScores(logits, num_run, num_skipped)


def _patch_rows(
    shape: IndexZYX, patch_shape: IndexZYX, overlap: float
) -> Iterator[tuple[list[Box], int]]:
    """Give the patches of one z at a time, and the slice before which scores are then final."""
    starts = [
        patch_starts(size, patch, overlap) for size, patch in zip(shape, patch_shape, strict=True)
    ]
    for z, next_z in itertools.zip_longest(starts[0], starts[0][1:]):
        row = [
            Box(start=(z, y, x), stop=(z + patch_shape[0], y + patch_shape[1], x + patch_shape[2]))
            for y, x in itertools.product(starts[1], starts[2])
        ]
        yield row, shape[0] if next_z is None else next_z


def _finish(sums: FloatVolume, weights: FloatVolume, logits: npt.NDArray[np.float16]) -> None:
    """Turn sums into means; where no patch was run, into certain background."""
    unseen = weights == 0
    weights[unseen] = 1.0
    for channel, (total, out) in enumerate(zip(sums, logits, strict=True)):
        is_background = channel == 0 and len(sums) > 1
        total /= weights
        total[unseen] = UNSEEN_LOGIT if is_background else -UNSEEN_LOGIT
        out[...] = total


def _shift(sums: FloatVolume, num_slices: int, *, axis: int) -> None:
    """Move what is not yet final to the front and clear the rest."""
    slices_first = np.moveaxis(sums, axis, 0)
    num_left = len(slices_first) - num_slices
    for index in range(num_left):
        slices_first[index] = slices_first[index + num_slices]
    slices_first[num_left:] = 0


def _overlap(box: Box, shape: tuple[int, ...]) -> tuple[Box, Box]:
    """Clip a box to a volume; also give the clipped box in the box's own voxels."""
    inside = Box.between(np.maximum(0, box.start).tolist(), np.minimum(shape, box.stop).tolist())
    return inside, inside.relative_to(box)
