"""What stomach and bowel hold on the day of the scan, and how they lie in the fat.

Like all that :mod:`app.synthesis.variation` draws, it changes what the scanner sees and no
label: what lies in the stomach belongs to it, and bowel grows only where no organ is.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import BoolVolume, FloatVolume, LabelVolume
from app.synthesis.fields import near_crossing
from app.synthesis.interior import beside
from app.synthesis.peritoneum import within_peritoneum
from app.synthesis.scene import Scene
from app.synthesis.tissues import BOWEL, Tissue, look_up

FED_BOWEL = (*BOWEL, Tissue.FOOD, Tissue.ORAL_CONTRAST)
"""Food and contrast agent lie in the stomach, too, which is filled after the bowel."""

BESIDE_BOWEL = (
    Tissue.RIGHT_KIDNEY,
    Tissue.LEFT_KIDNEY,
    Tissue.LIVER,
    Tissue.STOMACH,
    Tissue.PANCREAS,
    Tissue.SPLEEN,
    Tissue.GALLBLADDER,
    Tissue.DUODENUM,
)
"""Organs that packed bowel is laid against, where it is easily taken for them."""

BESIDE_COLON = (
    *BESIDE_BOWEL,
    *[Tissue.STOMACH] * 5,
    *[Tissue.RIGHT_KIDNEY] * 3,
    *[Tissue.LEFT_KIDNEY],
)
"""Organs that wide colon is laid against; the stomach counts six times, the right kidney four
times: cecum and ascending colon, full of what is as dark as it, lie before and beside it."""

_GAS_BESIDE_STOMACH, _GAS_ELSEWHERE = 0.48, 0.25
"""How many stretches of wide colon hold gas alone: those at the front more than others."""


def _cells(scene: Scene, node_mm: float, choices: list[Tissue]) -> LabelVolume:
    """Give every voxel one of several tissues, in pieces of about the given size."""
    field = np.abs(scene.noise(node_mm)) * (1.3 * len(choices) / 2)
    table = np.full(256, choices[-1], np.uint8)
    table[: len(choices)] = choices
    return look_up(table, field.astype(np.uint8))


def _draw_contents(scene: Scene) -> list[Tissue]:
    """Draw what the bowel of one patient holds, most common first."""
    kinds = [
        Tissue.STOOL,
        Tissue.BOWEL_CONTENT,
        Tissue.BOWEL_FLUID,
        Tissue.BOWEL_GAS,
        Tissue.FOOD,
        Tissue.BOWEL_WALL,
    ]
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
    level = rows[0] + scene.rng.uniform(-0.1, 1.0) * (rows[-1] - rows[0])
    # Rounded, so that it is flat within a loop and another in the next one.
    node_mm = scene.rng.uniform(50.0, 120.0)
    steps = scene.noise_of_lines(node_mm).round()
    level_of_loop = level + steps * (scene.rng.uniform(0.0, 25.0) / scene.spacing_mm[1])
    contents[contents == Tissue.BOWEL_GAS] = Tissue.BOWEL_CONTENT
    contents[np.arange(contents.shape[1])[:, None] < level_of_loop] = Tissue.BOWEL_GAS


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


@within_peritoneum
def distend_bowel(scene: Scene) -> None:
    """Blow colon and small bowel up into the fat around them, against the organs."""
    bowel = scene.where(FED_BOWEL)
    reach_mm = scene.rng.uniform(10.0, 45.0)
    share = scene.crowding(bowel, reach_mm) + 0.08 * scene.noise(50.0)
    grown = (scene.tissues == Tissue.MESENTERY) & (share > scene.rng.uniform(0.12, 0.4))
    contents = _fill(scene, grown | bowel, scene.rng.uniform(30.0, 80.0))
    # What was the wall between loops is inside the larger one.
    inside = grown | (bowel & (scene.crowding(bowel | grown, 9.0) > 0.9))
    scene.tissues[inside] = contents[inside]
    scene.turn(grown & beside(~(bowel | grown)), Tissue.COLON_WALL)


def _near_axis(
    room: BoolVolume, first: FloatVolume, second: FloatVolume, node_mm: float, radius_mm: float
) -> tuple[BoolVolume, npt.NDArray[np.float32]]:
    """Mark what may lie in a tube where two random sheets cross, and tell its distance in mm."""
    # The field's slope is about 1.6 per node, so this is a distance from the tube's axis. What
    # rounding may add to it is far less than the millionth more that is looked at.
    near, from_axis = near_crossing(room, first, second, 1.000001 * radius_mm * 1.6 / node_mm)
    return near, from_axis * (node_mm / 1.6)


def _part_of(near: BoolVolume, chosen: npt.NDArray[np.bool_]) -> BoolVolume:
    """Give the mask of some of the voxels that a mask holds."""
    part = near.copy()
    part[near] = chosen
    return part


@within_peritoneum
def add_loops(scene: Scene) -> None:
    """Wind loops of bowel through fat: where two random sheets cross, a tube runs."""
    node_mm = scene.rng.uniform(28.0, 110.0)
    first, second = scene.noise(node_mm), scene.noise(node_mm)
    radius_mm = node_mm * scene.rng.uniform(0.18, 0.4)
    wall_mm = scene.rng.uniform(1.0, 3.5)
    room = scene.tissues == Tissue.MESENTERY
    room &= scene.noise(90.0) > scene.rng.uniform(-1.2, 0.8)
    wall = Tissue.BOWEL_WALL if scene.rng.random() < 0.6 else Tissue.COLON_WALL
    near, from_axis_mm = _near_axis(room, first, second, node_mm, radius_mm)
    scene.turn(_part_of(near, from_axis_mm < radius_mm), wall)
    lumen = _part_of(near, from_axis_mm < radius_mm - wall_mm)
    contents = _fill(scene, lumen, scene.rng.uniform(15.0, 45.0))
    scene.tissues[lumen] = contents[lumen]


def _fill_evenly(scene: Scene, lumen: BoolVolume, gas_share: float) -> LabelVolume:
    """Draw one content for a whole stretch of bowel: gas alone, or what often has gas above it."""
    kind = Tissue.BOWEL_GAS
    if scene.rng.random() >= gas_share:
        kinds = (Tissue.BOWEL_FLUID, Tissue.STOOL, Tissue.FOOD, Tissue.ORAL_CONTRAST)
        kind = Tissue(scene.rng.choice(kinds, p=(0.54, 0.20, 0.13, 0.13)))
    contents = np.full(lumen.shape, kind, np.uint8)
    if kind != Tissue.BOWEL_GAS and scene.rng.random() < 0.5:
        _let_gas_rise(scene, contents, lumen)
    return contents


@within_peritoneum
def add_wide_colon(scene: Scene) -> None:
    """Lay one to three wide stretches of colon against organs.

    The transverse colon lies before stomach and liver, its bends below liver and spleen; in
    a patient on the back it is the part that gas gathers in.
    """
    room = (Tissue.MESENTERY, *FED_BOWEL)
    for _ in range(int(scene.rng.integers(1, 4))):
        organ = scene.rng.choice(BESIDE_COLON)
        center = scene.place(room, near=organ)
        if center is None:
            continue
        radius_mm = scene.rng.uniform(16.0, 36.0)
        part, depth_mm = scene.tube(center, radius_mm, length_mm=scene.rng.uniform(0.0, 220.0))
        colon = part.where(room) & (depth_mm > 0)
        # An organ that dents the colon still has the colon's wall before it.
        lumen = colon & (depth_mm > scene.rng.uniform(1.0, 3.0)) & ~beside(~colon)
        if scene.rng.random() < 0.6:
            lumen &= ~_haustral_folds(part, depth_mm, radius_mm)
        part.turn(colon, Tissue.COLON_WALL)
        gas_share = _GAS_BESIDE_STOMACH if organ == Tissue.STOMACH else _GAS_ELSEWHERE
        contents = _fill_evenly(part, lumen, gas_share)
        part.tissues[lumen] = contents[lumen]


def _haustral_folds(scene: Scene, depth_mm: FloatVolume, radius_mm: float) -> BoolVolume:
    """Mark thin folds that reach from the colon's wall towards its middle, but not through it."""
    node_mm = scene.rng.uniform(25.0, 45.0)
    # The field's slope is about 1.6 per node, so this is a distance from a sheet.
    from_sheet_mm = np.abs(scene.noise(node_mm)) * (node_mm / 1.6)
    thin: BoolVolume = from_sheet_mm < scene.rng.uniform(1.0, 2.0)
    return thin & (depth_mm < scene.rng.uniform(0.3, 0.7) * radius_mm)


