"""What differs between patients beside the shape of their organs: contents, disease, operations.

Bodies are built once; these variations are drawn anew for every training patch, on the
patch's own grid. They change what the scanner sees, and the labels only where an organ
was taken out or gave way to ascites or the fat of the gallbladder's bed: a cyst in the liver
belongs to the liver.
"""

from collections.abc import Callable

import numpy as np

from app.imaging.geometry import LabelVolume, SpacingZYX
from app.synthesis.contents import (
    add_loops,
    add_wide_colon,
    coil_loops,
    distend_bowel,
    pack_loops,
    refill_bowel,
    refill_stomach,
)
from app.synthesis.crura import lay_crura
from app.synthesis.ducts import lay_bile_duct, lay_pancreatic_duct
from app.synthesis.fields import near_crossing
from app.synthesis.fissures import widen_gallbladder_bed
from app.synthesis.great_vessels import lay_azygos_veins, lay_iliac_vessels
from app.synthesis.interior import beside
from app.synthesis.jejunum import lay_jejunum
from app.synthesis.perfusion import band_spleen, line_aorta, mix_cava_blood, patch_liver
from app.synthesis.peritoneum import fat_behind_peritoneum, fat_in_chest
from app.synthesis.retroperitoneum import (
    lay_mesenteric_vessels,
    lay_renal_pelves,
    lay_renal_vessels,
    lay_splenic_vessels,
    scatter_nodes,
)
from app.synthesis.scene import Scene
from app.synthesis.spine import add_spurs, mottle_marrow
from app.synthesis.tissues import BOWEL, ORGAN_OF_TISSUE, Tissue, look_up
from app.synthesis.vessels import add_liver_vessels, add_lung_vessels, widen_bile_ducts

REMOVED_SHARE = {
    Tissue.GALLBLADDER: 0.10,
    Tissue.RIGHT_KIDNEY: 0.02,
    Tissue.LEFT_KIDNEY: 0.02,
    Tissue.SPLEEN: 0.02,
    Tissue.RIGHT_ADRENAL: 0.01,
    Tissue.LEFT_ADRENAL: 0.01,
}
"""How often an organ was taken out. Gallbladders often are; the others rather as a lesson."""

_SOFT = (Tissue.MESENTERY, Tissue.PELVIC_SOFT_TISSUE, *BOWEL, Tissue.MUSCLE, Tissue.URINE)
"""Where a mass may grow."""

_LESION_SITES = (
    Tissue.LIVER,
    Tissue.LIVER,
    Tissue.RIGHT_KIDNEY,
    Tissue.LEFT_KIDNEY,
    Tissue.SPLEEN,
    Tissue.PANCREAS,
    Tissue.RIGHT_ADRENAL,
    Tissue.LEFT_ADRENAL,
)
"""Organs that lesions are found in; the liver counts twice."""

_WALL = (Tissue.MUSCLE, Tissue.LUNG, Tissue.CARTILAGE, Tissue.CORTICAL_BONE, Tissue.FAT)
"""What liver and spleen lean against from within."""

_MEDULLA = (Tissue.RIGHT_KIDNEY_MEDULLA, Tissue.LEFT_KIDNEY_MEDULLA)

_GIVE_WAY = (Tissue.LIVER, Tissue.SPLEEN)
"""Organs that ascites, and fat of the gallbladder's bed, take the place of."""

_TENSE_SHARE, _RIM_MM = 0.6, (3.0, 24.0)
"""How much ascites comes before the wall, and how thick it is there."""

_LEFT_SHARE = (0.55, 0.95)
"""What ascites leaves of liver and spleen at least: the shrunken liver that it comes with has
seldom less than half of its volume."""


def remove_organs(scene: Scene) -> list[int]:
    """Take organs out and leave fat where they were.

    Returns
    -------
    list of int
        The organs' values.
    """
    removed = [int(o) for o, share in REMOVED_SHARE.items() if scene.rng.random() < share]
    if removed:
        table = np.arange(256, dtype=np.uint8)
        table[np.isin(ORGAN_OF_TISSUE, removed)] = Tissue.MESENTERY
        scene.tissues[...] = look_up(table, scene.tissues)
    return removed


