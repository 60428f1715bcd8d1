"""A second look where phase one's box cuts an organ."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from app.cascade.locate import Abdomen
from app.cascade.restore import best_class
from app.cascade.segment import ClassScores
from app.imaging.crop import box_on_grid
from app.imaging.geometry import Box
from app.labels import CLASS_NAMES, ORGANS

GROWTH_MM = 40.0
"""How far a face that cuts an organ is moved out."""

LEAST_CUT_MM2 = 50.0
"""Smaller contacts with a face are noise."""

_LAYERS = 2
_TUBES = {"aorta", "inferior_vena_cava", "esophagus"}
_SOLID = [organ.value for organ in ORGANS if organ.name not in _TUBES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A face of the box, inside the scan, that an organ reaches.

    Parameters
    ----------
    axis : int
        0, 1 or 2 for z, y or x.
    at_stop : bool
        Whether it is the face at the box's stop rather than at its start.
    organ : str
        The organ with the largest contact.
    """

    axis: int
    at_stop: bool
    organ: str


def find_cuts(scores: ClassScores, abdomen: Abdomen) -> list[Cut]:
    """Find the faces of the box that cut an organ.

    The box has a margin, so an organ at its face is one that phase one saw only
    in part. Vessels and esophagus leave the abdomen by nature and do not count,
    nor do faces where the scan itself ends.

    Parameters
    ----------
    scores : ClassScores
        Of the box.
    abdomen : Abdomen
        What phase one found.

    Returns
    -------
    list of Cut
        Empty if all organs are whole.
    """
    return [
        Cut(axis=axis, at_stop=at_stop, organ=organ)
        for axis, at_stop in _inner_faces(abdomen)
        if (organ := _organ_at(scores, axis, at_stop)) is not None
    ]


def grow(abdomen: Abdomen, cuts: list[Cut]) -> Abdomen:
    """Move the faces that cut an organ outwards, as far as the scan reaches.

    Parameters
    ----------
    abdomen : Abdomen
        What phase one found.
    cuts : list of Cut
        From :func:`find_cuts`.

    Returns
    -------
    Abdomen
        Its box is larger, and the room gained counts as foreground, so that
        phase two looks there.
    """
    start, stop = list(abdomen.box.start), list(abdomen.box.stop)
    for cut in cuts:
        voxels = math.ceil(GROWTH_MM / abdomen.geometry.spacing_mm[cut.axis])
        if cut.at_stop:
            most = abdomen.geometry.shape[cut.axis]
            stop[cut.axis] = min(most, stop[cut.axis] + voxels)
        else:
            start[cut.axis] = max(0, start[cut.axis] - voxels)
    box = Box.between(start, stop)
    foreground = abdomen.foreground.copy()
    for cut in cuts:
        gained = box_on_grid(
            _gained(box, abdomen.box, cut),
            abdomen.geometry.shape,
            abdomen.geometry.spacing_mm,
            foreground.shape,
            abdomen.spacing_mm,
        )
        foreground[gained.slices] = True
    return replace(abdomen, box=box, foreground=foreground)


def _inner_faces(abdomen: Abdomen) -> Iterator[tuple[int, bool]]:
    for axis in range(3):
        if abdomen.box.start[axis] > 0:
            yield axis, False
        if abdomen.box.stop[axis] < abdomen.geometry.shape[axis]:
            yield axis, True


def _organ_at(scores: ClassScores, axis: int, at_stop: bool) -> str | None:
    """Name the organ that a face cuts, if it cuts any."""
    first, stop = scores.inside.start[axis], scores.inside.stop[axis]
    where = [slice(None), *scores.inside.slices]
    where[axis + 1] = slice(stop - _LAYERS, stop) if at_stop else slice(first, first + _LAYERS)
    labels = best_class(scores.logits[tuple(where)]).max(axis=axis)
    counts = np.bincount(labels.ravel(), minlength=len(CLASS_NAMES))
    voxel_mm2 = math.prod(scores.spacing_mm) / scores.spacing_mm[axis]
    largest = max(_SOLID, key=lambda value: int(counts[value]))
    return CLASS_NAMES[largest] if counts[largest] * voxel_mm2 >= LEAST_CUT_MM2 else None


def _gained(box: Box, old: Box, cut: Cut) -> Box:
    """Give the part of a grown box that lies beyond one of its old faces."""
    start, stop = list(box.start), list(box.stop)
    if cut.at_stop:
        start[cut.axis] = old.stop[cut.axis]
    else:
        stop[cut.axis] = old.start[cut.axis]
    return Box.between(start, stop)
