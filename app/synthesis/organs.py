"""The organs of a patient laid on the grid of a body: smoothed, and continued where cut."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import FloatVolume, IndexZYX, LabelVolume, SpacingZYX
from app.synthesis.tissues import Tissue
from app.synthesis.whole_body import SPACING_MM

_RUN_UPWARDS = (Tissue.AORTA, Tissue.ESOPHAGUS)
"""Organs that leave the abdomen upwards: one that ends bluntly was cut, wherever it ends."""

_BLUNT = 0.4
"""Share of the usual cross-section from which an end is blunt and no tip."""

_MARGIN = 6
"""Voxels around an organ that its blur may reach."""

_THIN = (Tissue.RIGHT_ADRENAL, Tissue.LEFT_ADRENAL)
"""Glands of 2 or 3 voxels' thickness, which bear less smoothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FineGrid:
    """The fine grid: where its first voxel lies on the organs' side, and its size."""

    start_mm: SpacingZYX
    shape: IndexZYX
    spacing_mm: SpacingZYX


def _source_positions(grid: FineGrid) -> list[npt.NDArray[np.floating]]:
    """Give each fine voxel's place in the given organ map, in its voxels."""
    return [
        (first + np.arange(size) * step) / old
        for first, size, step, old in zip(
            grid.start_mm, grid.shape, grid.spacing_mm, SPACING_MM, strict=True
        )
    ]


def slice_thickness(organs: LabelVolume) -> float:
    """Tell how many slices of an organ map repeat one slice of the scan it came from.

    Returns
    -------
    float
        1 for a scan at least as fine as the map; 3.3 for 5 mm slices at 1.5 mm.
    """
    occupied: npt.NDArray[np.bool_] = np.any(organs, axis=(1, 2))
    pairs = occupied[1:] & occupied[:-1]
    differs = np.any(np.not_equal(organs[1:], organs[:-1]), axis=(1, 2))
    num_pairs, num_changes = int(pairs.sum()), int((pairs & differs).sum())
    return max(1.0, num_pairs / max(1, num_changes))


def smooth_organs(organs: LabelVolume, grid: FineGrid) -> LabelVolume:
    """Take the steps of thick slices out of an organ map and lay it on the fine grid.

    Each organ is blurred, more along z where the scan's slices were thick, and cut
    at the level that keeps its volume; where two organs claim a voxel, the clearer
    claim wins.

    Parameters
    ----------
    organs : (Z, Y, X) array of uint8
        At 1.5 mm.
    grid : FineGrid
        Where to.

    Returns
    -------
    array of uint8 of the grid's shape
        Values 0 to 13.
    """
    thickness = slice_thickness(organs)
    result = np.zeros(grid.shape, np.uint8)
    claim = np.zeros(grid.shape, np.float32)
    places = _source_positions(grid)
    for organ, region in enumerate(ndimage.find_objects(organs, max_label=13), start=1):
        if region is None:
            continue
        low, block = _claim_of(organs, organ, region, thickness)
        window, sampled = sample(block, low, places)
        better = sampled > claim[window]
        result[window][better] = organ
        claim[window][better] = sampled[better]
    _clear_outside(result, organs.shape[0], places[0])
    return result


def _claim_of(
    organs: LabelVolume, organ: int, region: tuple[slice, ...], thickness: float
) -> tuple[list[int], FloatVolume]:
    """Blur one organ around its region; what is above 0 is the organ.

    Returns
    -------
    low : list of 3 ints
        First voxel of the block; may lie outside the organ map.
    block : (Z, Y, X) array of float32
        The region and a margin.
    """
    mask = np.pad((organs[region] == organ).astype(np.float32), _MARGIN)
    # A cut organ goes on beyond the cut.
    if region[0].start == 0:
        mask[:_MARGIN] = mask[_MARGIN]
    if region[0].stop == organs.shape[0]:
        mask[-_MARGIN:] = mask[-_MARGIN - 1]
    in_plane = 0.6 if organ in _THIN else 0.9
    blurred = ndimage.gaussian_filter(mask, (max(0.6, 0.55 * thickness), in_plane, in_plane))
    inner = slice(_MARGIN, -_MARGIN)
    level = _level_of_volume(blurred[inner], int(mask[inner].sum()))
    return [part.start - _MARGIN for part in region], blurred - level


def _clear_outside(result: LabelVolume, num_slices: int, heights: npt.NDArray[np.floating]) -> None:
    """Leave nothing in slices beyond the given organ map."""
    result[(heights < -0.5) | (heights > num_slices - 0.5)] = 0


def _level_of_volume(blurred: FloatVolume, num_voxels: int) -> float:
    """Find the level above which a blurred mask has as many voxels as the mask had."""
    values = blurred[blurred > 0.05]
    if num_voxels >= values.size:
        return 0.05
    return float(np.partition(values, values.size - num_voxels)[values.size - num_voxels]) - 1e-6


def sample(
    block: FloatVolume, low: list[int], places: list[npt.NDArray[np.floating]]
) -> tuple[tuple[slice, ...], FloatVolume]:
    """Interpolate a block linearly at the fine voxels that fall inside it."""
    window = []
    for axis, (first, place) in enumerate(zip(low, places, strict=True)):
        local = place - first
        inside = np.flatnonzero((local >= 0) & (local <= block.shape[axis] - 1))
        window.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
        local = local[window[-1]]
        below = np.minimum(local.astype(np.int64), block.shape[axis] - 2)
        part = (local - below).astype(np.float32)
        if np.any(np.abs(part - np.rint(part)) > 1e-4):
            part = part.reshape([-1 if axis == i else 1 for i in range(3)])
            block = (
                np.take(block, below, axis) * (1 - part) + np.take(block, below + 1, axis) * part
            )
        else:
            block = np.take(block, np.rint(local).astype(np.int64), axis)
    return tuple(window), block


def continue_cut_organs(
    pasted: LabelVolume, tissues: LabelVolume, organs: LabelVolume, grid: FineGrid
) -> None:
    """Let an organ that the given map cuts off go on with the template's, in place."""
    heights = _source_positions(grid)[0]
    for organ in range(1, 14):
        areas = np.count_nonzero(organs == organ, axis=(1, 2))
        occupied = np.flatnonzero(areas)
        if not len(occupied):
            continue
        bottom, top = int(occupied[0]), int(occupied[-1])
        cut_above = top >= organs.shape[0] - 2 or (
            organ in _RUN_UPWARDS and areas[top] > _BLUNT * np.median(areas[occupied])
        )
        for cut, beyond in (
            (bottom <= 1, heights < bottom - 0.5),
            (cut_above, heights > top + 0.5),
        ):
            if cut and beyond.any():
                part = pasted[beyond]
                part[(tissues[beyond] == organ) & (part == 0)] = organ
                pasted[beyond] = part
