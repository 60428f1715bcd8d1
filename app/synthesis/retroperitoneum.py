"""Vessels and lymph nodes between aorta, vena cava, pancreas, kidneys and adrenal glands.

The whole bodies lend none of them, so that a network trained without them has seen the adrenal
glands in fat that holds nothing else, and takes in patients for gland or pancreas what looks
like one there: renal vein, splenic vessels, nodes. All of them are laid into fat alone.
"""

import numpy as np
from scipy.spatial import cKDTree

from app.synthesis.scene import Scene
from app.synthesis.sites import (
    Points,
    Section,
    bins_along_x,
    celiac_height_mm,
    hilum_mm,
    lay_vessel,
    nearest,
    positions_mm,
    section_at,
    step_mm,
)
from app.synthesis.tissues import Tissue

_BIN_MM = 10.0
"""Distance from right to left between the places where vessels run along the pancreas."""

_LEAST_PANCREAS_MM = 25.0
"""What has to be seen of its body and tail for vessels to run along them."""

_GROOVE_MM, _GROOVE_STEP_MM = 14.0, 2.0
"""How far from where it is expected the mesenteric vein is led to the pancreas; places tried."""

_TOUCHES_MM, _ARTERY_MM = 2.5, 3.5
"""How far from the pancreas a vein is still in its groove, and how far off the artery's middle."""

_TO_SPLEEN_MM = 70.0
"""A spleen farther from the tail of the pancreas than this has no vessel drawn to it."""


def _vein_of_day(scene: Scene) -> Tissue:
    """Choose how bright renal veins are: they are filled before those of the legs."""
    return Tissue.PORTAL_VEIN if scene.rng.random() < 0.4 else Tissue.VEIN


def lay_renal_vessels(scene: Scene) -> None:
    """Lay renal arteries and veins, and what joins the left renal vein beside the aorta."""
    aorta = positions_mm(scene, Tissue.AORTA)
    cava = positions_mm(scene, Tissue.INFERIOR_VENA_CAVA)
    vein = _vein_of_day(scene)
    for kidney in (Tissue.LEFT_KIDNEY, Tissue.RIGHT_KIDNEY):
        hilum = hilum_mm(scene, kidney)
        if hilum is None:
            continue
        cross_mm = float(hilum[0] + scene.rng.uniform(-5.0, 20.0))
        of_aorta = section_at(scene, aorta, cross_mm)
        of_cava = section_at(scene, cava, cross_mm)
        if of_aorta is not None and kidney == Tissue.LEFT_KIDNEY:
            _lay_left_vein(scene, hilum, cross_mm, of_aorta, of_cava, vein)
        if of_cava is not None and kidney == Tissue.RIGHT_KIDNEY:
            start = np.array((cross_mm, of_cava.y, of_cava.x))
            lay_vessel(scene, np.stack([start, hilum]), scene.rng.uniform(3.5, 6.0), vein)
        if of_aorta is not None:
            behind = of_cava if kidney == Tissue.RIGHT_KIDNEY else None
            _lay_renal_artery(scene, hilum, cross_mm, of_aorta, behind)


def _lay_left_vein(
    scene: Scene, hilum: Points, cross_mm: float, aorta: Section, cava: Section | None, vein: Tissue
) -> None:
    """Lay the left renal vein, which crosses before the aorta, and its tributaries."""
    rng = scene.rng
    radius = rng.uniform(3.5, 6.5)
    narrowed = radius * rng.uniform(0.45, 0.8)
    before = aorta.y - aorta.radius - narrowed - rng.uniform(0.0, 2.0)
    beside = np.array(
        (
            cross_mm - rng.uniform(0.0, 5.0),
            aorta.y - rng.uniform(0.2, 1.0) * aorta.radius,
            aorta.x + aorta.radius + radius + rng.uniform(2.0, 8.0),
        )
    )
    end = (
        (cross_mm, before, aorta.x - aorta.radius - 8.0)
        if cava is None
        else (cross_mm + rng.uniform(0.0, 5.0), cava.y, cava.x)
    )
    path = [hilum, beside, (cross_mm, before, aorta.x), end]
    lay_vessel(scene, np.array(path), [0.8 * radius, radius, narrowed, radius], vein)
    gland = positions_mm(scene, Tissue.LEFT_ADRENAL)
    if len(gland) and rng.random() < 0.7:
        lay_vessel(scene, [gland[gland[:, 0].argmin()], beside], rng.uniform(1.0, 2.2), vein)
    # Gonadal, lumbar and hemiazygos veins run upright beside the aorta.
    for _ in range(int(rng.integers(0, 3))):
        down = np.array((-rng.uniform(20.0, 60.0), rng.uniform(-2.0, 10.0), rng.uniform(-5.0, 8.0)))
        bend = rng.normal(0.0, 3.0, 3)
        lay_vessel(
            scene,
            [beside, beside + 0.5 * down + bend, beside + down],
            rng.uniform(1.0, 2.8),
            Tissue.VEIN,
        )


