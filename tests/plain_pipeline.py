"""From a scan to its labels the plain way, slow and simple: what the fast way is held to.

What is decided is asked of the system: where the abdomen is, where to look, and where a second
time, which pieces are too small to believe. Where patches lie is found anew, and what is computed
is computed anew, without anything that makes it fast: dense matrices in place of sparse ones, the
trained networks unfolded and as PyTorch runs them, sums of all patches in float32 in place of a
running mean in rounded steps, the scores of every class interpolated to the whole box in place of
slabs around where a class is best.
"""

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from app.cascade.locate import (
    COMPANION_GAP_MM,
    COMPANION_MM3,
    LEAST_ABDOMEN_MM3,
    MARGIN_MM,
    Abdomen,
    coarse_places,
)
from app.cascade.patches import UNSEEN_MARGIN, PatchScores
from app.cascade.regrow import find_cuts, grow
from app.cascade.segment import RULED_OUT, ClassScores, reach_down, reach_out, region_of
from app.cascade.tighten import tighten
from app.export.to_ir import open_checkpoint
from app.imaging.components import find_specks, main_region
from app.imaging.crop import bounding_box, box_on_grid
from app.imaging.geometry import Geometry

AIR = -2.0


def plain_labels(scan_path, weights):
    """Label a scan: (Z, Y, X) uint8 in LPS, with the checkpoints of a weights folder."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(scan_path)), "LPS")
    hu = sitk.GetArrayFromImage(image)
    geometry = Geometry(shape=hu.shape, spacing_mm=image.GetSpacing()[::-1])
    locator, segmenter = (open_checkpoint(weights / name) for name in ("locate", "segment"))
    abdomen = _locate(hu, geometry, locator)
    labels = np.zeros(hu.shape, np.uint8)
    if abdomen is None:
        return labels
    scores = _segment(hu, geometry, abdomen, segmenter)
    _take_back_specks(scores)
    labels[scores.region.box.slices] = _restore(scores, geometry)
    return labels


@dataclass
class Sums:
    """Weighted sums of the patches of a whole grid."""

    grid: np.ndarray
    logits: np.ndarray
    weights: np.ndarray

    def run(self, network, config, starts):
        """Run patches that begin at voxels of the grid, and add what they give."""
        distances = [np.minimum(np.arange(n), np.arange(n)[::-1]) + 1 for n in config.patch_shape]
        z, y, x = (d / ((n + 1) / 2) for d, n in zip(distances, config.patch_shape, strict=True))
        blending = (z[:, None, None] * y[:, None] * x).astype(np.float32)
        # Wide enough for patches that reach beyond a small scan.
        beyond = max(config.patch_shape)
        padded = np.pad(self.grid, beyond, constant_values=AIR)
        for start in starts:
            corners = [
                range(first, first + n) for first, n in zip(start, blending.shape, strict=True)
            ]
            patch = padded[np.ix_(*(np.array(corner) + beyond for corner in corners))]
            with torch.inference_mode():
                found = network(torch.from_numpy(patch)[None, None])[0].numpy()
            if len(found) == 2:  # of organs and background only the difference counts
                found = found[1:] - found[:1]
            held = [
                [at for at in corner if 0 <= at < n]
                for corner, n in zip(corners, self.grid.shape, strict=True)
            ]
            within = [np.array(at) - corner.start for at, corner in zip(held, corners, strict=True)]
            self.logits[(slice(None), *np.ix_(*held))] += (found * blending)[
                (slice(None), *np.ix_(*within))
            ]
            self.weights[np.ix_(*held)] += blending[np.ix_(*within)]


def _sums(hu, geometry, config, num_channels):
    grid_mm = np.multiply(hu.shape, geometry.spacing_mm)
    shape = [
        math.ceil(round(mm / step, 6)) for mm, step in zip(grid_mm, config.spacing_mm, strict=True)
    ]
    low, high = config.window_hu
    grid = hu.astype(np.float32)
    for axis in range(3):
        grid = _along(
            _weights(
                shape[axis], config.spacing_mm[axis], hu.shape[axis], geometry.spacing_mm[axis]
            ),
            grid,
            axis,
        )
    grid = (np.clip(grid, low, high) - low) / (high - low) * 4 - 2
    return Sums(grid, np.zeros((num_channels, *shape), np.float32), np.zeros(shape, np.float32))


def _weights(num_out, step_out, num_in, step_in):
    """Interpolate linearly, wide enough that nothing is skipped, along one axis of two grids
    that share their center: (num_out, num_in)."""
    width = max(1.0, step_out / step_in)
    matrix = np.zeros((num_out, num_in), np.float32)
    for row in range(num_out):
        at = (row - (num_out - 1) / 2) * step_out / step_in + (num_in - 1) / 2
        at = min(max(at, 0.0), num_in - 1.0)
        for tap in range(math.floor(at - width), math.ceil(at + width) + 1):
            weight = max(0.0, 1 - abs(tap - at) / width)
            matrix[row, min(max(tap, 0), num_in - 1)] += weight  # the last value goes on
    return matrix / matrix.sum(axis=1, keepdims=True)


def _along(matrix, volume, axis):
    return np.moveaxis(np.tensordot(matrix, volume, (1, axis)), 0, axis)


def _locate(hu, geometry, checkpoint):
    config = checkpoint.config
    sums = _sums(hu, geometry, config, 1)
    everywhere = np.ones(sums.grid.shape, bool)
    sums.run(
        checkpoint.network,
        config,
        _place_patches(everywhere, config),
    )
    organs = main_region(
        sums.logits[0] > 0,
        config.spacing_mm,
        least_mm3=LEAST_ABDOMEN_MM3,
        companion_mm3=COMPANION_MM3,
        gap_mm=COMPANION_GAP_MM,
    )
    if not organs.any():
        return None
    box = box_on_grid(
        bounding_box(organs, config.spacing_mm),
        organs.shape,
        config.spacing_mm,
        geometry.shape,
        geometry.spacing_mm,
        MARGIN_MM,
    )
    return Abdomen(box=box, geometry=geometry, foreground=organs, spacing_mm=config.spacing_mm)


def _segment(hu, geometry, abdomen, checkpoint):
    """Look where phase one saw organs, then beyond where that cuts one."""
    config = checkpoint.config
    sums = _sums(hu, geometry, config, len(config.class_names))
    found, region = abdomen, region_of(abdomen, config)
    abdomen = reach_out(found, region, config)
    if lower := reach_down(found, abdomen, region, config):
        abdomen, region = lower
    scores = _look(sums, abdomen, region, checkpoint)
    if cuts := find_cuts(scores):
        abdomen = grow(abdomen, scores, cuts)
        region = region_of(abdomen, config, seen=region)
        scores = _look(sums, abdomen, region, checkpoint)
    if abdomen.box != found.box:
        scores = tighten(found, abdomen, scores)
    region = scores.region
    beyond = np.ones(region.window.shape, bool)
    beyond[region.inside.slices] = False
    scores.steps[1:, beyond] = scores.steps[0, beyond] - RULED_OUT
    return scores


def _look(sums, abdomen, region, checkpoint):
    """Run the patches of what was not seen yet; give the means of all so far in the window."""
    config, window = checkpoint.config, region.window
    places = coarse_places(abdomen, region.grid_shape, region.spacing_mm, region.located)
    wanted = np.zeros(window.shape, bool)
    wanted[region.inside.slices] = abdomen.foreground[np.ix_(*places)]
    wanted &= sums.weights[window.slices] == 0
    # Those of a second look lie on coarse steps of the grid.
    anchor = window.start if sums.weights.any() else None
    starts = _place_patches(wanted, config, anchor)
    sums.run(checkpoint.network, config, [np.add(start, window.start).tolist() for start in starts])
    weights = sums.weights[window.slices]
    seen = weights > 0
    logits = np.zeros((len(sums.logits), *window.shape), np.float32)
    logits[0] = UNSEEN_MARGIN
    logits[:, seen] = sums.logits[(slice(None), *window.slices)][:, seen] / weights[seen]
    labels = logits.argmax(axis=0).astype(np.uint8)
    return ClassScores(region=region, patches=PatchScores(logits, weights), labels=labels)


def _place_patches(wanted, config, anchor=None):
    """Give the first voxels of few patches: rows, and in each lines or columns.

    With an anchor, that is the voxels of the grid before what is wanted, the coarsest of three
    steps that takes the fewest.
    """
    choices = []
    for step in (1,) if anchor is None else (16, 8, 1):

        def starts_along(axis, part, step=step):
            return _starts(part, axis, config, step, 0 if anchor is None else anchor[axis])

        deep, high, wide = config.patch_shape
        placed = []
        for z in starts_along(0, wanted):
            row = wanted[max(z, 0) : z + deep]
            lines = [
                (z, y, x)
                for y in starts_along(1, row)
                for x in starts_along(2, row[:, max(y, 0) : y + high])
            ]
            columns = [
                (z, y, x)
                for x in starts_along(2, row)
                for y in starts_along(1, row[:, :, max(x, 0) : x + wide])
            ]
            placed += columns if len(columns) < len(lines) else lines
        choices.append(placed)
    return min(choices, key=len)


def _starts(wanted, axis, config, step, before):
    """Spread patches along an axis from the first wanted voxel to the last."""
    size, patch, marked = wanted.shape[axis], config.patch_shape[axis], np.nonzero(wanted)[axis]
    if not len(marked):
        return []
    if size <= patch:
        return [-((patch - size) // 2)]
    low = math.floor((marked.min() + before) / step) * step - before
    length = math.ceil((marked.max() + 1 + before) / step) * step - before - low
    stride = math.floor(round(patch * (1 - config.overlap), 6))
    gaps = max(0, math.ceil((length - patch) / stride))
    if gaps == 0:
        starts = [low - (patch - length) // 2]
    else:
        starts = [low + round(number * (length - patch) / gaps) for number in range(gaps + 1)]
    return [min(max(0, start), size - patch) for start in starts]


def _take_back_specks(scores):
    """Let the next best class have the pieces that are too small to believe."""
    while True:
        labels = scores.steps.argmax(axis=0).astype(np.uint8)
        specks, _ = find_specks(labels, scores.region.spacing_mm, scores.region.scan)
        if not specks.any():
            return
        least = scores.steps[:, specks].min(axis=0) - 1
        scores.steps[(labels[specks], *np.nonzero(specks))] = least


def _restore(scores, geometry):
    """Interpolate all scores to the scan's voxels in the box; the best class wins."""
    region = scores.region
    matrices = [
        _weights(num, step, num_grid, step_grid)[rows, columns]
        for num, step, num_grid, step_grid, rows, columns in zip(
            geometry.shape,
            geometry.spacing_mm,
            region.grid_shape,
            region.spacing_mm,
            region.box.slices,
            region.window.slices,
            strict=True,
        )
    ]
    labels = np.zeros(region.box.shape, np.uint8)
    best = np.full(region.box.shape, -np.inf, np.float32)
    for value, channel in enumerate(scores.steps):
        for axis, matrix in enumerate(matrices):
            channel = _along(matrix, channel, axis)
        labels[channel > best] = value
        best = np.maximum(best, channel)
    return labels