def add_ascites(scene: Scene) -> None:
    """Fill part of the peritoneal cavity with fluid, mostly before the wall, too.

    Fluid under tension lifts liver and spleen off the abdominal wall and the diaphragm.
    Here they give way where they stand: what is left of a spleen is the crescent that
    ascites leaves of it.
    """
    outside = fat_behind_peritoneum(scene) | fat_in_chest(scene)
    fat = (scene.tissues == Tissue.MESENTERY) & ~outside
    scene.turn(fat & (scene.noise(70.0) > scene.rng.uniform(-1.5, 0.8)), Tissue.FLUID)
    if scene.rng.random() < _TENSE_SHARE:
        rim_mm = scene.rng.uniform(*_RIM_MM) * (1.0 + 0.5 * scene.noise(90.0))
        inside_mm = scene.distance_mm(_WALL)
        for parts in ((Tissue.LIVER, Tissue.LIVER_VESSEL), (Tissue.SPLEEN,)):
            organ = scene.where(parts)
            lost_share = 1.0 - scene.rng.uniform(*_LEFT_SHARE)
            deepest_mm = np.quantile(inside_mm[organ], lost_share) if organ.any() else 0.0
            scene.turn(organ & (inside_mm < np.minimum(rim_mm, deepest_mm)), Tissue.FLUID)


def add_effusion(scene: Scene) -> None:
    """Fill the back of the lungs with fluid or airless lung."""
    lung = scene.tissues == Tissue.LUNG
    rows = np.flatnonzero(lung.any((0, 2)))
    if len(rows):
        level = rows[-1] - scene.rng.uniform(0.1, 0.8) * (rows[-1] - rows[0])
        height = np.arange(lung.shape[1])[None, :, None] + 4.0 * scene.noise(40.0)
        kind = Tissue.FLUID if scene.rng.random() < 0.6 else Tissue.MASS
        scene.turn(lung & (height > level), kind)


def _radius_mm(rng: np.random.Generator, least_mm: float, most_mm: float) -> float:
    """Draw a radius: each doubling of it is as likely as the next."""
    return float(np.exp(rng.uniform(np.log(least_mm), np.log(most_mm))))


def add_masses(scene: Scene) -> None:
    """Grow one to three masses between the organs: solid and dead in part, or cysts with walls."""
    for _ in range(int(scene.rng.integers(1, 4))):
        center = scene.place(_SOFT)
        if center is None:
            return
        part, mass = scene.ball(center, _radius_mm(scene.rng, 8.0, 180.0))
        mass &= part.where((*_SOFT, Tissue.FAT))
        if scene.rng.random() < 0.6:
            part.turn(mass, Tissue.MASS)
            if scene.rng.random() < 0.5:
                part.turn(mass & (part.noise(25.0) > scene.rng.uniform(0.0, 1.5)), Tissue.CYST)
            continue
        part.turn(mass, Tissue.CYST)
        if scene.rng.random() < 0.7:
            walls = np.abs(part.noise(scene.rng.uniform(25.0, 70.0))) < 0.05
            part.turn(mass & walls, Tissue.MASS)


def add_lesions(scene: Scene) -> None:
    """Put cysts and tumors into organs."""
    for _ in range(int(scene.rng.integers(1, 6))):
        organ = _LESION_SITES[int(scene.rng.integers(len(_LESION_SITES)))]
        center = scene.place((organ,))
        if center is None:
            continue
        part, lesion = scene.ball(center, _radius_mm(scene.rng, 3.0, 28.0))
        lesion &= look_up(ORGAN_OF_TISSUE, part.tissues) == organ
        part.turn(lesion, Tissue.CYST if scene.rng.random() < 0.5 else Tissue.LESION)


def calcify(scene: Scene) -> None:
    """Lay plaques of lime into the wall of the aorta and its branches."""
    vessels = scene.where((Tissue.AORTA, Tissue.ARTERY))
    wall = vessels & beside(~vessels)
    scene.turn(wall & (scene.noise(9.0) > scene.rng.uniform(0.7, 1.8)), Tissue.CALCIFICATION)


