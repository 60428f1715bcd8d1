"""Vessels that branch through liver and lungs.

A scan without them teaches that a liver is even and a lung empty. In patients the branches
stand out from the liver, brighter than it after contrast agent and mostly darker without.

References
----------
Murray, "The physiological principle of minimum work", PNAS 1926: the cube of a vessel's
radius is the sum of its branches' cubes, so that it grows with the volume supplied.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from app.imaging.components import ball
from app.synthesis.scene import Scene
from app.synthesis.sites import Points
from app.synthesis.tissues import Tissue

_RADIUS_MM = {Tissue.LIVER: 5.7, Tissue.LUNG: 6.5}
"""Radius of a vessel that supplies a liter, in mm: the portal vein is 13 mm wide in a liver of
1.5 liters, the artery of a lung's lower half 14 to 16 mm."""

_SMALLEST_ML = {Tissue.LIVER: 9.0, Tissue.LUNG: 7.0}
"""Volume below which no branch is drawn; its vessel would be 2.5 mm wide."""

_THINNED = 6
"""Only every so many voxels along each axis are looked at to find where vessels go."""

_EVERY = (slice(_THINNED // 2, None, _THINNED),) * 3

_NEAR_MM = 10.0
"""How much further than the nearest place a root may lie, and how much lower than the highest."""


def add_liver_vessels(scene: Scene) -> None:
    """Let hepatic veins branch from the vena cava and the portal vein from where it enters.

    They take the place of those that the body was built with. Hepatic veins are
    ``Tissue.VEIN``, so the two differ in the arterial phase. What they run through remains
    labeled as liver.
    """
    scene.turn(scene.tissues == Tissue.LIVER_VESSEL, Tissue.LIVER)
    liver = _points(scene, scene.tissues[_EVERY] == Tissue.LIVER)
    for towards, kind in (
        (Tissue.INFERIOR_VENA_CAVA, Tissue.VEIN),
        (Tissue.PORTAL_VEIN, Tissue.LIVER_VESSEL),
    ):
        _grow(scene, liver, towards, Tissue.LIVER, kind)


def widen_bile_ducts(scene: Scene) -> None:
    """Let wide bile ducts branch through the liver from where the portal vein enters.

    They show where their outflow is closed, as by a tumor of the pancreas or a stone.
    """
    liver = _points(scene, scene.tissues[_EVERY] == Tissue.LIVER)
    _grow(scene, liver, Tissue.PORTAL_VEIN, Tissue.LIVER, Tissue.BILE)


def add_lung_vessels(scene: Scene) -> None:
    """Let vessels branch through each lung from the heart's side."""
    lungs, count = ndimage.label(scene.tissues[_EVERY] == Tissue.LUNG)
    for lung in range(1, count + 1):
        lung_points = _points(scene, lungs == lung)
        _grow(scene, lung_points, Tissue.ESOPHAGUS, Tissue.LUNG, Tissue.HEART_BLOOD)


def _points(scene: Scene, marked: npt.NDArray[np.bool_]) -> Points:
    """Give the places of a thinned mask's voxels, in mm."""
    places: Points = (np.argwhere(marked) * _THINNED + _THINNED // 2) * np.array(scene.spacing_mm)
    return places


def _grow(scene: Scene, points: Points, towards: Tissue, site: Tissue, kind: Tissue) -> None:
    """Draw one tree that supplies all points, from where they are nearest to some tissue."""
    if not len(points):
        return
    ml = float(np.prod(scene.spacing_mm)) * _THINNED**3 / 1000.0
    width_mm = _RADIUS_MM[site] * scene.rng.uniform(0.7, 1.2) * (ml / 1000.0) ** (1 / 3)
    root = _root(scene.rng, points, _points(scene, scene.tissues[_EVERY] == towards))
    starts, stops, counts = _branches(scene.rng, root, points, 2 * _SMALLEST_ML[site] / ml)
    _paint(scene, (starts, stops), width_mm * np.cbrt(counts), site, kind)


def _root(rng: np.random.Generator, points: Points, towards: Points) -> Points:
    """Choose one of the highest points near some others; among all where these are out of view."""
    near = points
    if len(towards):
        far_mm, _ = cKDTree(towards).query(points)
        near = points[far_mm < far_mm.min() + _NEAR_MM]
    high = near[near[:, 0] >= near[:, 0].max() - _NEAR_MM]
    root: Points = high[int(rng.integers(len(high)))]
    return root


def _branches(
    rng: np.random.Generator, root: Points, points: Points, fewest: float
) -> tuple[Points, Points, Points]:
    """Give start, end and number of supplied points of each branch of a tree.

    A branch leads towards the middle of the points it supplies. Unless they are too few, they
    are parted in two across their longest extent, and each part gets a branch.
    """
    branches, waiting = [], [(root, points)]
    while waiting:
        start, supplied = waiting.pop()
        middle = supplied.mean(0)
        off = middle - start
        bend = rng.normal(0.0, 0.15 * math.sqrt(off @ off), 3)
        stop = start + rng.uniform(0.35, 0.75) * off + bend
        branches.append((start, stop, len(supplied)))
        if len(supplied) < max(fewest, 2.0):
            continue
        spread = ((supplied - middle) ** 2).sum(0)
        along = supplied @ (spread / spread.max() * rng.choice((-1, 1), 3) + rng.normal(0, 0.3, 3))
        order = np.argsort(along)
        share = max(1, int(rng.uniform(0.3, 0.7) * len(order)))
        waiting += [(stop, supplied[part]) for part in (order[:share], order[share:])]
    starts, stops, counts = (np.array(column, np.float64) for column in zip(*branches, strict=True))
    return starts, stops, counts


def _paint(
    scene: Scene, ends: tuple[Points, Points], radius_mm: Points, site: Tissue, kind: Tissue
) -> None:
    """Turn the voxels of a tissue within some distance of lines into another, as strings of balls.

    Lines thinner than a voxel are left out.
    """
    starts, stops = ends
    step = np.array(scene.spacing_mm)
    numbers = (np.linalg.norm(stops - starts, axis=1) / (0.7 * step.min())).astype(int) + 2
    line = np.repeat(np.arange(len(starts)), numbers)
    along = np.arange(len(line)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    share = (along / (numbers[line] - 1))[:, None]
    centers = np.rint(((1 - share) * starts[line] + share * stops[line]) / step).astype(np.int64)
    # Balls of half a voxel more are worked out together.
    half_voxels = (radius_mm / (0.5 * step.min())).astype(int)
    for size in np.unique(half_voxels[half_voxels > 0]):
        at = centers[(half_voxels == size)[line]]
        round_one = ball(0.5 * size * step.min(), scene.spacing_mm)
        offsets = np.argwhere(round_one) - np.array(round_one.shape) // 2
        places = (at[:, None] + offsets).reshape(-1, 3)
        z, y, x = places[((places >= 0) & (places < scene.tissues.shape)).all(1)].T
        inside = scene.tissues[z, y, x] == site
        scene.tissues[z[inside], y[inside], x[inside]] = kind
