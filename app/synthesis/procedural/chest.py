"""A phantom's chest: diaphragm, lungs, airways and heart.

Everything is laid down for the reference patient (see
:mod:`app.synthesis.procedural.patient`): mm, (z, y, x), origin in the spinal canal
at the first lumbar vertebra, x to the left, y to the back, z to the head.
"""

import numpy as np

from app.synthesis.procedural.patient import Patient
from app.synthesis.procedural.torso import EVERYWHERE, SIDES, SOFT_FILL, Torso
from app.synthesis.shapes import (
    Canvas,
    Ellipsoid,
    Field,
    Tube,
    frame,
    grow,
    intersect,
    smooth_tube,
    subtract,
    unite,
)
from app.synthesis.tissues import Tissue


def paint_chest(canvas: Canvas, patient: Patient, torso: Torso) -> None:
    """Paint the diaphragm, the lungs and their vessels, the airways and the heart."""
    chest = Field(np.array([[20.0, -260.0, -200.0], [270.0, 60.0, 200.0]]), torso.cavity.depth)
    sheet = subtract(intersect(chest, torso.below_dome(0)), torso.below_dome(2.5))
    canvas.paint(sheet, Tissue.MUSCLE, over=SOFT_FILL)
    for side in SIDES:
        medial = 13.0 if side < 0 else 16.0
        lung = intersect(
            grow(chest, -2.5), torso.above_dome(0.5), _beside(medial, side), blend_mm=9
        )
        canvas.paint(lung, Tissue.LUNG, over=SOFT_FILL)
        _paint_lung_vessels(canvas, patient, side)
    _paint_heart(canvas, torso)
    trachea = smooth_tube([(400, -98, 0), (290, -72, 0), (235, -58, -2), (188, -42, -2)], 8.0)
    canvas.paint_tube(trachea.grown(2.0), Tissue.CARTILAGE)
    canvas.paint_tube(trachea, Tissue.AIRWAY)
    for side in SIDES:
        bronchus = smooth_tube([(190, -42, -2), (168, -38, side * 24), (148, -30, side * 44)],
                               [7, 6, 4])  # fmt: skip
        canvas.paint_tube(bronchus.grown(1.5), Tissue.MUSCLE)
        canvas.paint_tube(bronchus, Tissue.AIRWAY)


def _beside(x_mm: float, side: int) -> Field:
    """Give the half space on one side of the mediastinum."""
    return Field(EVERYWHERE, lambda _z, _y, x: side * x - np.float32(x_mm))


def _paint_lung_vessels(canvas: Canvas, patient: Patient, side: int) -> None:
    """Paint vessels that fan out from the hilum and thin out towards the wall."""
    rng = np.random.default_rng([int(patient.phase * 1e6), 7, side + 1])
    hilum = np.array((160.0, -42.0, side * 34.0))
    for _ in range(34):
        end = np.array((rng.uniform(65, 240), rng.uniform(-125, 30), side * rng.uniform(45, 122)))
        bend = (hilum + end) / 2 + rng.normal(0, 7, 3)
        vessel = smooth_tube([hilum, bend, end], [3.6, 2.0, 0.8], step_mm=14)
        canvas.paint_tube(vessel, Tissue.VEIN, over=(Tissue.LUNG,))
        for _ in range(2):
            twig = bend + (end - hilum) * 0.25 + rng.normal(0, 16, 3)
            branch = Tube(np.stack([bend, twig]), np.array([1.7, 0.7]))
            canvas.paint_tube(branch, Tissue.VEIN, over=(Tissue.LUNG,))


def _paint_heart(canvas: Canvas, torso: Torso) -> None:
    """Paint the heart on the diaphragm: four chambers, muscle around the left ventricle."""
    long_axis = frame((-0.45, -0.42, 0.79), (0, 0.7, 0.7))
    pericardium = unite(
        Ellipsoid((122, -98, 22), (66, 46, 48), long_axis),
        Ellipsoid((158, -76, -8), (42, 38, 40)),
        blend_mm=20,
    )
    resting = intersect(pericardium, torso.above_dome(1.5), blend_mm=10)
    canvas.paint(resting, Tissue.FAT)
    fill = grow(resting, -4)
    canvas.paint(fill, Tissue.MYOCARDIUM)
    left_ventricle = Ellipsoid((118, -86, 38), (36, 17, 20), long_axis)
    right_ventricle = Ellipsoid((112, -120, 10), (38, 17, 26), long_axis)
    right_atrium = Ellipsoid((138, -90, -30), (28, 21, 16))
    left_atrium = Ellipsoid((155, -62, 4), (19, 16, 28))
    for chamber in (left_ventricle, right_ventricle, right_atrium, left_atrium):
        canvas.paint(intersect(chamber, grow(fill, -3)), Tissue.HEART_BLOOD)
    trunk = smooth_tube([(150, -112, 12), (172, -105, 16), (190, -78, 12), (186, -66, 24)], 11.0)
    canvas.paint_tube(trunk, Tissue.HEART_BLOOD)
    cava = smooth_tube([(240, -74, -30), (200, -76, -32), (160, -82, -30)], 8.5)
    canvas.paint_tube(cava, Tissue.VEIN)