def _lay_renal_artery(
    scene: Scene, hilum: Points, cross_mm: float, aorta: Section, cava: Section | None
) -> None:
    """Lay one renal artery or two; the right one runs behind the vena cava."""
    rng = scene.rng
    side = np.sign(hilum[2] - aorta.x)
    for radius, spread_mm in ((rng.uniform(2.0, 3.3), 6.0), (rng.uniform(1.2, 2.2), 18.0)):
        start = (cross_mm + rng.normal(0.0, spread_mm), aorta.y, aorta.x + side * aorta.radius)
        away_mm = aorta.radius + rng.uniform(10.0, 18.0)
        way = (
            (start[0], aorta.y + rng.uniform(0.0, 6.0), aorta.x + side * away_mm)
            if cava is None
            else (start[0], cava.y + cava.radius + radius + 1.0, cava.x)
        )
        end = hilum + np.array((0.5 * rng.normal(0.0, spread_mm), rng.uniform(0.0, 5.0), 0.0))
        lay_vessel(scene, np.array([start, way, end]), radius, Tissue.ARTERY)
        if rng.random() < 0.75:  # one kidney in four has a second, thinner one
            return


def lay_renal_pelves(scene: Scene) -> None:
    """Lay the pelvis of each kidney into the fat of its hilum, and the ureter down from there.

    A pelvis outside the kidney is wide in some people, and no part of the organ's label.
    """
    rng = scene.rng
    for kidney in (Tissue.LEFT_KIDNEY, Tissue.RIGHT_KIDNEY):
        hilum = hilum_mm(scene, kidney)
        if hilum is None:
            continue
        side = 1.0 if kidney == Tissue.LEFT_KIDNEY else -1.0
        middle = positions_mm(scene, kidney).mean(0)
        inside = np.array((hilum[0], hilum[1], middle[2]))
        widest = rng.uniform(3.0, 14.0)
        outside = hilum + (-rng.uniform(2.0, 10.0), rng.uniform(-5.0, 3.0), 0.0)
        outside[2] -= side * rng.uniform(6.0, 16.0)
        ureter = np.repeat(outside[None], 3, axis=0)
        ureter[:, 0] -= (22.0, 55.0, 95.0)
        ureter[:, 1] += rng.uniform(-6.0, 4.0, 3)
        ureter[:, 2] -= side * np.cumsum(rng.uniform(2.0, 8.0, 3))
        thin = rng.uniform(1.2, 3.0)
        course = np.concatenate([inside[None], hilum[None], outside[None], ureter])
        radii = [0.6 * widest, 0.8 * widest, widest, max(0.3 * widest, thin), thin, thin]
        lay_vessel(scene, course, radii, Tissue.URINE, over=(Tissue.MESENTERY, Tissue.FAT))