@within_peritoneum
def pack_loops(scene: Scene) -> None:
    """Pack loops of small bowel against an organ: collapsed, feathery or full of fluid."""
    organ = scene.where((scene.rng.choice(BESIDE_BOWEL),))
    room = (scene.tissues == Tissue.MESENTERY) & (scene.crowding(organ, 60.0) > 0)
    if not room.any():
        return
    radius_mm = scene.rng.uniform(8.0, 17.0)
    node_mm = radius_mm * scene.rng.uniform(1.3, 2.6)
    first, second = scene.noise(node_mm), scene.noise(node_mm)
    near, from_axis_mm = _near_axis(room, first, second, node_mm, radius_mm)
    scene.turn(_part_of(near, from_axis_mm < radius_mm), Tissue.BOWEL_WALL)
    if scene.rng.random() < 0.35:
        return  # collapsed: wall against wall
    lumen = _part_of(near, from_axis_mm < radius_mm - scene.rng.uniform(1.5, 4.0))
    contents = np.full(lumen.shape, Tissue.BOWEL_FLUID, np.uint8)
    if scene.rng.random() < 0.2:
        contents = _fill(scene, lumen, scene.rng.uniform(15.0, 45.0))
    if scene.rng.random() < 0.5:
        lumen &= scene.noise(scene.rng.uniform(4.0, 7.0)) < scene.rng.uniform(-0.3, 1.0)
    scene.tissues[lumen] = contents[lumen]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loops:
    """What the loops of one convolute have in common; lengths in mm."""

    radius_mm: float
    wall_mm: float
    gap_mm: float
    content: Tissue
    gas_share: float
    fold_limit: float
    """Folds fill the lumen where noise is above this."""