def add_gallstones(scene: Scene) -> None:
    """Let stones lie in the lower half of the gallbladder."""
    bladder = scene.tissues == Tissue.GALLBLADDER
    rows = np.flatnonzero(bladder.any((0, 2)))
    if len(rows):
        below = np.arange(bladder.shape[1])[None, :, None] > rows.mean()
        stones = bladder & below & (scene.noise(7.0) > scene.rng.uniform(0.3, 1.5))
        scene.turn(stones, Tissue.CALCIFICATION if scene.rng.random() < 0.5 else Tissue.FOOD)


def add_kidney_stones(scene: Scene) -> None:
    """Let one to six stones lie in the kidneys."""
    for _ in range(int(scene.rng.integers(1, 7))):
        center = scene.place(_MEDULLA)
        if center is None:
            return
        part, stone = scene.ball(center, _radius_mm(scene.rng, 1.0, 7.0))
        part.turn(stone & part.where(_MEDULLA), Tissue.CALCIFICATION)


def dilate_renal_pelvis(scene: Scene) -> None:
    """Replace the medulla of a kidney by urine."""
    side = scene.rng.choice(_MEDULLA)
    scene.turn(scene.tissues == side, Tissue.CYST)


def lobulate_pancreas(scene: Scene) -> None:
    """Part the lobules of the pancreas by fat; its label stays what it was."""
    clefts = np.abs(scene.noise(scene.rng.uniform(6.0, 16.0))) < scene.rng.uniform(0.05, 0.6)
    scene.turn(clefts & (scene.tissues == Tissue.PANCREAS), Tissue.MESENTERY)


def marble_muscles(scene: Scene) -> None:
    """Part the muscles by sheets of fat."""
    sheets = np.abs(scene.noise(scene.rng.uniform(16.0, 40.0))) < scene.rng.uniform(0.03, 0.15)
    scene.turn(sheets & (scene.tissues == Tissue.MUSCLE), Tissue.FAT)


def add_strands(scene: Scene) -> None:
    """Thread vessels and inflamed strands through fat."""
    fat = scene.tissues == Tissue.MESENTERY
    node_mm = scene.rng.uniform(16.0, 34.0)
    first, second = scene.noise(node_mm), scene.noise(node_mm)
    width = 1.6 * scene.rng.uniform(1.2, 3.0) / node_mm
    for offset, share, vessel in ((0.0, 1.0, Tissue.VEIN), (0.5, 0.7, Tissue.ARTERY)):
        near, from_axis = near_crossing(fat, first - offset, second, share * width)
        near[near] = from_axis < share * width
        scene.turn(near, vessel)
    if scene.rng.random() < 0.2:
        scene.turn(fat & (np.abs(first) < 0.6 * width), Tissue.FLUID)


def add_limb(scene: Scene) -> None:
    """Lay an arm into the air: bone, muscles parted by fat, vessels, fat, skin."""
    air = scene.tissues == Tissue.AIR
    center = scene.place((Tissue.AIR,))
    if center is None:
        return
    z, y, x = (
        (np.arange(size, dtype=np.float32) - at) * step
        for size, at, step in zip(scene.tissues.shape, center, scene.spacing_mm, strict=True)
    )
    lean_y, lean_x = scene.rng.uniform(-0.5, 0.5, 2)
    off_y = y[None, :, None] - lean_y * z[:, None, None]
    off_x = x[None, None, :] - lean_x * z[:, None, None]
    radius = scene.rng.uniform(32.0, 55.0)
    fat = scene.rng.uniform(3.0, 16.0)
    # Roots are slow: they are taken where there is air and the axis may be near.
    near = air & (np.abs(off_y) < radius) & (np.abs(off_x) < radius)
    off_y, off_x = (np.broadcast_to(off, near.shape)[near] for off in (off_y, off_x))
    from_axis = np.hypot(off_y, off_x)
    parted = np.abs(scene.noise(30.0)[near]) < 0.1
    limb = scene.tissues[near]
    for inside, tissue in (
        (from_axis < radius, Tissue.SKIN),
        (from_axis < radius - 2.0, Tissue.FAT),
        ((from_axis < radius - fat) & ~parted, Tissue.MUSCLE),
        (np.hypot(off_y - 0.4 * radius, off_x) < scene.rng.uniform(2.0, 4.5), Tissue.ARTERY),
        (np.hypot(off_y - 0.4 * radius, off_x - 9.0) < scene.rng.uniform(2.0, 6.0), Tissue.VEIN),
        (from_axis < 12.0, Tissue.CORTICAL_BONE),
        (from_axis < 7.5, Tissue.TRABECULAR_BONE),
    ):
        limb[inside] = tissue
    scene.tissues[near] = limb


