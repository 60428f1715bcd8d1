"""The first loops of the jejunum: from the end of the duodenum to the left, before the kidney.

Nothing but its course tells unopacified jejunum there from the pancreas, which it has the width
and the gray of: it goes on from the duodenum, below the tail, and lies on the left kidney.
"""

import numpy as np

from app.synthesis.contents import FED_BOWEL
from app.synthesis.scene import Scene
from app.synthesis.shapes import smooth_tube
from app.synthesis.sites import Points, canvas_of, positions_mm
from app.synthesis.tissues import Tissue

_ROOM = (Tissue.MESENTERY, *FED_BOWEL)
"""What gives way to a loop."""

_COLLAPSED_SHARE, _ON_KIDNEY_SHARE = 0.45, 0.65
"""How often the lumen is closed, and how many bends lie against the left kidney."""

_SLAB_MM = 10.0
"""Half the height of the slab that the kidney's face is taken from."""

_STEP_MM = 5.0
"""Length of the straight pieces of a loop."""


def lay_jejunum(scene: Scene) -> None:
    """Lay one to three bent loops between the end of the duodenum and the left kidney.

    Nothing is laid where the scene does not show the left kidney.
    """
    rng = scene.rng
    kidney = positions_mm(scene, Tissue.LEFT_KIDNEY)
    if not len(kidney):
        return
    duodenum = positions_mm(scene, Tissue.DUODENUM)
    contents = (Tissue.BOWEL_CONTENT, Tissue.BOWEL_FLUID, Tissue.PELVIC_SOFT_TISSUE)
    # Soft tissue stands for folds that lie so close that they show as one.
    content = Tissue(rng.choice(contents, p=(0.4, 0.35, 0.25)))
    is_collapsed = rng.random() < _COLLAPSED_SHARE
    wall_mm, gap_mm = rng.uniform(1.5, 4.0), rng.uniform(0.0, 3.0)
    largest_mm = rng.uniform(10.0, 19.0)
    for number in range(int(rng.integers(1, 4))):
        radius_mm = largest_mm * rng.uniform(0.8, 1.0)
        path = _bends(scene, kidney, radius_mm)
        if number == 0 and len(duodenum):
            path = np.concatenate([duodenum[[duodenum[:, 2].argmax()]], path])
        radii = radius_mm * rng.uniform(0.75, 1.15, len(path))
        loop = smooth_tube(path, radii.tolist(), step_mm=_STEP_MM)
        # Between its bends it swings to the front, never behind the kidney's face.
        np.minimum(loop.points[:, 1], path[:, 1].max(), out=loop.points[:, 1])
        canvas = canvas_of(scene)
        canvas.paint_tube(loop.grown(gap_mm), Tissue.MESENTERY, over=_ROOM)
        canvas.paint_tube(loop, Tissue.BOWEL_WALL, over=_ROOM)
        if not is_collapsed:
            canvas.paint_tube(loop.grown(-wall_mm), content, over=(Tissue.BOWEL_WALL,))


def _bends(scene: Scene, kidney: Points, radius_mm: float) -> Points:
    """Draw the places a loop bends at: from side to side before the kidney, and downwards."""
    rng = scene.rng
    low, high = np.quantile(kidney, (0.1, 0.9), axis=0)
    places = []
    start = rng.uniform(low[0], high[0])
    for bend in range(int(rng.integers(2, 6))):
        z = start + rng.normal(0.0, 6.0) - bend * rng.uniform(0.0, 1.6) * radius_mm
        x = (low[2] - rng.uniform(0.0, 25.0)) if bend % 2 else rng.uniform(low[2], high[2] + 10.0)
        height = np.clip(z, low[0], high[0])
        off_mm = np.abs(kidney[:, 0] - height)
        # A mass may have left two poles and nothing of the kidney between them.
        face = np.quantile(kidney[off_mm < max(_SLAB_MM, off_mm.min() + 1.0), 1], 0.05)
        y = face - radius_mm + rng.uniform(0.0, 4.0)
        if rng.random() > _ON_KIDNEY_SHARE:
            y -= rng.uniform(3.0, 40.0)
        places.append((z, y, x))
    return np.array(places)
