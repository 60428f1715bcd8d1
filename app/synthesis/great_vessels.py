"""What aorta and vena cava part into, the iliac vessels, and the azygos veins beside them.

Organs and surroundings come from different people, so that the aorta of a body ends in fat, and
the iliac arteries of another begin somewhere before it. A network that was never shown how a
great vessel goes on takes an iliac artery for the aorta.
"""

import numpy as np

from app.synthesis.scene import Scene
from app.synthesis.sites import Section, lay_vessel, positions_mm, section_at, step_mm
from app.synthesis.tissues import BOWEL, Tissue

_OVER = (Tissue.MESENTERY, Tissue.VEIN, Tissue.ARTERY, *BOWEL)
"""What gives way to iliac vessels: bowel was laid by people whose aorta ended elsewhere."""

_BELOW_MM, _BESIDE_MM = 60.0, 70.0
"""How far below the end of a vessel, and to its sides, another body's iliac vessels are removed."""

_ABOVE_MM = 15.0
"""How far above it they are: they begin higher than the vessel that they belong to ends."""

_DOWN_MM, _BACK_MM, _OUT_MM = (6.0, 26.0, 62.0), (0.0, 3.0, 14.0), (0.0, 17.0, 34.0)
"""Course of an iliac vessel from the end of its trunk."""

_AZYGOS_EVERY_MM = 20.0
"""Distance between the places that azygos veins are led through, about."""


def lay_iliac_vessels(scene: Scene) -> None:
    """Let aorta and vena cava part into iliac vessels where they end within the scene.

    The vessels of the bodies' own, which begin elsewhere, are removed there.
    """
    ends = [
        (kind, end)
        for kind, trunk in (
            (Tissue.VEIN, Tissue.INFERIOR_VENA_CAVA),
            (Tissue.ARTERY, Tissue.AORTA),
        )
        if (end := _lower_end(scene, trunk)) is not None
    ]
    for kind, (height_mm, section) in ends:
        _remove(scene, kind, height_mm, section)
    # The right artery crosses before the left vein: arteries come last.
    for kind, (height_mm, section) in ends:
        _part(scene, kind, height_mm, section)


def _lower_end(scene: Scene, trunk: Tissue) -> tuple[float, Section] | None:
    """Give height and section of a vessel's lower end; None where the scene does not show it."""
    points = positions_mm(scene, trunk)
    if not len(points):
        return None
    height_mm = float(points[:, 0].min())
    if height_mm <= step_mm(scene)[0]:
        return None
    # The last slices of a vessel are often a rest of it.
    section = section_at(scene, points, height_mm + 8.0)
    return None if section is None else (height_mm, section)


def _remove(scene: Scene, kind: Tissue, height_mm: float, section: Section) -> None:
    """Turn vessels of a kind around and below a place into fat."""
    low = np.array((height_mm - _BELOW_MM, section.y - _BESIDE_MM, section.x - _BESIDE_MM))
    high = np.array((height_mm + _ABOVE_MM, section.y + _BESIDE_MM, section.x + _BESIDE_MM))
    first, last = (
        np.maximum(np.rint(corner / scene.spacing_mm), 0).astype(np.int64) for corner in (low, high)
    )
    around = scene.tissues[tuple(map(slice, first, last))]
    around[around == kind] = Tissue.MESENTERY


def _part(scene: Scene, kind: Tissue, height_mm: float, section: Section) -> None:
    """Lay a right and a left vessel from the end of a trunk on downwards."""
    rng = scene.rng
    start = np.array((height_mm, section.y, section.x))
    # A cava ends below the aorta, and its branches spread from the right of the spine.
    lean = rng.uniform(-4.0, 4.0) + (6.0 if kind == Tissue.VEIN else 0.0)
    for side in (-1.0, 1.0):
        radius = section.radius * rng.uniform(0.5, 0.75)
        course = np.array([start + (6.0, 0.0, side * (section.radius - radius)), *[start] * 3])
        spread = rng.uniform(0.7, 1.3)
        course[1:, 0] -= _DOWN_MM
        course[1:, 1] += np.array(_BACK_MM) * rng.uniform(0.0, 1.5)
        course[1:, 2] += side * (radius + rng.uniform(0.0, 2.0) + spread * np.array(_OUT_MM))
        course[2:, 2] += lean
        lay_vessel(scene, course, radius, kind, over=_OVER)


def lay_azygos_veins(scene: Scene) -> None:
    """Lay azygos and hemiazygos vein beside and behind the aorta, up to where that ends."""
    rng = scene.rng
    aorta = positions_mm(scene, Tissue.AORTA)
    if not len(aorta):
        return
    top_mm = aorta[:, 0].max()
    from_mm = top_mm - rng.uniform(0.3, 0.8) * (top_mm - aorta[:, 0].min())
    num_places = max(2, round((top_mm - from_mm) / _AZYGOS_EVERY_MM) + 1)
    for side in (-1.0, 1.0):
        radius = rng.uniform(1.2, 4.0)
        behind, apart = rng.uniform(0.1, 1.2), rng.uniform(0.0, 4.0)
        course = []
        for height_mm in np.linspace(from_mm, top_mm, num_places):
            section = section_at(scene, aorta, float(height_mm))
            if section is not None:
                away = section.radius + radius + apart + rng.uniform(0.0, 1.5)
                off = np.array((0.0, behind, side)) / np.hypot(1.0, behind) * away
                course.append(np.array((height_mm, section.y, section.x)) + off)
        if len(course) > 1:
            lay_vessel(scene, course, radius, Tissue.VEIN)
