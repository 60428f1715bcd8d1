"""After looking: the box holds the organs that were found, not all that was looked at."""

from dataclasses import replace

import numpy as np

from app.cascade.locate import MARGIN_MM, Abdomen
from app.cascade.segment import ClassScores, Region
from app.imaging.components import find_specks
from app.imaging.crop import bounding_box, box_on_grid
from app.imaging.geometry import BoolVolume, Box, Geometry


def tighten(first: Abdomen, grown: Abdomen, scores: ClassScores) -> ClassScores:
    """Give back the room beyond phase one's box in which no organ was found.

    How far an organ goes on there is known only after looking; most end soon.

    Parameters
    ----------
    first : Abdomen
        What phase one found; its box stays whole.
    grown : Abdomen
        With the box that was looked at in the end.
    scores : ClassScores
        Of the grown abdomen.

    Returns
    -------
    ClassScores
        The same with a box that ends where phase one's does, or as far beyond organs found
        as phase one's would; nowhere beyond that of ``grown``.
    """
    region, grid = scores.region, grown.geometry
    box, organs = first.box, _organs_in(scores)
    if organs.any():
        found = _box_around(organs, region)
        room = box_on_grid(
            found, region.grid_shape, region.spacing_mm, grid.shape, grid.spacing_mm, MARGIN_MM
        )
        box = box.union(
            Box.between(
                np.maximum(room.start, grown.box.start).tolist(),
                np.minimum(room.stop, grown.box.stop).tolist(),
            )
        )
    located = box_on_grid(box, grid.shape, grid.spacing_mm, region.grid_shape, region.spacing_mm)
    return _located_in(located, scores, grid)


def close_in(scores: ClassScores, geometry: Geometry) -> ClassScores:
    """Give back the room in which there is no organ in the end, phase one's box included.

    Phase one sees coarsely, and takes bowel for organs now and then; where phase two looked
    at what it took and found none, nothing is left to be labeled.

    Parameters
    ----------
    scores : ClassScores
        With labels that stand: pieces that are not believed were taken back.
    geometry : Geometry
        The scan's grid.

    Returns
    -------
    ClassScores
        The same with a box that ends :data:`~app.cascade.locate.MARGIN_MM` beyond the organs, or
        where it did; as it was if there are none.
    """
    region = scores.region
    organs = scores.labels[region.inside.slices] > 0
    if not organs.any():
        return scores
    return _located_in(_box_around(organs, region, max(MARGIN_MM)), scores, geometry)


def _box_around(organs: BoolVolume, region: Region, margin_mm: float = 0.0) -> Box:
    """Find the box of phase two's grid around organs, given in the located part, and within it."""
    inside, start = bounding_box(organs, region.spacing_mm, margin_mm), region.located.start
    return Box.between(np.add(inside.start, start).tolist(), np.add(inside.stop, start).tolist())


def _located_in(located: Box, scores: ClassScores, geometry: Geometry) -> ClassScores:
    """Give the scores with another located box, on phase two's grid, and what it covers."""
    region = scores.region
    box = box_on_grid(
        located, region.grid_shape, region.spacing_mm, geometry.shape, geometry.spacing_mm
    )
    return replace(scores, region=replace(region, located=located, box=box))


def _organs_in(scores: ClassScores) -> BoolVolume:
    """Mark the organs in the located part, without pieces that will be taken back."""
    region = scores.region
    specks, _ = find_specks(scores.labels, region.spacing_mm, region.scan)
    organs: BoolVolume = ((scores.labels > 0) & ~specks)[region.inside.slices]
    return organs