VARIATIONS: tuple[tuple[Callable[[Scene], None], float], ...] = (
    (lay_iliac_vessels, 0.9),
    (lay_azygos_veins, 0.7),
    (lay_mesenteric_vessels, 0.85),
    (lay_renal_vessels, 0.9),
    (lay_renal_pelves, 0.6),
    (lay_splenic_vessels, 0.85),
    (scatter_nodes, 0.5),
    (refill_bowel, 0.7),
    (distend_bowel, 0.5),
    (add_loops, 0.5),
    (pack_loops, 0.3),
    (coil_loops, 0.6),
    (lay_jejunum, 0.4),
    (add_wide_colon, 0.55),
    (refill_stomach, 1.0),
    (add_strands, 0.6),
    (marble_muscles, 0.4),
    (add_ascites, 0.15),
    (add_effusion, 0.08),
    (lay_crura, 0.9),
    (add_masses, 0.4),
    (widen_gallbladder_bed, 0.5),
    (add_lesions, 0.25),
    (calcify, 0.2),
    (add_gallstones, 0.12),
    (add_kidney_stones, 0.1),
    (dilate_renal_pelvis, 0.05),
    (add_limb, 0.12),
    (add_liver_vessels, 0.85),
    (add_lung_vessels, 0.7),
    (mottle_marrow, 0.3),
    (add_spurs, 0.3),
    (lobulate_pancreas, 0.35),
    (lay_pancreatic_duct, 0.15),
    (lay_bile_duct, 0.4),
    (widen_bile_ducts, 0.06),
    (line_aorta, 0.15),
    (mix_cava_blood, 0.5),
    (band_spleen, 0.4),
    (patch_liver, 0.15),
)
"""What may be different, in the order it is laid down, and how often it is."""


def vary(tissues: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator) -> list[int]:
    """Give a piece of a body contents, disease and operations of its own, in place.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        :class:`~app.synthesis.tissues.Tissue` values.
    spacing_mm : (z, y, x) floats
        Its grid, in mm.
    rng : numpy Generator
        Source of randomness.

    Returns
    -------
    list of int
        Values of the organs that were taken out: see :func:`unlabel`.
    """
    scene = Scene(tissues, spacing_mm, rng)
    removed = remove_organs(scene)
    for variation, share in VARIATIONS:
        if rng.random() < share:
            variation(scene)
    return removed


def unlabel(labels: LabelVolume, tissues: LabelVolume, removed: list[int]) -> None:
    """Take the labels away where an organ was taken out or gave way to fluid or fat, in place.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        Organ values as they were before :func:`vary`.
    tissues : (Z, Y, X) or (2 Z, 2 Y, 2 X) array of uint8
        What it made of them, on the grid of the labels or one twice as fine.
    removed : list of int
        What it returned.
    """
    # A label on the coarser grid stands for the middle of eight voxels, of which two opposite ones
    # tell: it is the organ's as long as any of that is left. Beside other organs fluid takes the
    # place of the fat in such a voxel, whatever a cleft or a plaque makes of the rest.
    step = tissues.shape[0] // labels.shape[0]
    gave_way, gone = np.zeros(labels.shape, bool), np.ones(labels.shape, bool)
    for first in range(step):
        every = slice(first, None, step)
        part = tissues[every, every, every]
        gave_way |= (part == Tissue.FLUID) | (part == Tissue.FAT)
        gone &= ORGAN_OF_TISSUE[part] != labels
    gave_way &= gone & np.isin(labels, _GIVE_WAY)
    labels[gave_way | np.isin(labels, removed)] = 0
