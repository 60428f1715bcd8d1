"""Where the organs of a piece of a body lie, in mm: what else is laid between them starts there.

Positions are (z, y, x) in mm from the first voxel's center; x grows to the left, y to the back and
z to the head of the patient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.synthesis.scene import Scene
from app.synthesis.shapes import Canvas, Path, smooth_tube
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue, look_up

Points = npt.NDArray[np.float64]

_THINNED_MM = 3.0
"""Every second or third voxel along each axis, about so far apart, tells as well where it is."""

_VESSEL_STEP_MM = 4.0
"""Length of the straight pieces of a vessel."""

_SLAB_MM = 6.0
"""Half the height of the slab of a vessel that its middle is taken from."""

_BELOW_KIDNEY_TOP_MM = 20.0
"""How far below the upper poles of the kidneys the celiac trunk leaves the aorta."""

_SEEN_OF_KIDNEY_MM = 70.0
"""A kidney cut off by the border shows about where its hilum is if so much of it is seen."""


@dataclass(frozen=True, slots=True)
class Section:
    """A vessel cut across: its middle and radius at some height, in mm."""

    y: float
    x: float
    radius: float


def _thinning(scene: Scene) -> npt.NDArray[np.int64]:
    steps = np.rint(_THINNED_MM / np.array(scene.spacing_mm)).astype(np.int64)
    return np.clip(steps, 2, 3)


def step_mm(scene: Scene) -> Points:
    """Give the distance between positions along (z, y, x), in mm: see :func:`positions_mm`."""
    step: Points = _thinning(scene) * np.array(scene.spacing_mm)
    return step


def _top_mm(scene: Scene) -> float:
    """Give the height from which on an organ's highest position may be the border's."""
    return float((scene.tissues.shape[0] - 1) * scene.spacing_mm[0] - step_mm(scene)[0])


def positions_mm(scene: Scene, organ: Tissue) -> Points:
    """Give the positions of an organ, its inner parts included, on a thinned grid.

    Returns
    -------
    (N, 3) array
        No rows where the scene does not show the organ.
    """
    every_z, every_y, every_x = _thinning(scene)
    thinned = scene.tissues[::every_z, ::every_y, ::every_x]
    found = np.argwhere(look_up(ORGAN_OF_TISSUE, thinned) == organ)
    positions: Points = found * step_mm(scene)
    return positions


def nearest(points: Points, place: Points) -> Points:
    """Give the one of some positions that is nearest to a place."""
    found: Points = points[((points - place) ** 2).sum(1).argmin()]
    return found


def bins_along_x(points: Points, from_mm: float, bin_mm: float) -> Iterator[Points]:
    """Part positions from a place on to the left, bin by bin; some may hold none."""
    for start in np.arange(from_mm, points[:, 2].max(), bin_mm):
        yield points[(points[:, 2] >= start) & (points[:, 2] < start + bin_mm)]


def section_at(scene: Scene, vessel: Points, height_mm: float) -> Section | None:
    """Give the cross-section of an upright vessel near a height; None where there is none."""
    slab = vessel[np.abs(vessel[:, 0] - height_mm) < _SLAB_MM]
    if not len(slab):
        return None
    _, y, x = slab.mean(0)
    _, step_y, step_x = step_mm(scene)
    area = len(slab) * step_y * step_x / len(np.unique(slab[:, 0]))
    return Section(float(y), float(x), float(np.sqrt(area / np.pi)))


def celiac_height_mm(scene: Scene) -> float | None:
    """Tell about where the celiac trunk leaves the aorta: low between the adrenal glands.

    Returns
    -------
    float or None
        Height in mm; from the upper poles of the kidneys where no gland shows, and None where
        those do not show either.
    """
    glands = [positions_mm(scene, o) for o in (Tissue.RIGHT_ADRENAL, Tissue.LEFT_ADRENAL)]
    heights = np.concatenate([gland[:, 0] for gland in glands])
    if len(heights):
        return float(np.quantile(heights, 0.25))
    top_mm = _top_mm(scene)
    poles = []
    for kidney in (Tissue.RIGHT_KIDNEY, Tissue.LEFT_KIDNEY):
        points = positions_mm(scene, kidney)
        if len(points) and points[:, 0].max() < top_mm:
            poles.append(points[:, 0].max())
    return float(np.mean(poles)) - _BELOW_KIDNEY_TOP_MM if poles else None


def hilum_mm(scene: Scene, kidney: Tissue) -> Points | None:
    """Give a place in the hilum of a kidney.

    Returns
    -------
    (3,) array or None
        None where too little of the kidney shows to tell.
    """
    points = positions_mm(scene, kidney)
    if not len(points):
        return None
    low, high = points[:, 0].min(), points[:, 0].max()
    is_cut = low <= 0 or high >= _top_mm(scene)
    if is_cut and high - low < _SEEN_OF_KIDNEY_MM:
        return None
    height = low + scene.rng.uniform(0.4, 0.6) * (high - low)
    slab = points[np.abs(points[:, 0] - height) < _SLAB_MM]
    if not len(slab):
        return None
    _, y, x = slab.mean(0)
    medial = slab[:, 2].min() if kidney == Tissue.LEFT_KIDNEY else slab[:, 2].max()
    return np.array((height, y, 0.5 * (x + medial)))


def canvas_of(scene: Scene) -> Canvas:
    """Give a canvas on which shapes in mm are painted into the scene."""
    z, y, x = (
        np.arange(size, dtype=np.float32) * np.float32(step)
        for size, step in zip(scene.tissues.shape, scene.spacing_mm, strict=True)
    )
    return Canvas(scene.tissues, z, y, x)


def lay_vessel(
    scene: Scene,
    path: Path,
    radii: Sequence[float] | float,
    tissue: Tissue,
    over: tuple[Tissue, ...] = (Tissue.MESENTERY,),
) -> None:
    """Lay a vessel along a smooth course through fat, or through other tissues that are told."""
    tube = smooth_tube(path, radii, step_mm=_VESSEL_STEP_MM)
    canvas_of(scene).paint_tube(tube, tissue, over=over)
