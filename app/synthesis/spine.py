"""What years do to the spine: spurs, patchy marrow, and how dense bones are.

Bodies are built with bones of one kind. On real scans a bone without much lime is taken for
the aorta beside it.

References
----------
Jang et al., "Opportunistic osteoporosis screening at routine abdominal and thoracic CT:
normative L1 trabecular attenuation values in more than 20 000 adults", Radiology 2019.
"""

from dataclasses import replace

import numpy as np

from app.synthesis.appearance import Appearance, draw_appearance
from app.synthesis.scene import Scene
from app.synthesis.tissues import Tissue

_SPUR_ROOM = (Tissue.TRABECULAR_BONE, Tissue.CORTICAL_BONE, Tissue.DISC, Tissue.MESENTERY)


def add_spurs(scene: Scene) -> None:
    """Grow spurs on the vertebrae near the aorta, with hard bone below them."""
    for _ in range(int(scene.rng.integers(1, 5))):
        center = scene.place((Tissue.CORTICAL_BONE,), near=Tissue.AORTA, reach_mm=25.0)
        if center is None:
            return
        radius_mm = scene.rng.uniform(3.0, 9.0)
        part, at = scene.around(center, 1.5 * radius_mm)
        part, spur = part.ball(at, radius_mm)
        part.turn(spur & part.where(_SPUR_ROOM), Tissue.CORTICAL_BONE)


def mottle_marrow(scene: Scene) -> None:
    """Put patches of fat, blood-forming marrow, growths or hard bone into bones near the aorta."""
    kinds = (Tissue.FAT, Tissue.DISC, Tissue.LESION, Tissue.CORTICAL_BONE)
    center = scene.place((Tissue.TRABECULAR_BONE,), near=Tissue.AORTA, reach_mm=40.0)
    if center is None:
        return
    part, _ = scene.around(center, scene.rng.uniform(30.0, 90.0))
    patches = part.noise(scene.rng.uniform(6.0, 24.0)) > scene.rng.uniform(0.3, 1.8)
    part.turn(patches & (part.tissues == Tissue.TRABECULAR_BONE), scene.rng.choice(kinds))


def draw_aged_appearance(rng: np.random.Generator) -> Appearance:
    """Draw the look of one scan, and the years of the patient's bones with it."""
    return age_bones(draw_appearance(rng), rng)


def age_bones(look: Appearance, rng: np.random.Generator) -> Appearance:
    """Give the bones of a scan the HU of a patient's years.

    Parameters
    ----------
    look : Appearance
        Not changed.
    rng : numpy Generator

    Returns
    -------
    Appearance
        Spongy bone loses 2.5 HU a year, with 40 HU between patients of one age; its cortex,
        which is thinner than a voxel, is brighter by what its thickness decides.
    """
    years = np.clip(rng.normal(60.0, 17.0), 20.0, 95.0)
    spongy = max(226.0 - 2.5 * (years - 25.0) + rng.normal(0.0, 40.0), 10.0)
    hu = look.hu.copy()
    hu[Tissue.TRABECULAR_BONE] = spongy
    hu[Tissue.CORTICAL_BONE] = spongy + rng.uniform(150.0, 800.0)
    return replace(look, hu=hu)