def lay_splenic_vessels(scene: Scene) -> None:
    """Lay the splenic vein behind the pancreas' body and tail, and the winding artery above it."""
    rng = scene.rng
    pancreas, aorta = positions_mm(scene, Tissue.PANCREAS), positions_mm(scene, Tissue.AORTA)
    if not len(pancreas):
        return
    of_aorta = section_at(scene, aorta, float(np.median(pancreas[:, 0])))
    if of_aorta is None:
        return
    # Positions are thinned: the surface lies half a step behind the last of them.
    surface_mm = 0.5 * step_mm(scene)[1]
    back, above = _along_pancreas(pancreas, of_aorta.x - 10.0, surface_mm)
    if len(back) < 2 or back[-1, 2] - back[0, 2] < _LEAST_PANCREAS_MM:
        return
    spleen = positions_mm(scene, Tissue.SPLEEN)
    if len(spleen):
        away_mm = np.linalg.norm(spleen - back[-1], axis=1)
        if away_mm.min() < _TO_SPLEEN_MM:
            end = spleen[away_mm.argmin()][None]
            back, above = np.concatenate([back, end]), np.concatenate([above, end])
    radius = rng.uniform(3.0, 5.0)
    vein = back + rng.normal(0.0, 1.5, back.shape)
    vein[:, 1] += radius * rng.uniform(0.2, 1.2)
    lay_vessel(scene, vein, radius, Tissue.PORTAL_VEIN)
    origin = np.array([(above[0, 0], of_aorta.y - of_aorta.radius, of_aorta.x)])
    artery = np.concatenate([origin, above[above[:, 2] > of_aorta.x + 5.0]])
    if len(artery) > 1:
        lay_vessel(scene, _winding(scene, artery), rng.uniform(1.8, 3.2), Tissue.ARTERY)


def _along_pancreas(pancreas: Points, from_x: float, surface_mm: float) -> tuple[Points, Points]:
    """Give places behind and above the pancreas, from a place on to the left."""
    back, above = [], []
    for piece in bins_along_x(pancreas, from_x, _BIN_MM):
        if len(piece) > 2:
            z, _, x = piece.mean(0)
            y = piece[:, 1].max() + surface_mm
            back.append((z, y, x))
            above.append((np.quantile(piece[:, 0], 0.95), y, x))
    return np.reshape(back, (-1, 3)), np.reshape(above, (-1, 3))


def _winding(scene: Scene, path: Points) -> Points:
    """Let a course swing up and down, and half as far to front and back."""
    along = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
    places = np.linspace(0.0, along[-1], max(2, round(along[-1] / 6.0)))
    wound = np.stack([np.interp(places, along, column) for column in path.T], axis=1)
    turn = 2 * np.pi * places / scene.rng.uniform(25.0, 60.0)
    # Both ends stay where they are.
    swing = scene.rng.uniform(0.0, 8.0) * np.sin(np.pi * places / max(along[-1], 1e-6))
    wound[:, 0] += swing * np.sin(turn)
    wound[:, 1] += 0.5 * swing * np.cos(turn)
    return wound


def lay_mesenteric_vessels(scene: Scene) -> None:
    """Lay celiac trunk and superior mesenteric artery before the aorta, and the portal vein.

    The vein runs up beside the artery, in the groove of the pancreas where that shows, and on to
    the liver. The body's own portal vein, which passes where another's pancreas lay, is removed.
    """
    rng = scene.rng
    celiac_mm = celiac_height_mm(scene)
    if celiac_mm is None:
        return
    aorta = positions_mm(scene, Tissue.AORTA)
    of_aorta = section_at(scene, aorta, celiac_mm)
    if of_aorta is None:
        return
    front = np.array((celiac_mm, of_aorta.y - of_aorta.radius, of_aorta.x))
    tip = front + (-rng.uniform(0.0, 8.0), -rng.uniform(14.0, 24.0), rng.normal(0.0, 2.0))
    lay_vessel(scene, [front, tip], rng.uniform(2.5, 3.8), Tissue.ARTERY)
    # The trunk parts in the common hepatic artery, to the right, and the left gastric one, upwards.
    for reach in ((rng.uniform(-5, 10), -rng.uniform(0, 10), -rng.uniform(25, 45)), (25, 2, 8)):
        lay_vessel(scene, [tip, tip + reach], rng.uniform(1.0, 2.6), Tissue.ARTERY)
    # The mesenteric artery leaves the aorta at a sharp angle and goes on down before it.
    down = np.array((0.0, 8.0, 35.0, 70.0, 105.0))
    away = np.array((0.0, *np.sort(rng.uniform(8.0, 26.0, 4))))
    artery = np.repeat(front[None], len(down), axis=0)
    artery[:, 0] -= rng.uniform(10.0, 20.0) + down
    artery[:, 1] -= away
    artery[1:, 2] += rng.normal(0.0, 3.0, len(down) - 1)
    # The aorta below leans: what runs before it leans with it.
    for place in artery:
        below = section_at(scene, aorta, float(place[0]))
        if below is not None:
            place[1:] += (below.y - below.radius, below.x) - front[1:]
    lay_vessel(scene, artery, rng.uniform(2.8, 4.2), Tissue.ARTERY)
    scene.turn(scene.tissues == Tissue.PORTAL_VEIN, Tissue.MESENTERY)
    radius = rng.uniform(3.5, 7.5)
    vein = artery[1:] + (0.0, -rng.uniform(0.0, 5.0), -rng.uniform(9.0, 15.0))
    vein = _in_groove(scene, vein, artery[1:], radius)[::-1]
    hilum = _portal_course(scene, celiac_mm)
    if hilum is None:
        lay_vessel(scene, vein, radius, Tissue.PORTAL_VEIN)
        return
    radii = [0.85 * radius] * (len(vein) - 1) + [radius] * 3
    lay_vessel(scene, np.concatenate([vein, hilum]), radii, Tissue.PORTAL_VEIN)