def _draw_loops(rng: np.random.Generator) -> _Loops:
    """Draw them; in a third wall lies against wall, in half of the others folds show."""
    kinds = (Tissue.BOWEL_FLUID, Tissue.BOWEL_CONTENT, Tissue.FOOD, Tissue.ORAL_CONTRAST)
    radius_mm = rng.uniform(8.0, 16.0)
    is_collapsed = rng.random() < 0.35
    return _Loops(
        radius_mm=radius_mm,
        wall_mm=radius_mm if is_collapsed else rng.uniform(1.2, 4.0),
        gap_mm=rng.uniform(0.5, 4.0),
        content=Tissue(rng.choice(kinds, p=(0.5, 0.32, 0.08, 0.1))),
        gas_share=float(rng.choice((0.0, 0.3))),
        fold_limit=rng.uniform(-0.3, 1.0) if rng.random() < 0.5 else np.inf,
    )


@within_peritoneum
def coil_loops(scene: Scene) -> None:
    """Coil short loops of small bowel beside an organ, fat between them, as jejunum lies.

    Loops of soft tissue next to pancreas and kidneys are what an unenhanced scan shows there, and
    are taken for them by who has only seen fat in that place.
    """
    room = (Tissue.MESENTERY, *FED_BOWEL)
    start = scene.place(room, near=scene.rng.choice(BESIDE_BOWEL))
    if start is None:
        return
    loops = _draw_loops(scene.rng)
    _lay_loop(scene, start, room, loops)
    centers = [start]
    for _ in range(int(scene.rng.integers(5, 35))):
        # The next one lies beside any of those before it, where no organ is.
        toward = scene.rng.standard_normal(3)
        toward *= 2.0 * loops.radius_mm / np.linalg.norm(toward)
        step = np.rint(toward / np.array(scene.spacing_mm)).astype(np.int64)
        center = centers[int(scene.rng.integers(len(centers)))] + step
        center = np.clip(center, 0, np.array(scene.tissues.shape) - 1)
        if scene.tissues[tuple(center)] in room:
            _lay_loop(scene, center, room, loops)
            centers.append(center)


