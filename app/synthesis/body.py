"""A complete body around 13 organs: surroundings borrowed, wall, fat and skin built.

The order of work: lay a template's body over the organs (:mod:`app.synthesis.fit`), grow
a wall, fat and skin around both on a coarse grid, sample the template's tissues onto
the fine grid, repair the places where the two disagree, and put the organs on top.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from app.imaging.geometry import BoolVolume, FloatVolume, IndexZYX, LabelVolume, SpacingZYX
from app.synthesis.couch import add_arms, add_couch
from app.synthesis.fields import distance_mm, smooth_noise
from app.synthesis.fit import Warp, find_landmarks, fit_warp, warp_labels
from app.synthesis.interior import beside, fill_organs
from app.synthesis.lungs import fit_lungs
from app.synthesis.organs import FineGrid, continue_cut_organs, sample, smooth_organs
from app.synthesis.template import Template
from app.synthesis.tissues import Tissue
from app.synthesis.whole_body import SPACING_MM

COARSE_MM: SpacingZYX = (6.0, 6.0, 6.0)
"""Grid on which wall, fat and skin are shaped."""

_SKIN_MM = 2.0

_ARMS_SHARE = 0.12
_COUCH_SHARE = 0.85
"""How many bodies lie with their arms at their sides, and on a couch within view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A tissue map of a whole trunk and where the organs it was built around lie in it.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Values of :class:`Tissue`.
    spacing_mm : (z, y, x) floats
        Its spacing, in mm.
    offset_mm : (z, y, x) floats
        Place of the given organ map's first voxel, from the first voxel here, in mm.
    """

    tissues: LabelVolume
    spacing_mm: SpacingZYX
    offset_mm: SpacingZYX


@dataclass(frozen=True, slots=True, kw_only=True)
class Habitus:
    """How a body is built, apart from its organs.

    Parameters
    ----------
    fat_mm : float
        Thickness of the fat under the skin on the flanks, in mm.
    front, back : float
        That thickness at the belly and at the back, as a share of the flanks'.
    wall_mm : float
        Least thickness of the wall around the organs, in mm.
    """

    fat_mm: float
    front: float
    back: float
    wall_mm: float


def random_habitus(rng: np.random.Generator) -> Habitus:
    """Draw a habitus, from lean to obese."""
    return Habitus(
        fat_mm=float(5.0 + 45.0 * rng.beta(1.2, 2.0)),
        front=float(rng.uniform(0.6, 1.5)),
        back=float(rng.uniform(0.6, 1.3)),
        wall_mm=float(rng.uniform(8.0, 13.0)),
    )


def complete_body(
    organs: LabelVolume,
    template: Template,
    rng: np.random.Generator,
    *,
    spacing_mm: SpacingZYX = SPACING_MM,
    habitus: Habitus | None = None,
) -> Body:
    """Build a complete body around the organs of one patient.

    Parameters
    ----------
    organs : (Z, Y, X) array of uint8
        Values 0 to 13 at 1.5 mm, LPS.
    template : Template
        The body that lends everything else.
    rng : numpy Generator
        Decides habitus, contents and gas.
    spacing_mm : (z, y, x) floats
        Spacing of the result, in mm.
    habitus : Habitus, optional
        Random by default.

    Returns
    -------
    Body
        From the chest to the thighs, as far as the template reaches.
    """
    habitus = habitus or random_habitus(rng)
    warp = fit_warp(find_landmarks(organs, SPACING_MM), template.landmarks, SPACING_MM)
    grid, outside = _shape_trunk(organs, template, warp, habitus, spacing_mm, rng)
    tissues = warp_labels(
        template.tissues,
        SPACING_MM,
        warp,
        start_mm=grid.start_mm,
        shape=grid.shape,
        new_spacing_mm=grid.spacing_mm,
    )
    pasted = smooth_organs(organs, grid)
    continue_cut_organs(pasted, tissues, organs, grid)
    _fill_holes(tissues, pasted)
    fit_lungs(tissues, pasted, grid.spacing_mm)
    tissues[pasted > 0] = pasted[pasted > 0]
    fill_organs(tissues, grid.spacing_mm, rng)
    _clothe(tissues, outside, grid)
    z, y, x = (-float(first) for first in grid.start_mm)
    if rng.random() < _ARMS_SHARE:
        tissues, added = add_arms(tissues, spacing_mm, rng)
        x += added * spacing_mm[2]
    if rng.random() < _COUCH_SHARE:
        tissues = add_couch(tissues, spacing_mm, rng)
    return Body(tissues=tissues, spacing_mm=spacing_mm, offset_mm=(z, y, x))


def _coarse_grid(
    organs: LabelVolume, template: Template, warp: Warp, room_mm: float
) -> tuple[SpacingZYX, IndexZYX]:
    """Lay a coarse grid over template and organs, with room in-plane for fat and air.

    Returns
    -------
    start_mm : (z, y, x) floats
        First voxel, on the organs' side, in mm; whole coarse steps from the organ map's.
    shape : (z, y, x) ints
    """
    corners = np.array(list(np.ndindex(2, 2, 2))) * template.tissues.shape * np.asarray(SPACING_MM)
    moved = warp.affine_inverse(corners)
    room = np.array([0.0, room_mm, room_mm])
    # A little less than the template at top and bottom, so that no end cap shows, ...
    low = moved.min(0) - room + np.array([12.0, 0.0, 0.0])
    high = moved.max(0) + room - np.array([12.0, 0.0, 0.0])
    # ... but never less than the organ map.
    low = np.floor(np.minimum(low, -room) / COARSE_MM[0]).astype(int)
    high = np.maximum(high, np.multiply(organs.shape, SPACING_MM) + room)
    size = np.ceil(high / COARSE_MM[0]).astype(int) + 1 - low
    start = low * COARSE_MM[0]
    return tuple(start.tolist()), tuple(size.tolist())


def _shape_trunk(
    organs: LabelVolume,
    template: Template,
    warp: Warp,
    habitus: Habitus,
    spacing_mm: SpacingZYX,
    rng: np.random.Generator,
) -> tuple[FineGrid, FloatVolume]:
    """Shape muscle, fat and skin around template and organs on the coarse grid.

    Returns
    -------
    grid : FineGrid
        The fine grid: the body and some air.
    outside : (Z, Y, X, 2) array of float32
        On the coarse grid that covers the fine one: height above the muscles and
        above the skin, in mm, negative inside.
    """
    start, shape = _coarse_grid(organs, template, warp, 1.6 * habitus.fat_mm + 30.0)
    muscle = (
        warp_labels(
            template.tissues,
            SPACING_MM,
            warp,
            start_mm=start,
            shape=shape,
            new_spacing_mm=COARSE_MM,
        )
        != Tissue.AIR
    )
    inside = np.zeros_like(muscle)
    step = round(COARSE_MM[0] / SPACING_MM[0])
    held = ndimage.maximum_filter(organs > 0, size=step)[::step, ::step, ::step]
    first = np.rint(np.divide(start, COARSE_MM) * -1).astype(int)
    inside[tuple(slice(a, a + n) for a, n in zip(first, held.shape, strict=True))] = held
    muscle |= distance_mm(inside, COARSE_MM) < habitus.wall_mm
    blurred = ndimage.gaussian_filter(muscle.astype(np.float32), 1.2, mode="nearest")
    above_muscle = _signed_distance(blurred > 0.5) - 1.0
    above_skin = above_muscle - _fat_thickness(muscle, habitus, rng)
    above_skin = ndimage.gaussian_filter(above_skin, 1.5, mode="nearest")
    above_skin = np.minimum(above_skin, above_muscle - 4.0)
    return _crop_grid(above_muscle, above_skin, start, spacing_mm, rng)


def _signed_distance(mask: BoolVolume) -> FloatVolume:
    """Height above the surface of a mask, in mm; negative inside, z ends left open."""
    padded = np.pad(mask, ((1, 1), (0, 0), (0, 0)), mode="edge")
    outer = ndimage.distance_transform_edt(~padded, sampling=COARSE_MM)
    inner = ndimage.distance_transform_edt(padded, sampling=COARSE_MM)
    height: FloatVolume = (outer - inner)[1:-1].astype(np.float32)
    return height


def _fat_thickness(muscle: BoolVolume, habitus: Habitus, rng: np.random.Generator) -> FloatVolume:
    """Thickness of the fat around each slice, by direction from the slice's center."""
    _, y, x = np.indices(muscle.shape, dtype=np.float32)
    area = np.maximum(muscle.sum((1, 2)), 1)[:, None, None]
    off_y = y - (muscle * y).sum((1, 2))[:, None, None] / area
    off_x = x - (muscle * x).sum((1, 2))[:, None, None] / area
    sine = off_y / np.maximum(np.hypot(off_y, off_x), 1.0)
    share = np.where(sine < 0, 1 + (habitus.front - 1) * sine**2, 1 + (habitus.back - 1) * sine**2)
    share = share * (1.0 + 0.15 * smooth_noise(muscle.shape, COARSE_MM, 90.0, rng))
    # Hips and thighs carry more fat than the chest.
    height = np.linspace(1.25, 0.65, muscle.shape[0], dtype=np.float32)[:, None, None]
    thickness: FloatVolume = np.maximum(habitus.fat_mm * share * height, 3.0).astype(np.float32)
    return thickness


