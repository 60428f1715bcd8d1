"""Slices in which an organ is missing although it lies above and below."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import LabelVolume, SpacingZYX

WIDEST_GAP_MM = 12.0
"""Wider gaps are left to the prediction: shapes change too much over them."""


def fill_gaps(labels: LabelVolume, spacing_mm: SpacingZYX) -> LabelVolume:
    """Fill missing slices by the shape between their neighbors.

    Between the last slice before a gap and the first one behind it, the distance to
    the organ's outline is interpolated linearly; where it is inside, the organ is.
    Only background is filled; where two organs claim a voxel, the deeper one wins.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        Label map.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    (Z, Y, X) array of uint8
        A new label map.
    """
    filled = labels.copy()
    claims = defaultdict(list)
    for value, before, behind in _gaps(labels, spacing_mm[0]):
        near = _depth(labels[before] == value, spacing_mm)
        far = _depth(labels[behind] == value, spacing_mm)
        for z in range(before + 1, behind):
            share = (z - before) / (behind - before)
            claims[z].append((value, (1 - share) * near + share * far))
    for z, depths in claims.items():
        deepest = np.zeros(labels.shape[1:], np.float32)
        for value, depth in depths:
            wins = (depth > deepest) & (labels[z] == 0)
            filled[z][wins] = value
            deepest[wins] = depth[wins]
    return filled


def _gaps(labels: LabelVolume, step_mm: float) -> Iterator[tuple[int, int, int]]:
    """Find, for each organ, the slices before and behind each gap that is narrow enough."""
    for value, where in enumerate(ndimage.find_objects(labels), start=1):
        if where is None:
            continue
        first = where[0].start
        slices = first + np.flatnonzero((labels[where] == value).any(axis=(1, 2)))
        for before, behind in zip(slices[:-1].tolist(), slices[1:].tolist(), strict=True):
            if 1 < behind - before and (behind - before - 1) * step_mm <= WIDEST_GAP_MM:
                yield value, before, behind


def _depth(mask: npt.NDArray[np.bool_], spacing_mm: SpacingZYX) -> npt.NDArray[np.float32]:
    """Give the distance to the outline in mm: above 0 inside, below 0 outside."""
    in_plane = spacing_mm[1:]
    inside = ndimage.distance_transform_edt(mask, in_plane)
    outside = ndimage.distance_transform_edt(~mask, in_plane)
    depth: npt.NDArray[np.float32] = (inside - outside).astype(np.float32)
    return depth
