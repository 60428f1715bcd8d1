"""What differs between patients beside the shape of their organs: contents, disease, operations.

Bodies are built once; these variations are drawn anew for every training patch, on the
patch's own grid. They change what the scanner sees, and the labels only where an organ
was taken out: a cyst in the liver belongs to the liver.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import BoolVolume, FloatVolume, LabelVolume, SpacingZYX
from app.synthesis.fields import smooth_noise
from app.synthesis.interior import beside
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue

REMOVED_SHARE = {
    Tissue.GALLBLADDER: 0.10,
    Tissue.RIGHT_KIDNEY: 0.02,
    Tissue.LEFT_KIDNEY: 0.02,
    Tissue.SPLEEN: 0.02,
    Tissue.RIGHT_ADRENAL: 0.01,
    Tissue.LEFT_ADRENAL: 0.01,
}
"""How often an organ was taken out. Gallbladders often are; the others rather as a lesson."""

_SOFT = (
    Tissue.MESENTERY,
    Tissue.PELVIC_SOFT_TISSUE,
    Tissue.BOWEL_WALL,
    Tissue.BOWEL_CONTENT,
    Tissue.BOWEL_GAS,
    Tissue.COLON_WALL,
    Tissue.STOOL,
    Tissue.MUSCLE,
    Tissue.URINE,
)
"""Where a mass may grow."""

_BOWEL = (
    Tissue.BOWEL_WALL,
    Tissue.BOWEL_CONTENT,
    Tissue.BOWEL_GAS,
    Tissue.COLON_WALL,
    Tissue.STOOL,
)

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


def _marks(kinds: Iterable[Tissue]) -> npt.NDArray[np.bool_]:
    """Make a table that is true at the values of some tissues."""
    table = np.zeros(256, bool)
    table[list(kinds)] = True
    return table


@dataclass(frozen=True, slots=True)
class Scene:
    """A piece of a body about to be scanned.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Changed in place.
    spacing_mm : (z, y, x) floats
        Its grid, in mm.
    rng : numpy Generator
        Source of randomness.
    """

    tissues: LabelVolume
    spacing_mm: SpacingZYX
    rng: np.random.Generator

    def noise(self, node_mm: float) -> FloatVolume:
        """Draw a field of unit variance that changes over the given distance."""
        return smooth_noise(self.tissues.shape, self.spacing_mm, node_mm, self.rng)

    def where(self, kinds: Iterable[Tissue]) -> BoolVolume:
        """Mark the voxels of some tissues."""
        marked: BoolVolume = _marks(kinds)[self.tissues]
        return marked

    def turn(self, mask: BoolVolume, tissue: Tissue) -> None:
        """Make the marked voxels another tissue."""
        self.tissues[mask] = tissue

    def crowding(self, mask: BoolVolume, reach_mm: float) -> FloatVolume:
        """Give the share of marked voxels in a cube around each voxel, worked out coarsely."""
        coarse = mask[::2, ::2, ::2].astype(np.float32)
        size = [max(1, round(reach_mm / step)) for step in self.spacing_mm]
        share: FloatVolume = ndimage.uniform_filter(coarse, size, mode="nearest")
        for axis in range(3):
            share = share.repeat(2, axis)
        return share[tuple(slice(size) for size in mask.shape)]

    def ball(self, center: npt.NDArray[np.integer], radius_mm: float) -> BoolVolume:
        """Mark a lumpy ellipsoid."""
        stretch = self.rng.uniform(0.7, 1.4, 3)
        squared = np.zeros((1, 1, 1), np.float32)
        for axis, (size, step) in enumerate(zip(self.tissues.shape, self.spacing_mm, strict=True)):
            off = (np.arange(size, dtype=np.float32) - center[axis]) * step
            off = (off / (radius_mm * stretch[axis])) ** 2
            squared = squared + np.expand_dims(off, [a for a in range(3) if a != axis])
        lumps = 0.25 * self.noise(max(0.8 * radius_mm, 6.0))
        marked: BoolVolume = squared < 1.0 + lumps
        return marked

    def place(self, kinds: Iterable[Tissue]) -> npt.NDArray[np.int64] | None:
        """Choose a voxel of some tissues; None where the scene has none."""
        # Every third voxel along each axis tells as well where a tissue lies.
        thinned = self.tissues[::3, ::3, ::3]
        found = np.flatnonzero(_marks(kinds)[thinned])
        if not len(found):
            return None
        chosen = np.unravel_index(int(self.rng.choice(found)), thinned.shape)
        return 3 * np.array(chosen, np.int64)


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
        scene.tissues[...] = table[scene.tissues]
    return removed


def _cells(scene: Scene, node_mm: float, choices: list[Tissue]) -> LabelVolume:
    """Give every voxel one of several tissues, in pieces of about the given size."""
    field = np.abs(scene.noise(node_mm)) * (1.3 * len(choices) / 2)
    index = np.minimum(field.astype(np.uint8), len(choices) - 1)
    pieces: LabelVolume = np.array(choices, np.uint8)[index]
    return pieces


def _draw_contents(scene: Scene) -> list[Tissue]:
    """Draw what the bowel of one patient holds, most common first."""
    kinds = [Tissue.STOOL, Tissue.BOWEL_CONTENT, Tissue.BOWEL_GAS, Tissue.FOOD, Tissue.BOWEL_WALL]
    if scene.rng.random() < 0.2:
        kinds.append(Tissue.ORAL_CONTRAST)
    scene.rng.shuffle(kinds)
    return kinds[: int(scene.rng.integers(1, len(kinds) + 1))]


def _let_gas_rise(scene: Scene, contents: LabelVolume, bowel: BoolVolume) -> None:
    """Put gas above a fluid level and take it from below, in place.

    Without this a flat level under gas would be a sign of the stomach alone, and wide
    loops of colon have one as well.
    """
    rows = np.flatnonzero(bowel.any((0, 2)))
    if not len(rows):
        return
    num_z, num_y, num_x = contents.shape
    level = rows[0] + scene.rng.uniform(-0.1, 1.0) * (rows[-1] - rows[0])
    # Rounded, so that it is flat within a loop and another in the next one.
    node_mm = scene.rng.uniform(50.0, 120.0)
    steps = smooth_noise((num_z, 1, num_x), scene.spacing_mm, node_mm, scene.rng).round()
    level_of_loop = level + steps * (scene.rng.uniform(0.0, 25.0) / scene.spacing_mm[1])
    contents[contents == Tissue.BOWEL_GAS] = Tissue.BOWEL_CONTENT
    contents[np.arange(num_y)[:, None] < level_of_loop] = Tissue.BOWEL_GAS


def _fill(scene: Scene, bowel: BoolVolume, node_mm: float) -> LabelVolume:
    """Draw what lies in the bowel: pieces of about the given size, or gas above fluid."""
    contents = _cells(scene, node_mm, _draw_contents(scene))
    if scene.rng.random() < 0.45:
        _let_gas_rise(scene, contents, bowel)
    return contents


def refill_bowel(scene: Scene) -> None:
    """Give colon and small bowel other contents than the body was built with."""
    lumen = scene.where((Tissue.STOOL, Tissue.BOWEL_CONTENT, Tissue.BOWEL_GAS))
    contents = _fill(scene, lumen, scene.rng.uniform(18.0, 50.0))
    scene.tissues[lumen] = contents[lumen]


def distend_bowel(scene: Scene) -> None:
    """Blow colon and small bowel up into the fat around them, against the organs."""
    bowel = scene.where(_BOWEL)
    reach_mm = scene.rng.uniform(10.0, 45.0)
    share = scene.crowding(bowel, reach_mm) + 0.08 * scene.noise(50.0)
    grown = (scene.tissues == Tissue.MESENTERY) & (share > scene.rng.uniform(0.12, 0.4))
    contents = _fill(scene, grown | bowel, scene.rng.uniform(30.0, 80.0))
    # What was the wall between loops is inside the larger one.
    inside = grown | (bowel & (scene.crowding(bowel | grown, 9.0) > 0.9))
    scene.tissues[inside] = contents[inside]
    scene.turn(grown & beside(~(bowel | grown)), Tissue.COLON_WALL)


def add_loops(scene: Scene) -> None:
    """Wind loops of bowel through fat: where two random sheets cross, a tube runs."""
    node_mm = scene.rng.uniform(28.0, 110.0)
    first, second = scene.noise(node_mm), scene.noise(node_mm)
    # The field's slope is about 1.6 per node, so this is a distance from the tube's axis.
    from_axis_mm = np.hypot(first, second) * (node_mm / 1.6)
    radius_mm = node_mm * scene.rng.uniform(0.18, 0.4)
    wall_mm = scene.rng.uniform(1.0, 3.5)
    room = scene.tissues == Tissue.MESENTERY
    room &= scene.noise(90.0) > scene.rng.uniform(-1.2, 0.8)
    wall = Tissue.BOWEL_WALL if scene.rng.random() < 0.6 else Tissue.COLON_WALL
    scene.turn(room & (from_axis_mm < radius_mm), wall)
    lumen = room & (from_axis_mm < radius_mm - wall_mm)
    contents = _fill(scene, lumen, scene.rng.uniform(15.0, 45.0))
    scene.tissues[lumen] = contents[lumen]


def refill_stomach(scene: Scene) -> None:
    """Give stomach and duodenum other contents: empty, water, food, gas above a level."""
    for content, gas, wall in (
        (Tissue.STOMACH_CONTENT, Tissue.STOMACH_GAS, Tissue.STOMACH),
        (Tissue.DUODENUM_CONTENT, Tissue.DUODENUM_GAS, Tissue.DUODENUM),
    ):
        lumen = scene.where((content, gas))
        rows = np.flatnonzero(lumen.any((0, 2)))
        if not len(rows) or scene.rng.random() < 0.3:
            continue
        if scene.rng.random() < 0.15:
            scene.turn(lumen, wall)  # collapsed
            continue
        scene.turn(lumen, content)
        if scene.rng.random() < 0.35:
            # Nearly empty: the wall is thick and the lumen small.
            open_share = scene.crowding(lumen, scene.rng.uniform(8.0, 30.0))
            scene.turn(lumen & (open_share < scene.rng.uniform(0.4, 0.9)), wall)
            lumen &= scene.tissues == content
        elif scene.rng.random() < 0.25:
            # Empty: the folds touch, and little but their edges shows.
            scene.turn(lumen & (np.abs(scene.noise(16.0)) < scene.rng.uniform(0.3, 1.2)), wall)
            lumen &= scene.tissues == content
        if scene.rng.random() < 0.4:
            scene.turn(lumen & (scene.noise(14.0) > scene.rng.uniform(-1.5, 1.5)), Tissue.FOOD)
        level = rows[0] + scene.rng.uniform(-0.3, 1.1) * (rows[-1] - rows[0])
        above = np.arange(lumen.shape[1])[None, :, None] < level
        scene.turn(lumen & above, gas)
        if scene.rng.random() < 0.2:
            scene.turn(lumen & (scene.noise(8.0) > 1.6), gas)


def add_ascites(scene: Scene) -> None:
    """Fill part of the room between the organs with fluid."""
    fat = scene.tissues == Tissue.MESENTERY
    scene.turn(fat & (scene.noise(70.0) > scene.rng.uniform(-1.5, 0.8)), Tissue.FLUID)


def add_effusion(scene: Scene) -> None:
    """Fill the back of the lungs with fluid or airless lung."""
    lung = scene.tissues == Tissue.LUNG
    rows = np.flatnonzero(lung.any((0, 2)))
    if len(rows):
        level = rows[-1] - scene.rng.uniform(0.1, 0.8) * (rows[-1] - rows[0])
        height = np.arange(lung.shape[1])[None, :, None] + 4.0 * scene.noise(40.0)
        kind = Tissue.FLUID if scene.rng.random() < 0.6 else Tissue.MASS
        scene.turn(lung & (height > level), kind)


def add_masses(scene: Scene) -> None:
    """Grow one to three masses between the organs, dead in part."""
    for _ in range(int(scene.rng.integers(1, 4))):
        center = scene.place(_SOFT)
        if center is None:
            return
        mass = scene.ball(center, float(np.exp(scene.rng.uniform(np.log(8.0), np.log(130.0)))))
        mass &= scene.where((*_SOFT, Tissue.FAT))
        kind = Tissue.MASS if scene.rng.random() < 0.7 else Tissue.CYST
        scene.turn(mass, kind)
        if scene.rng.random() < 0.5:
            scene.turn(mass & (scene.noise(25.0) > scene.rng.uniform(0.0, 1.5)), Tissue.CYST)


def add_lesions(scene: Scene) -> None:
    """Put cysts and tumors into organs."""
    for _ in range(int(scene.rng.integers(1, 6))):
        organ = _LESION_SITES[int(scene.rng.integers(len(_LESION_SITES)))]
        center = scene.place((organ,))
        if center is None:
            continue
        lesion = scene.ball(center, float(np.exp(scene.rng.uniform(np.log(3.0), np.log(28.0)))))
        lesion &= ORGAN_OF_TISSUE[scene.tissues] == organ
        scene.turn(lesion, Tissue.CYST if scene.rng.random() < 0.5 else Tissue.LESION)


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


def dilate_renal_pelvis(scene: Scene) -> None:
    """Replace the medulla of a kidney by urine."""
    side = scene.rng.choice([Tissue.RIGHT_KIDNEY_MEDULLA, Tissue.LEFT_KIDNEY_MEDULLA])
    scene.turn(scene.tissues == side, Tissue.CYST)


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
    scene.turn(fat & (np.hypot(first, second) < width), Tissue.VEIN)
    scene.turn(fat & (np.hypot(first - 0.5, second) < 0.7 * width), Tissue.ARTERY)
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
    from_axis = np.hypot(off_y, off_x)
    radius = scene.rng.uniform(32.0, 55.0)
    fat = scene.rng.uniform(3.0, 16.0)
    parted = np.abs(scene.noise(30.0)) < 0.1
    for inside, tissue in (
        (from_axis < radius, Tissue.SKIN),
        (from_axis < radius - 2.0, Tissue.FAT),
        ((from_axis < radius - fat) & ~parted, Tissue.MUSCLE),
        (np.hypot(off_y - 0.4 * radius, off_x) < scene.rng.uniform(2.0, 4.5), Tissue.ARTERY),
        (np.hypot(off_y - 0.4 * radius, off_x - 9.0) < scene.rng.uniform(2.0, 6.0), Tissue.VEIN),
        (from_axis < 12.0, Tissue.CORTICAL_BONE),
        (from_axis < 7.5, Tissue.TRABECULAR_BONE),
    ):
        scene.turn(air & inside, tissue)


VARIATIONS: tuple[tuple[Callable[[Scene], None], float], ...] = (
    (refill_bowel, 0.7),
    (distend_bowel, 0.5),
    (refill_stomach, 1.0),
    (add_loops, 0.5),
    (add_strands, 0.6),
    (marble_muscles, 0.4),
    (add_ascites, 0.1),
    (add_effusion, 0.08),
    (add_masses, 0.2),
    (add_lesions, 0.25),
    (calcify, 0.2),
    (add_gallstones, 0.12),
    (dilate_renal_pelvis, 0.05),
    (add_limb, 0.12),
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
        Values of the organs that were taken out: they have no label any more.
    """
    scene = Scene(tissues, spacing_mm, rng)
    removed = remove_organs(scene)
    for variation, share in VARIATIONS:
        if rng.random() < share:
            variation(scene)
    return removed