def _crop_grid(
    above_muscle: FloatVolume,
    above_skin: FloatVolume,
    start_mm: SpacingZYX,
    spacing_mm: SpacingZYX,
    rng: np.random.Generator,
) -> tuple[FineGrid, FloatVolume]:
    """Cut the coarse grid to the body and some air, and lay the fine grid over it."""
    body = above_skin < 0
    air = rng.integers(1, 5, 4)
    lines = [np.flatnonzero(body.any(axis)) for axis in ((0, 2), (0, 1))]
    (y0, y1), (x0, x1) = (
        (max(0, line[0] - before), min(size, line[-1] + 1 + after))
        for line, before, after, size in zip(lines, air[:2], air[2:], body.shape[1:], strict=True)
    )
    outside = np.stack([above_muscle, above_skin], -1)[:, y0:y1, x0:x1]
    step = COARSE_MM[0]
    first = (start_mm[0], start_mm[1] + int(y0) * step, start_mm[2] + int(x0) * step)
    z, y, x = (
        int((size - 1) * step // fine) + 1
        for size, fine in zip(outside.shape[:3], spacing_mm, strict=True)
    )
    return FineGrid(start_mm=first, shape=(z, y, x), spacing_mm=spacing_mm), outside


def _fill_holes(tissues: LabelVolume, pasted: LabelVolume) -> None:
    """Put fat where the template's own organs were."""
    left = (tissues >= 1) & (tissues <= 13) & (pasted == 0)
    tissues[left] = Tissue.MESENTERY


def _clothe(tissues: LabelVolume, outside: FloatVolume, grid: FineGrid) -> None:
    """Wrap muscles in fat and skin, and clear what lies outside, in place."""
    places = [
        np.arange(size) * step / coarse
        for size, step, coarse in zip(grid.shape, grid.spacing_mm, COARSE_MM, strict=True)
    ]
    _, above_muscle = sample(outside[..., 0], [0, 0, 0], places)
    _, above_skin = sample(outside[..., 1], [0, 0, 0], places)
    bare = tissues == Tissue.AIR
    tissues[bare & (above_muscle < 0)] = Tissue.MUSCLE
    tissues[bare & (above_muscle >= 0)] = Tissue.FAT
    # Template muscle that sticks out of the smoothed trunk is fat with strands.
    tissues[(tissues == Tissue.MUSCLE) & (above_muscle > 3.0)] = Tissue.FAT
    air = above_skin > 0
    tissues[(above_skin > -_SKIN_MM) | beside(air)] = Tissue.SKIN
    tissues[air] = Tissue.AIR
