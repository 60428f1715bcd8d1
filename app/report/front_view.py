"""The organs seen from the front, as solid surfaces.

Looking straight along y, each organ's surface is where its smoothed mask first
passes a level. The level is chosen so that smoothing changes no volume; thin
organs would vanish under a fixed one. Surfaces are then shaded by their slope and
laid over each other by depth.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.crop import bounding_box
from app.imaging.geometry import Box, FloatVolume, LabelVolume, SpacingZYX
from app.imaging.resample import resample_nearest
from app.labels import ORGANS

GRID_MM = 2.0
"""Spacing at which surfaces are found, in mm."""

SMOOTHING_MM = 3.2
"""Standard deviation of the smoothing, in mm: slices of 5 mm leave no steps."""

MOST_MM = 1000.0
"""Organs never reach as far, in mm. Where they seem to, the header is wrong, and they are drawn as
if they reached just so far: the grid would grow with the cube of it, to many GB."""

PADDING_MM = 9.0
"""Room around the organs, in mm, so that smoothing has somewhere to go."""

# Unit vectors are (z, y, x): the eye looks along +y, the light comes from above its left shoulder.
_TO_EYE = np.array([0.0, -1.0, 0.0])
_TO_LIGHT = np.array([0.55, -0.75, -0.36])

FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Surface:
    """What is seen of one organ: (rows, columns), the head up.

    ``cover`` is how far the mask rises above its level, ``depth_mm`` how far away
    it does so, ``normal`` its direction (rows, columns, 3).
    """

    cover: FloatImage
    depth_mm: FloatImage
    normal: FloatImage


def front_view(
    labels: LabelVolume, spacing_mm: SpacingZYX, *, pixels_per_mm: float
) -> npt.NDArray[np.uint8]:
    """Render the organs from the front, the patient's right on the left.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        Label map in canonical orientation.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    pixels_per_mm : float
        Scale of the picture.

    Returns
    -------
    (rows, columns, 4) array of uint8
        RGBA over the whole label map's width and height, transparent where no organ is.
    """
    rows, columns = (
        max(1, round(labels.shape[axis] * spacing_mm[axis] * pixels_per_mm)) for axis in (0, 2)
    )
    canvas = np.zeros((rows, columns, 4), np.uint8)
    is_organ = labels > 0
    if not is_organ.any():
        return canvas
    organs = bounding_box(is_organ, spacing_mm)
    reach_mm = max(size * step for size, step in zip(organs.shape, spacing_mm, strict=True))
    shrunk = min(1.0, MOST_MM / reach_mm)
    pixels_per_mm /= shrunk
    step_z, step_y, step_x = (step * shrunk for step in spacing_mm)
    spacing_mm = (step_z, step_y, step_x)
    box = bounding_box(is_organ, spacing_mm, PADDING_MM)
    grid = (GRID_MM,) * 3
    cut = resample_nearest(labels[box.slices], spacing_mm, grid)
    top, left = (
        round((labels.shape[0] - box.stop[0]) * spacing_mm[0] * pixels_per_mm),
        round(box.start[2] * spacing_mm[2] * pixels_per_mm),
    )
    size = tuple(
        max(1, round(box.shape[axis] * spacing_mm[axis] * pixels_per_mm)) for axis in (0, 2)
    )
    painted = _paint(cut, (size[0], size[1]))
    room = canvas[top : top + size[0], left : left + size[1]]
    room[...] = painted[: room.shape[0], : room.shape[1]]
    return canvas


def _paint(labels: LabelVolume, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Lay the organs' surfaces over each other; at twice the size, for smooth edges."""
    fine = (2 * size[0], 2 * size[1])
    color = np.zeros((*fine, 3), np.float32)
    nearest_mm = np.full(fine, np.inf, np.float32)
    for organ in ORGANS:
        surface = _surface(labels == organ.value, fine)
        if surface is None:
            continue
        in_front = (surface.cover > 0) & (surface.depth_mm < nearest_mm)
        nearest_mm[in_front] = surface.depth_mm[in_front]
        color[in_front] = _shade(np.asarray(organ.color, np.float32), surface.normal[in_front])
    seen = np.isfinite(nearest_mm)
    if seen.any():
        color *= _crevices(nearest_mm, seen, pixels_per_mm=fine[0] / (labels.shape[0] * GRID_MM))
    covered = np.concatenate([color * seen[..., None], 255.0 * seen[..., None]], axis=2)
    # Mean of 2 x 2 pixels; colors are weighted by what covers them.
    mean = covered.reshape(size[0], 2, size[1], 2, 4).mean(axis=(1, 3))
    share = np.maximum(mean[..., 3:] / 255.0, 1e-6)
    mean[..., :3] /= share
    painted: npt.NDArray[np.uint8] = np.clip(np.rint(mean), 0, 255).astype(np.uint8)
    return painted


