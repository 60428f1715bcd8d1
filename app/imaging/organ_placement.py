"""Where each organ of a label map lies, how large it is, whether it is whole."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from app.imaging.components import components_of
from app.imaging.geometry import BoolVolume, LabelVolume, SpacingZYX
from app.labels import CLASS_NAMES

MEASURING_STEP_MM = 3.0
"""Step of the grid that organs are measured on: 2 MiB for a whole abdomen."""

LEAST_CONTACT_MM2 = 50.0
"""Smaller contacts with a face of the volume are noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganPlacement:
    """What one organ of a label map looks like.

    Parameters
    ----------
    volume_ml : float
        Its size.
    center_mm : (z, y, x) floats
        Its center of mass, from the center of the first voxel.
    extent_mm : (z, y, x) floats
        How far it reaches: the standard deviation of its places along each axis.
    cut : (z, y, x) bools
        Whether the volume's faces cut it, along each axis.
    largest_share : float
        Share of its volume that its largest piece holds, above 0 to 1.
    """

    volume_ml: float
    center_mm: tuple[float, float, float]
    extent_mm: tuple[float, float, float]
    cut: tuple[bool, bool, bool]
    largest_share: float


def thin(labels: LabelVolume, spacing_mm: SpacingZYX) -> tuple[LabelVolume, SpacingZYX]:
    """Leave voxels out until the grid is as coarse as organs can be measured on.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        A label map of any size.
    spacing_mm : (z, y, x) floats
        Its spacing, in mm.

    Returns
    -------
    (Z', Y', X') array of uint8
        A view; the first voxel is the same.
    (z, y, x) floats
        Its spacing, in mm: at most :data:`MEASURING_STEP_MM`, or as it was.
    """
    every = [max(1, math.floor(MEASURING_STEP_MM / step + 1e-6)) for step in spacing_mm]
    z, y, x = (step * times for step, times in zip(spacing_mm, every, strict=True))
    return labels[:: every[0], :: every[1], :: every[2]], (z, y, x)


def measure_placement(labels: LabelVolume, spacing_mm: SpacingZYX) -> dict[str, OrganPlacement]:
    """Measure every organ that a label map shows.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        In canonical orientation, on a coarse grid; see :func:`thin`.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    dict of str to OrganPlacement
        By organ name; absent organs are left out.
    """
    measures: dict[str, OrganPlacement] = {}
    for value, where in enumerate(ndimage.find_objects(labels), start=1):
        if where is None:
            continue
        mask = labels[where] == value
        start = [axis.start for axis in where]
        at_end = [
            (axis.start == 0, axis.stop == size)
            for axis, size in zip(where, labels.shape, strict=True)
        ]
        _, pieces = components_of(mask, spacing_mm)
        volume_mm3 = sum(piece.volume_mm3 for piece in pieces)
        z, y, x = (
            (first + center) * step
            for first, center, step in zip(
                start, ndimage.center_of_mass(mask), spacing_mm, strict=True
            )
        )
        measures[CLASS_NAMES[value]] = OrganPlacement(
            volume_ml=volume_mm3 / 1000,
            center_mm=(z, y, x),
            extent_mm=_extent(mask, spacing_mm),
            cut=_cut(mask, at_end, spacing_mm),
            largest_share=pieces[0].volume_mm3 / volume_mm3,
        )
    return measures


def _extent(mask: BoolVolume, spacing_mm: SpacingZYX) -> tuple[float, float, float]:
    """Give the standard deviation of a mask's places along each axis, in mm.

    A voxel is no point: it adds the variance of what it spans, so that one slice has an extent.
    """
    found = []
    for axis, step in enumerate(spacing_mm):
        counts = mask.sum(axis=tuple({0, 1, 2} - {axis}))
        places = np.arange(len(counts))
        mean = np.average(places, weights=counts)
        variance = float(np.average((places - mean) ** 2, weights=counts)) + 1 / 12
        found.append(step * math.sqrt(variance))
    return (found[0], found[1], found[2])


def _cut(
    mask: BoolVolume, at_end: list[tuple[bool, bool]], spacing_mm: SpacingZYX
) -> tuple[bool, bool, bool]:
    """Tell along which axes an organ has an area of contact with the volume's faces."""
    found = []
    for axis, (at_first, at_last) in enumerate(at_end):
        face_mm2 = math.prod(spacing_mm) / spacing_mm[axis]
        planes = [0] * at_first + [-1] * at_last
        contact = max((int(mask.take(plane, axis).sum()) for plane in planes), default=0)
        found.append(bool(contact * face_mm2 >= LEAST_CONTACT_MM2))
    return (found[0], found[1], found[2])
