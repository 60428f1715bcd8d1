"""Fat between liver and gallbladder, and in the fissure that goes on above it.

The label maps that bodies are built from let both touch. A network that never saw fat between
them labels it as gallbladder.
"""

import numpy as np

from app.synthesis.fields import distance_mm
from app.synthesis.scene import Scene
from app.synthesis.tissues import Tissue

_RIM_MM = (1.0, 6.0)
"""How thick the fat is, about."""

_FISSURE_SHARE = (0.35, 1.0)
"""How near what lies above and below counts as in place of how far: less is a higher fissure."""

_REACH_MM, _FARTHEST_MM = 24.0, 8.0
"""How far above and below the gallbladder anything is changed, and how far beside it."""


def widen_gallbladder_bed(scene: Scene) -> None:
    """Turn a part of the liver around the gallbladder into fat.

    It becomes ``Tissue.FAT``, which tells :func:`~app.synthesis.variation.unlabel` that liver gave
    way there.
    """
    rng = scene.rng
    window = scene.window_on(Tissue.GALLBLADDER, _REACH_MM)
    if window is None:
        return
    part = Scene(scene.tissues[window], scene.spacing_mm, rng)
    step_z, step_y, step_x = scene.spacing_mm
    nearer = (step_z * rng.uniform(*_FISSURE_SHARE), step_y, step_x)
    away_mm = distance_mm(part.tissues == Tissue.GALLBLADDER, nearer)
    rim_mm = rng.uniform(*_RIM_MM) * (0.7 + 0.6 * part.noise(22.0))
    liver = part.where((Tissue.LIVER, Tissue.LIVER_VESSEL))
    part.turn(liver & (away_mm < np.minimum(rim_mm, _FARTHEST_MM)), Tissue.FAT)