def _lay_loop(
    scene: Scene, center: npt.NDArray[np.int64], room: tuple[Tissue, ...], loops: _Loops
) -> None:
    """Lay one loop with its rim of fat where there is room."""
    radius_mm = loops.radius_mm * scene.rng.uniform(0.75, 1.25)
    length_mm = scene.rng.uniform(0.0, 4.0) * radius_mm
    part, at = scene.around(center, 0.5 * length_mm + 1.5 * radius_mm + loops.gap_mm)
    part, depth_mm = part.tube(at, radius_mm, length_mm, margin_mm=loops.gap_mm)
    free = part.where(room)
    part.turn(free & (depth_mm > -loops.gap_mm), Tissue.MESENTERY)
    loop = free & (depth_mm > 0)
    part.turn(loop, Tissue.BOWEL_WALL)
    lumen = loop & (depth_mm > loops.wall_mm)
    if not lumen.any():
        return
    part.turn(lumen & (part.noise(scene.rng.uniform(4.0, 7.0)) < loops.fold_limit), loops.content)
    if scene.rng.random() < loops.gas_share:
        row = np.arange(lumen.shape[1])[None, :, None]
        part.turn(lumen & (row < _level(part, lumen, 0.0, 0.9)), Tissue.BOWEL_GAS)


def _level(scene: Scene, lumen: BoolVolume, low: float, high: float) -> float:
    """Draw the height of a fluid level, as a row; 0 and 1 are the lumen's front and back."""
    rows = np.flatnonzero(lumen.any((0, 2)))
    return float(rows[0] + scene.rng.uniform(low, high) * (rows[-1] - rows[0]))


def _narrow(scene: Scene, lumen: BoolVolume, wall: Tissue) -> BoolVolume:
    """Close part of a hollow organ by its wall or its folds, and give what stays open."""
    closed = np.zeros_like(lumen)
    if scene.rng.random() < 0.35:
        # Nearly empty: the wall is thick and the lumen small.
        open_share = scene.crowding(lumen, scene.rng.uniform(8.0, 30.0))
        closed = lumen & (open_share < scene.rng.uniform(0.4, 0.9))
    elif scene.rng.random() < 0.25:
        # Empty: the folds touch, and little but their edges shows.
        closed = lumen & (np.abs(scene.noise(16.0)) < scene.rng.uniform(0.3, 1.2))
    scene.turn(closed, wall)
    return lumen & ~closed


def _serve(scene: Scene, lumen: BoolVolume, gas: Tissue) -> None:
    """Put a meal, contrast agent and air into a lumen full of water."""
    row = np.arange(lumen.shape[1])[None, :, None]
    gas_level = _level(scene, lumen, -0.3, 1.1)
    if scene.rng.random() < 0.4:
        scene.turn(lumen & (scene.noise(14.0) > scene.rng.uniform(-1.5, 1.5)), Tissue.FOOD)
        if scene.rng.random() < 0.5:  # air swallowed with it
            scene.turn(lumen & (scene.noise(6.0) > scene.rng.uniform(1.2, 2.0)), gas)
    if scene.rng.random() < 0.12:
        # Contrast agent is heavy: it lies below what else there is.
        scene.turn(lumen & (row > _level(scene, lumen, -0.2, 0.9)), Tissue.ORAL_CONTRAST)
    scene.turn(lumen & (row < gas_level), gas)
    if scene.rng.random() < 0.2:
        scene.turn(lumen & (scene.noise(8.0) > 1.6), gas)


def refill_stomach(scene: Scene) -> None:
    """Give stomach and duodenum other contents: empty, water, food, gas above a level."""
    for content, gas, wall in (
        (Tissue.STOMACH_CONTENT, Tissue.STOMACH_GAS, Tissue.STOMACH),
        (Tissue.DUODENUM_CONTENT, Tissue.DUODENUM_GAS, Tissue.DUODENUM),
    ):
        lumen = scene.where((content, gas))
        if not lumen.any() or scene.rng.random() < 0.3:
            continue
        if scene.rng.random() < 0.15:
            scene.turn(lumen, wall)  # collapsed, or around a few bubbles alone
            if scene.rng.random() < 0.6:
                scene.turn(lumen & (scene.noise(8.0) > scene.rng.uniform(1.3, 2.2)), gas)
            continue
        scene.turn(lumen, content)
        lumen = _narrow(scene, lumen, wall)
        if lumen.any():
            _serve(scene, lumen, gas)
