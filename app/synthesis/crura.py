"""The crura of the diaphragm: muscle beside the aorta, before the spine, next to both adrenals.

Both embrace the aorta from the front above the celiac trunk, where they part the chest from the
abdomen, and grow thinner and farther back along its sides below, where they lie on the spine and
may meet behind it. From their outer edge the diaphragm goes on to the back, between lung and
adrenal gland.
"""

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import BoolVolume, FloatVolume
from app.synthesis.scene import Scene
from app.synthesis.sites import Points, celiac_height_mm, positions_mm, step_mm
from app.synthesis.tissues import Tissue

_REACH_MM = ((-32.0, -52.0), (54.0, 52.0))
"""How far from the middle of the aorta along (y, x) the muscle may lie, before and behind."""

_THINS_MM = 40.0
"""Height over which the crura grow thin below, and the hiatus widens above."""

_THICKNESS_MM, _RIGHT = (3.0, 11.0), 1.35
"""Of the left crus; the right one is larger by this factor."""

_ENDS_BEHIND = (0.35, 1.2)
"""How far around the aorta a crus reaches: 0 is its side, 1 behind it; from there on both meet."""

_CLOSE_MM = 4.0
"""Where no fat shows between crus and aorta none is left in the corners of the aorta, either."""

Row = npt.NDArray[np.float32]


def lay_crura(scene: Scene) -> None:
    """Lay both crura into the fat around the aorta.

    Nothing is laid where the scene does not tell how high it is: without adrenal glands and upper
    poles of the kidneys.
    """
    rng = scene.rng
    celiac_mm = celiac_height_mm(scene)
    aorta = positions_mm(scene, Tissue.AORTA)
    if celiac_mm is None or not len(aorta):
        return
    bottom_mm, top_mm = celiac_mm - rng.uniform(35.0, 75.0), celiac_mm + rng.uniform(25.0, 80.0)
    heights = np.arange(scene.tissues.shape[0]) * scene.spacing_mm[0]
    low, high = max(bottom_mm, aorta[:, 0].min()), min(top_mm, aorta[:, 0].max())
    rows = np.flatnonzero((heights >= low) & (heights <= high))
    beside = aorta[(aorta[:, 0] >= low) & (aorta[:, 0] <= high)]
    if not len(rows) or not len(beside):
        return
    middle = beside[:, 1:].mean(0) / scene.spacing_mm[1:]
    plane_shape = np.array(scene.tissues.shape[1:])
    first, last = (
        np.clip(middle + np.divide(reach, scene.spacing_mm[1:]), 0, plane_shape).astype(np.int64)
        for reach in _REACH_MM
    )
    window = (slice(rows[0], rows[-1] + 1), *map(slice, first, last))
    part = Scene(scene.tissues[window], scene.spacing_mm, rng)
    off_y, off_x, radius = _from_aorta(part, scene, aorta, heights[rows], first)
    above = (heights[rows] - celiac_mm)[:, None, None].astype(np.float32)
    muscle = _crura(part, above, bottom_mm - celiac_mm, (off_y, off_x, radius), part.noise(18.0))
    part.turn(muscle & (part.tissues == Tissue.MESENTERY), Tissue.MUSCLE)


def _from_aorta(
    part: Scene,
    scene: Scene,
    aorta: Points,
    heights: npt.NDArray[np.floating],
    first: npt.NDArray[np.int64],
) -> tuple[Row, Row, Row]:
    """Give each voxel's offset from the middle of the aorta, and the aorta's radius there.

    Returns
    -------
    off_y : (Z, Y, 1) array of float32
    off_x : (Z, 1, X) array of float32
    radius : (Z, 1, 1) array of float32
        All in mm.
    """
    _, step_y, step_x = scene.spacing_mm
    levels, index, counts = np.unique(aorta[:, 0], return_inverse=True, return_counts=True)
    radii = np.sqrt(counts * np.prod(step_mm(scene)[1:]) / np.pi)
    y, x = (np.bincount(index, aorta[:, axis]) / counts for axis in (1, 2))
    rows_y, rows_x, radius = (np.interp(heights, levels, values) for values in (y, x, radii))
    _, num_y, num_x = part.tissues.shape
    off_y = (first[0] + np.arange(num_y)) * step_y - rows_y[:, None]
    off_x = (first[1] + np.arange(num_x)) * step_x - rows_x[:, None]
    return (
        off_y[:, :, None].astype(np.float32),
        off_x[:, None, :].astype(np.float32),
        radius[:, None, None].astype(np.float32),
    )


def _crura(
    part: Scene, above: Row, bottom: float, from_aorta: tuple[Row, Row, Row], uneven: FloatVolume
) -> BoolVolume:
    """Mark the crura and the leaves of the diaphragm that go on from them.

    ``above`` and ``bottom`` are heights above the celiac trunk.
    """
    rng = part.rng
    off_y, off_x, radius = from_aorta

    def of_side(low: float, high: float) -> Row:
        """Draw a number for each side, as (Z, 1, X): both are worked out at a time."""
        left, right = rng.uniform(low, high, 2).astype(np.float32)
        drawn: Row = np.where(off_x > 0, left, right)
        return drawn

    distance = np.hypot(off_y, off_x)
    # 1 behind the aorta, 0 at its side, -1 before it.
    turned = off_y / np.maximum(distance, np.float32(1e-3))
    raised = np.clip((above - bottom) / (10.0 - bottom), 0.0, 1.0)
    front = 0.3 - of_side(1.0, 1.9) * raised
    share = np.clip((turned - front) / (of_side(*_ENDS_BEHIND) - front), 0.0, 1.0)
    hiatus = np.clip(above / _THINS_MM, 0.0, 1.0)
    thick_mm = of_side(*_THICKNESS_MM) * np.where(off_x > 0, np.float32(1.0), np.float32(_RIGHT))
    thick_mm = thick_mm * (np.clip((above - bottom) / _THINS_MM, 0.0, 1.0) * (1.0 - 0.4 * hiatus))
    # Mostly no fat shows between the two.
    gap_mm = of_side(-2.0, 2.0) + of_side(0.0, 4.0) * hiatus + uneven
    inner = radius + np.maximum(gap_mm, 0.0)
    outer = inner + 2.0 * thick_mm * np.sqrt(share * (1.0 - share)) * (1.0 + 0.4 * uneven)
    closed = (gap_mm <= 0.0) & (share > 0.0)
    crura = (distance > np.where(closed, radius - _CLOSE_MM, inner)) & (distance < outer)
    # A leaf starts at the outer edge and runs straight to the back and outwards.
    lean = of_side(0.1, 0.9)
    leaf_mm = of_side(1.5, 3.5) * np.sqrt(1.0 + lean**2)
    edge = inner + (0.5 * thick_mm + lean * off_y) + 1.5 * uneven
    leaves = np.abs(np.abs(off_x) - edge) < 0.5 * leaf_mm
    leaves &= (off_y > 0) & (above > -of_side(0.0, 25.0))
    marked: BoolVolume = crura | leaves
    return marked
