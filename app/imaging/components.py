"""Masks: the main component, its neighbors, specks removed, all in mm³; masks spread by mm.

Labeling takes several bytes a voxel, so it is done on coarse grids only, never
on the grid of a full scan.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import BoolVolume, Box, LabelVolume, SpacingZYX

_BY_FACE = ndimage.generate_binary_structure(3, 1)
_BY_CORNER = ndimage.generate_binary_structure(3, 3)
"""Which voxels hang together: those that share a face, or but an edge or a corner."""

HOLLOW_SHARE = 0.15
SOLID_SHARE = 0.5
"""A further piece of an organ counts from this share of its largest piece on.

Vessels and bowel are often found in pieces, each of them true: of these 0.3 already takes true
ones. Solid organs and the gallbladder are one piece in a body, and a second one is bowel or fluid
beside it. On 20 held-out scans and a real one 0.5 lowers no DSC (weights/MODEL_CARD.md)."""

NECK_SHARE = 0.3
"""The same for the pancreas, whose head and tail hang together by a neck that is easily missed:
of a real scan a tail of a third of the head is true, of a held-out one bowel of a quarter false."""

HOLLOW_GAP_MM = 5.0
"""A piece of vessel or bowel torn off by a voxel of phase two's grid is believed, however small a
share it is: whether it hangs on the rest by that voxel may be a matter of rounding. Solid organs
lose by it: of a left adrenal gland DSC fell from 0.68 to 0.58 (docs/PERFORMANCE.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceRule:
    """Which pieces of an organ are believed.

    Parameters
    ----------
    main_mm3 : float
        The largest piece counts from this size on; below it the organ is absent.
    piece_mm3 : float
        Further pieces count from this size on, and from ...
    share : float
        ... this share of the largest, or ...
    gap_mm : float
        ... as close to what is believed, between voxel centers; 0 if being close is no reason.
    """

    main_mm3: float
    piece_mm3: float
    share: float
    gap_mm: float = 0.0


def _solid(main_mm3: float, piece_mm3: float) -> PieceRule:
    return PieceRule(main_mm3=main_mm3, piece_mm3=piece_mm3, share=SOLID_SHARE)


def _hollow(main_mm3: float, piece_mm3: float) -> PieceRule:
    return PieceRule(
        main_mm3=main_mm3, piece_mm3=piece_mm3, share=HOLLOW_SHARE, gap_mm=HOLLOW_GAP_MM
    )


PIECE_RULES: Mapping[int, PieceRule] = {
    1: _solid(5000, 3000),
    2: _solid(2000, 3000),
    3: _solid(2000, 3000),
    4: PieceRule(main_mm3=1000, piece_mm3=500, share=NECK_SHARE),
    5: _hollow(500, 500),
    6: _hollow(500, 500),
    7: _solid(500, 150),
    8: _solid(500, 150),
    9: _solid(500, 1000),
    10: _hollow(500, 500),
    11: _hollow(2000, 3000),
    12: _hollow(1000, 500),
    13: _solid(2000, 3000),
}
"""By label value; an organ that the scan's edge cuts off may be small. Adrenals below 0.5 ml are
specks: of 250 anatomies three at most show one so small, and the next ones have 1.3 ml."""


@dataclass(frozen=True, slots=True)
class Component:
    """One connected piece of a mask.

    Parameters
    ----------
    label : int
        Its value in the labeled array.
    volume_mm3 : float
        Its size.
    box : Box
        The smallest box around it.
    """

    label: int
    volume_mm3: float
    box: Box


def components_of(
    mask: BoolVolume,
    spacing_mm: SpacingZYX,
    structure: npt.NDArray[np.bool_] = _BY_CORNER,
) -> tuple[npt.NDArray[np.int32], list[Component]]:
    """Label the connected pieces of a mask, largest first.

    Parameters
    ----------
    mask : (Z, Y, X) array of bool
        On a coarse grid; may be empty.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    structure : (3, 3, 3) array of bool
        Which neighbors hang together with the middle voxel; all 26 by default.

    Returns
    -------
    (Z, Y, X) array of int32
        0 outside, else the component's label.
    list of Component
        By falling size; empty for an empty mask.
    """
    labeled, _ = ndimage.label(mask, structure, output=np.int32)
    voxel_mm3 = float(np.prod(spacing_mm))
    sizes = np.bincount(labeled.ravel())
    found = [
        Component(
            label,
            float(sizes[label]) * voxel_mm3,
            Box.between([axis.start for axis in where], [axis.stop for axis in where]),
        )
        for label, where in enumerate(ndimage.find_objects(labeled), start=1)
    ]
    found.sort(key=lambda component: component.volume_mm3, reverse=True)
    return labeled, found


def main_region(
    mask: BoolVolume,
    spacing_mm: SpacingZYX,
    *,
    least_mm3: float,
    companion_mm3: float,
    gap_mm: float,
) -> BoolVolume:
    """Keep the main component and the large ones close to it along z.

    One far false component must not stretch the result to the whole scan; but
    where the mask is torn, its parts belong together. So further components are
    taken in while their gap along z to what has been kept stays small. In-plane
    the body itself is the bound: a spleen torn from the liver is never lost.

    Parameters
    ----------
    mask : (Z, Y, X) array of bool
        May be empty.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    least_mm3 : float
        A main component smaller than this is taken for noise.
    companion_mm3 : float
        Least size of a component that is taken in.
    gap_mm : float
        Widest gap along z between a component and what has been kept, in mm.

    Returns
    -------
    (Z, Y, X) array of bool
        Empty if nothing large enough was found.
    """
    labeled, found = components_of(mask, spacing_mm)
    if not found or found[0].volume_mm3 < least_mm3:
        return np.zeros_like(mask)
    kept, waiting = [found[0]], [c for c in found[1:] if c.volume_mm3 >= companion_mm3]
    while joining := [
        candidate
        for candidate in waiting
        if any(_gap_along_z(candidate.box, one.box) * spacing_mm[0] <= gap_mm for one in kept)
    ]:
        kept += joining
        waiting = [candidate for candidate in waiting if candidate not in joining]
    return np.isin(labeled, [component.label for component in kept])


def find_specks(
    labels: LabelVolume,
    spacing_mm: SpacingZYX,
    scan: Box,
    rules: Mapping[int, PieceRule] = PIECE_RULES,
) -> tuple[BoolVolume, dict[int, float]]:
    """Find the voxels of a label map that belong to pieces too small to believe.

    Pieces hang together by faces: what only touches an organ's corner is more often bowel
    beside it than a part of it. Of vessels and bowel, those that are no specks count across
    a small gap, too.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        Label map on a coarse grid.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    scan : Box
        All that was scanned, in voxels of the label map; it may reach beyond that.
    rules : mapping of int to PieceRule
        By label value; labels without a rule are left alone.

    Returns
    -------
    specks : (Z, Y, X) array of bool
        True where the label should not stand.
    doubtful_mm3 : dict of int to float
        Size of the largest of these pieces, by label value, where it is no small part of
        the organ: at least :data:`HOLLOW_SHARE` of its largest piece, if that is believed.
    """
    specks = np.zeros(labels.shape, bool)
    doubtful_mm3 = {}
    for value, where in enumerate(ndimage.find_objects(labels), start=1):
        if where is None or value not in rules:
            continue
        rule = rules[value]
        labeled, (main, *further) = components_of(labels[where] == value, spacing_mm, _BY_FACE)
        lenient_mm3 = max(rule.piece_mm3, HOLLOW_SHARE * main.volume_mm3)
        strict_mm3 = max(rule.piece_mm3, rule.share * main.volume_mm3)
        small = []
        for piece in further:
            # What the scan cuts off may hang together with the rest beyond its edge.
            is_cut = _reaches_edge(piece.box, where, scan)
            if piece.volume_mm3 < (lenient_mm3 if is_cut else strict_mm3):
                small.append(piece)
        if rule.gap_mm > 0:
            small = _too_far(labeled, small, spacing_mm, rule)
        if small and small[0].volume_mm3 >= lenient_mm3:
            doubtful_mm3[value] = small[0].volume_mm3
        if main.volume_mm3 < rule.main_mm3:
            small.append(main)
        if small:
            specks[where] |= np.isin(labeled, [piece.label for piece in small])
    return specks, doubtful_mm3


def _too_far(
    labeled: npt.NDArray[np.int32],
    small: list[Component],
    spacing_mm: SpacingZYX,
    rule: PieceRule,
) -> list[Component]:
    """Leave out pieces of some size that lie next to others that are believed."""
    large = [piece for piece in small if piece.volume_mm3 >= rule.piece_mm3]
    if not large:
        return small
    believed = (labeled > 0) & ~np.isin(labeled, [piece.label for piece in small])
    near = ndimage.binary_dilation(believed, ball(rule.gap_mm, spacing_mm))
    joined = np.unique(labeled[near])
    return [piece for piece in small if piece not in large or piece.label not in joined]


def ball(radius_mm: float, spacing_mm: SpacingZYX) -> BoolVolume:
    """Mark the voxels whose centers lie within a distance of the middle one's.

    Returns
    -------
    (Z, Y, X) array of bool
        Odd sizes, as small as the ball allows: the middle voxel alone where no other is as near.
    """
    along_mm = [
        np.arange(-math.floor(radius_mm / step_mm), math.floor(radius_mm / step_mm) + 1) * step_mm
        for step_mm in spacing_mm
    ]
    z, y, x = np.meshgrid(*along_mm, indexing="ij", sparse=True)
    near: BoolVolume = z**2 + y**2 + x**2 <= radius_mm**2
    return near


def _reaches_edge(box: Box, within: tuple[slice, ...], scan: Box) -> bool:
    """Tell whether a box, found in a part of an array, reaches the edge of the scan."""
    return any(
        part.start + start <= first or part.start + stop >= last
        for part, start, stop, first, last in zip(
            within, box.start, box.stop, scan.start, scan.stop, strict=True
        )
    )


def _gap_along_z(one: Box, other: Box) -> int:
    """Count the slices between two boxes; negative where they share slices."""
    return max(one.start[0] - other.stop[0], other.start[0] - one.stop[0])


def spread(mask: BoolVolume, reach_mm: SpacingZYX, spacing_mm: SpacingZYX) -> BoolVolume:
    """Mark the box around every marked voxel, too.

    Parameters
    ----------
    mask : (Z, Y, X) array of bool
        Stays as it is.
    reach_mm : (z, y, x) floats
        Half the box's size along each axis, in mm, rounded to whole voxels; 0 for none.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    (Z, Y, X) array of bool
    """
    near = mask.view(np.uint8)
    # One axis at a time: a cube would look at each voxel as often as it has voxels.
    for axis, (reach, step_mm) in enumerate(zip(reach_mm, spacing_mm, strict=True)):
        near = ndimage.maximum_filter1d(near, 2 * round(reach / step_mm) + 1, axis)
    return near.view(bool)