def _in_groove(scene: Scene, course: Points, artery: Points, radius: float) -> Points:
    """Move each place of a vein in its plane until it touches the pancreas, if that is near.

    It stays beside the artery, of which a place is given for each of its own.
    """
    pancreas = positions_mm(scene, Tissue.PANCREAS)
    if not len(pancreas):
        return course
    steps = np.arange(-_GROOVE_MM, _GROOVE_MM + 1e-6, _GROOVE_STEP_MM)
    offsets = np.stack(np.meshgrid([0.0], steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    # The nearest first: of the places that touch the pancreas the first is taken.
    offsets = offsets[np.argsort((offsets**2).sum(1), kind="stable")]
    tree = cKDTree(pancreas)
    moved = course.copy()
    for place, beside in zip(moved, artery, strict=True):
        places = place + offsets
        away_mm, _ = tree.query(places)
        is_free = np.linalg.norm(places - beside, axis=1) > radius + _ARTERY_MM
        touching = (away_mm > radius) & (away_mm < radius + _TOUCHES_MM)
        found = np.flatnonzero(is_free & touching)
        if len(found):
            place[:] = places[found[0]]
    return moved


def _portal_course(scene: Scene, celiac_mm: float) -> Points | None:
    """Give two places on the portal vein: before the vena cava, and where it enters the liver."""
    rng = scene.rng
    cava = section_at(scene, positions_mm(scene, Tissue.INFERIOR_VENA_CAVA), celiac_mm)
    liver = positions_mm(scene, Tissue.LIVER)
    if cava is None or not len(liver):
        return None
    before_mm = cava.y - cava.radius - rng.uniform(6.0, 14.0)
    before = np.array(
        (celiac_mm - rng.uniform(0.0, 8.0), before_mm, cava.x + rng.uniform(0.0, 10.0))
    )
    expected = before + (rng.uniform(12.0, 25.0), rng.uniform(-12.0, 0.0), -rng.uniform(12.0, 25.0))
    return np.stack([before, nearest(liver, expected)])


def scatter_nodes(scene: Scene) -> None:
    """Scatter lymph nodes and ganglia around the aorta and the adrenal glands."""
    rng = scene.rng
    around = [Tissue.AORTA, Tissue.LEFT_ADRENAL, Tissue.RIGHT_ADRENAL]
    celiac_mm = celiac_height_mm(scene)
    if celiac_mm is None:
        return
    sites = np.concatenate([positions_mm(scene, organ) for organ in around])
    sites = sites[np.abs(sites[:, 0] - celiac_mm + 20.0) < 60.0]
    if not len(sites):
        return
    for _ in range(int(rng.integers(3, 17))):
        toward = rng.standard_normal(3)
        toward *= rng.uniform(6.0, 28.0) / np.linalg.norm(toward)
        node = sites[int(rng.integers(len(sites)))] + toward
        longer = node + rng.normal(0.0, 2.5, 3)
        lay_vessel(scene, [node, longer], rng.uniform(1.2, 4.0), Tissue.PELVIC_SOFT_TISSUE)