def _surface(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> _Surface | None:
    """Find what is seen of one organ, on a picture of the given size."""
    if not mask.any():
        return None
    box = bounding_box(mask, (GRID_MM,) * 3, PADDING_MM)
    field, level = _smooth(mask[box.slices])
    inside = field > level
    if not inside.any():
        return None
    hit = inside.any(axis=1)
    first = np.where(hit, inside.argmax(axis=1), 0)
    behind, before = _at(field, first), _at(field, np.maximum(first - 1, 0))
    step_back = np.where(behind > before, (behind - level) / np.maximum(behind - before, 1e-6), 0)
    depth_mm = (box.start[1] + first - np.clip(step_back, 0, 1)) * GRID_MM
    slopes = np.stack([-_at(_slope(field, axis), first) for axis in range(3)], axis=-1)
    # Beyond the rim, depth and slope go on as at the rim, so that enlarging them is smooth there.
    rim = ndimage.distance_transform_edt(~hit, return_distances=False, return_indices=True)
    cover = field.max(axis=1) - level
    placed = [
        _place(image, box, mask.shape, size, outside)
        for image, outside in (
            (cover, float(cover.min())),
            (depth_mm[tuple(rim)], 0.0),
            *((slopes[..., axis][tuple(rim)], 0.0) for axis in range(3)),
        )
    ]
    normal = np.stack(placed[2:], axis=-1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
    return _Surface(placed[0], placed[1], normal)


def _smooth(mask: npt.NDArray[np.bool_]) -> tuple[FloatVolume, float]:
    """Smooth a mask, and find the level that keeps its volume."""
    field: FloatVolume = ndimage.gaussian_filter(mask.astype(np.float32), SMOOTHING_MM / GRID_MM)
    num_inside = int(np.count_nonzero(mask))
    level = np.partition(field, field.size - num_inside, axis=None)[field.size - num_inside]
    return field, float(np.clip(level, 0.02, 0.6))


def _slope(field: FloatVolume, axis: int) -> FloatVolume:
    """Give the slope along an axis; along one that is a single voxel thin there is none."""
    if field.shape[axis] == 1:
        return np.zeros_like(field)
    slope: FloatVolume = np.gradient(field, axis=axis)
    return slope


def _at(field: FloatVolume, index: npt.NDArray[np.int64]) -> FloatImage:
    """Pick from each ray along y the value at an index."""
    picked: FloatImage = np.take_along_axis(field, index[:, None], axis=1)[:, 0]
    return picked


def _place(
    image: npt.NDArray[np.floating],
    box: Box,
    shape: tuple[int, ...],
    size: tuple[int, int],
    outside: float,
) -> FloatImage:
    """Enlarge what was found in a box to its place in the picture, the head up."""
    per_voxel = (size[0] / shape[0], size[1] / shape[2])
    placed = np.full(size, outside, np.float32)
    rows = np.arange(int(box.start[0] * per_voxel[0]), int(box.stop[0] * per_voxel[0]))
    columns = np.arange(int(box.start[2] * per_voxel[1]), int(box.stop[2] * per_voxel[1]))
    at = np.meshgrid(
        (rows + 0.5) / per_voxel[0] - 0.5 - box.start[0],
        (columns + 0.5) / per_voxel[1] - 0.5 - box.start[2],
        indexing="ij",
    )
    enlarged = ndimage.map_coordinates(image, at, order=1, mode="nearest")
    placed[np.ix_(rows, columns)] = enlarged
    return placed[::-1]


def _shade(color: FloatImage, normal: FloatImage) -> FloatImage:
    """Light a surface: Lambert's law, a soft highlight, darker where it turns away."""
    light = _TO_LIGHT / np.linalg.norm(_TO_LIGHT)
    half = light + _TO_EYE
    half /= np.linalg.norm(half)
    lambert = np.clip(normal @ light, 0, 1)[:, None]
    facing = np.clip(normal @ _TO_EYE, 0, 1)[:, None]
    highlight = np.clip(normal @ half, 0, 1)[:, None] ** 28
    lit = color * (0.34 + 0.74 * lambert) * (0.62 + 0.38 * np.sqrt(facing)) + 46.0 * highlight
    shaded: FloatImage = np.clip(lit, 0, 255).astype(np.float32)
    return shaded


def _crevices(
    depth_mm: FloatImage, seen: npt.NDArray[np.bool_], pixels_per_mm: float
) -> FloatImage:
    """Darken what lies deeper than its surroundings, as less light would reach it."""
    weight = ndimage.gaussian_filter(seen.astype(np.float32), 7 * pixels_per_mm)
    known = np.where(seen, depth_mm, 0).astype(np.float32)
    around = ndimage.gaussian_filter(known, 7 * pixels_per_mm) / np.maximum(weight, 1e-3)
    deeper_mm = np.clip(np.where(seen, depth_mm - around, 0), 0, 25)
    darker: FloatImage = (1 - 0.5 * deeper_mm / 25)[..., None].astype(np.float32)
    return darker
