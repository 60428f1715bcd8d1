"""Where blood and contrast agent are spread unevenly: vena cava, aorta, spleen and liver.

Minutes after an injection no organ is as even as a label map. A network that was shown even ones
alone loses the dark half of a vena cava or the bands of a spleen. All of it stays the organ's.

References
----------
Sheth, Fishman, "Imaging of the inferior vena cava with MDCT", AJR 2007: below the renal veins
blood comes back without contrast agent; both streams flow beside each other before they mix.
"""

import numpy as np

from app.synthesis.fields import distance_mm
from app.synthesis.scene import Scene
from app.synthesis.sites import positions_mm
from app.synthesis.tissues import Tissue

_ALONG = 0.25
"""How fast streams of blood change along the vessel, for 1 across it."""

_MIXED_WITHIN_MM = (5.0, 60.0)
"""How far above the renal veins both kinds of blood are still told apart, about."""

_THROMBUS_MM, _LUMEN_SHARE = (1.5, 9.0), 0.4
"""How thick a thrombus is, about, and how much of the aorta's radius at least stays open."""


def _part_with(scene: Scene, tissue: Tissue) -> Scene | None:
    """Give the piece of the scene that holds a tissue, and a little more; None without any."""
    window = scene.window_on(tissue, max(scene.spacing_mm))
    if window is None:
        return None
    return Scene(scene.tissues[window], scene.spacing_mm, scene.rng)


def mix_cava_blood(scene: Scene) -> None:
    """Let blood of the kidneys flow into the vena cava, in streams that mix further up."""
    rng = scene.rng
    window = scene.window_on(Tissue.INFERIOR_VENA_CAVA)
    if window is None:
        return
    kidneys = np.concatenate(
        [positions_mm(scene, kidney) for kidney in (Tissue.RIGHT_KIDNEY, Tissue.LEFT_KIDNEY)]
    )
    # Where no kidney shows, the scene lies above or below the renal veins.
    level_mm = np.median(kidneys[:, 0]) if len(kidneys) else rng.choice((-1e3, 1e3))
    level_mm += rng.normal(0.0, 8.0)
    step_z, step_y, step_x = scene.spacing_mm
    heights = np.arange(scene.tissues.shape[0]) * step_z
    mixed = (heights - level_mm) / rng.uniform(*_MIXED_WITHIN_MM)
    part = Scene(scene.tissues[window], (_ALONG * step_z, step_y, step_x), rng)
    streams = part.noise(rng.uniform(8.0, 18.0)) < mixed[window[0], None, None]
    part.turn(streams & (part.tissues == Tissue.INFERIOR_VENA_CAVA), Tissue.RENAL_BLOOD)


def line_aorta(scene: Scene) -> None:
    """Lay thrombus and plaques without lime against the wall of the aorta, thicker on one side."""
    part = _part_with(scene, Tissue.AORTA)
    if part is None:
        return
    rng = scene.rng
    aorta = part.tissues == Tissue.AORTA
    depth_mm = distance_mm(~aorta, part.spacing_mm)
    uneven = part.noise(rng.uniform(20.0, 45.0)) + rng.uniform(-0.5, 0.8)
    thick_mm = np.minimum(rng.uniform(*_THROMBUS_MM) * uneven, (1 - _LUMEN_SHARE) * depth_mm.max())
    part.turn(aorta & (depth_mm < thick_mm), Tissue.THROMBUS)


def band_spleen(scene: Scene) -> None:
    """Part the spleen into bands, which take up contrast agent at different speeds."""
    part = _part_with(scene, Tissue.SPLEEN)
    if part is None:
        return
    rng = scene.rng
    bands = np.sin(rng.uniform(3.0, 8.0) * part.noise(rng.uniform(20.0, 45.0)))
    slow = (bands > rng.uniform(-0.5, 0.7)) & (part.tissues == Tissue.SPLEEN)
    part.turn(slow, Tissue.SPLEEN_PULP)


def patch_liver(scene: Scene) -> None:
    """Let a part of the liver hold more fat than the rest, or less, with a rough border."""
    part = _part_with(scene, Tissue.LIVER)
    if part is None:
        return
    rng = scene.rng
    field = part.noise(rng.uniform(30.0, 90.0)) + rng.uniform(0.0, 0.3) * part.noise(8.0)
    patch = (field > rng.uniform(0.0, 1.5)) & (part.tissues == Tissue.LIVER)
    part.turn(patch, Tissue.LIVER_PATCH)
