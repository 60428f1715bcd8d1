"""The common bile duct, and the duct of the pancreas: dark lines through and behind its head.

Both are the pancreas' where they run in it, and nothing's elsewhere.
"""

import numpy as np

from app.synthesis.scene import Scene
from app.synthesis.sites import bins_along_x, lay_vessel, nearest, positions_mm
from app.synthesis.tissues import Tissue

_BIN_MM = 12.0
"""Distance from right to left between the places that the duct of the pancreas runs through."""

_HEAD_MM = 22.0
"""Width of what counts as the head of the pancreas, from its right end on."""

_FEWEST = 4
"""A piece of the gland with fewer positions does not show where its middle is."""


def lay_pancreatic_duct(scene: Scene) -> None:
    """Lay the duct along the middle of the pancreas, wide as it is before an obstacle."""
    rng = scene.rng
    pancreas = positions_mm(scene, Tissue.PANCREAS)
    if not len(pancreas):
        return
    course = []
    for piece in bins_along_x(pancreas, pancreas[:, 2].min(), _BIN_MM):
        if len(piece) >= _FEWEST:
            course.append(piece.mean(0) + rng.normal(0.0, 1.0, 3))
    if len(course) > 1:
        lay_vessel(scene, course, rng.uniform(1.0, 3.5), Tissue.BILE, over=(Tissue.PANCREAS,))


def lay_bile_duct(scene: Scene) -> None:
    """Lay the common bile duct from the liver down, behind or through the pancreas' head."""
    rng = scene.rng
    pancreas, liver = (positions_mm(scene, organ) for organ in (Tissue.PANCREAS, Tissue.LIVER))
    if not len(pancreas) or not len(liver):
        return
    head = pancreas[pancreas[:, 2] < pancreas[:, 2].min() + _HEAD_MM]
    low, high = np.quantile(head, (0.15, 0.95), axis=0)
    middle = head.mean(0)
    enters = np.array((high[0], rng.uniform(middle[1], high[1]), middle[2]))
    ends = np.array((low[0], middle[1], rng.uniform(low[2], middle[2])))
    leaves = nearest(liver, enters + (rng.uniform(15.0, 40.0), 0.0, -rng.uniform(0.0, 15.0)))
    # It runs beside the portal vein, which lies behind it.
    between = 0.5 * (leaves + enters) + rng.normal(0.0, 3.0, 3)
    radius = rng.uniform(2.0, 8.0)
    radii = [0.8 * radius, radius, 0.9 * radius, 0.4 * radius]
    over = (Tissue.MESENTERY, Tissue.PANCREAS)
    lay_vessel(scene, [leaves, between, enters, ends], radii, Tissue.BILE, over=over)
