"""A phantom's bowel: the frame of the colon and the loops inside it.

Everything is laid down for the reference patient (see
:mod:`app.synthesis.procedural.patient`): mm, (z, y, x), origin in the spinal canal
at the first lumbar vertebra, x to the left, y to the back, z to the head.
"""

from dataclasses import replace

import numpy as np

from app.synthesis.procedural.patient import Patient
from app.synthesis.procedural.torso import SOFT_FILL
from app.synthesis.shapes import Canvas, Tube, in_front_of, intersect, smooth_tube
from app.synthesis.tissues import Tissue

_SMALL_BOWEL = (Tissue.BOWEL_WALL, Tissue.BOWEL_CONTENT, Tissue.BOWEL_GAS)


def paint_colon(canvas: Canvas, patient: Patient) -> None:
    """Paint the colon as a frame: cecum, ascending, transverse, descending, sigmoid, rectum."""
    sway = 8 * np.sin(patient.phase + 1)
    path = [(-160, -72, -84), (-130, -70, -95), (-95, -62, -100), (-62, -66, -98),
            (-50, -90, -82), (-64 + sway, -112, -50), (-58 + sway, -118, -10),
            (-52 + sway, -118, 30), (-28, -108, 74), (-2, -86, 104), (10, -60, 113),
            (-8, -32, 112), (-45, -24, 106), (-90, -32, 104), (-130, -52, 100), (-160, -70, 84),
            (-176, -70, 52), (-158, -80, 20), (-178, -84, -12), (-200, -52, -18),
            (-196, -14, 2), (-222, 8, 2), (-262, 8, 0), (-300, 18, 0)]  # fmt: skip
    radii = [26, 27, 25, 24, 23, 20, 19, 19, 19, 19, 18, 16, 14, 14, 14, 14, 13, 13, 14, 14, 16,
             18, 17, 8]  # fmt: skip
    tube = smooth_tube(path, radii, step_mm=6)
    # Haustra: the wall is drawn in every three centimeters.
    steps = np.arange(len(tube.radii))
    tube = replace(tube, radii=tube.radii * (0.93 + 0.10 * np.cos(steps * 1.3 + patient.phase)))
    soft = (*SOFT_FILL, Tissue.LIVER, Tissue.SPLEEN)
    canvas.paint_tube(tube.grown(2.0), Tissue.FAT, over=soft)
    canvas.paint_tube(tube, Tissue.COLON_WALL, over=(*soft, *_SMALL_BOWEL))
    lumen = tube.grown(-2.6)
    canvas.paint_tube(lumen, Tissue.STOOL, over=(Tissue.COLON_WALL,))
    _paint_colon_gas(canvas, patient, lumen)


def _paint_colon_gas(canvas: Canvas, patient: Patient, lumen: Tube) -> None:
    """Let gas gather here and there in the front half of the colon, each pocket with its level."""
    for i in range(len(lumen.points) - 1):
        capsule = Tube(lumen.points[i : i + 2], lumen.radii[i : i + 2])
        filled = np.sin(0.31 * i + 5 * patient.phase) + 0.6 * np.sin(0.83 * i + patient.phase)
        y = float(capsule.points[:, 1].mean())
        if filled > -0.2 and y < -45:
            level = y + float(capsule.radii.mean()) * float(np.clip(0.5 * filled - 0.3, -0.6, 0.6))
            canvas.paint(
                intersect(capsule, in_front_of(level, capsule.bounds)), Tissue.BOWEL_GAS,
                over=(Tissue.STOOL,),
            )  # fmt: skip


def paint_small_bowel(canvas: Canvas, patient: Patient) -> None:
    """Paint loops of jejunum and ileum, folded in rows, with mesenteric fat and vessels between."""
    rng = np.random.default_rng([int(patient.phase * 1e6), 11])
    for z, y in ((-14.0, -68.0), (-30.0, -96.0), (-38.0, -70.0)):
        points = [(z + rng.normal(0, 6), y + rng.normal(0, 7), x) for x in (26.0, 44, 62, 80, 92)]
        _paint_loop(canvas, rng, smooth_tube(points, rng.uniform(10.5, 14), step_mm=6))
    for layer_y, rows in ((-58.0, 6), (-80.0, 7), (-102.0, 7)):
        for row in range(rows):
            z = -58.0 - 25.0 * row + rng.normal(0, 4)
            right, left = (-66.0, 84.0) if z > -150 else (-58.0, 62.0)
            if layer_y > -70:
                right, left = right + 24, left - 8
            xs = np.linspace(right, left, 6) + rng.normal(0, 4, 6)
            points = [(z + rng.normal(0, 7), layer_y + rng.normal(0, 6), x) for x in xs.tolist()]
            _paint_loop(canvas, rng, smooth_tube(points, rng.uniform(10.5, 14), step_mm=6))
    for _ in range(40):
        start = np.array([rng.uniform(-70, -30), -84.0, rng.uniform(-10, 20)])
        end = np.array([rng.uniform(-190, -60), rng.uniform(-100, -60), rng.uniform(-60, 80)])
        middle = (start + end) / 2 + rng.normal(0, 8, 3)
        vessel = smooth_tube([start, middle, end], [2.4, 1.8, 1.1])
        canvas.paint_tube(vessel, Tissue.VEIN, over=(Tissue.MESENTERY,))


def _paint_loop(canvas: Canvas, rng: np.random.Generator, tube: Tube) -> None:
    """Paint one loop of bowel; some hold gas in front of their fluid."""
    canvas.paint_tube(tube.grown(1.2), Tissue.MESENTERY, over=_SMALL_BOWEL)
    canvas.paint_tube(tube, Tissue.BOWEL_WALL, over=SOFT_FILL)
    collapsed = rng.random() < 0.3
    lumen = tube.grown(-8.0 if collapsed else -2.8)
    canvas.paint_tube(lumen, Tissue.BOWEL_CONTENT, over=(Tissue.BOWEL_WALL,))
    if rng.random() < 0.35:
        pocket = Tube(lumen.points[2:9], lumen.radii[2:9])
        level = float(pocket.points[:, 1].mean()) - 2
        canvas.paint(
            intersect(pocket, in_front_of(level, pocket.bounds)), Tissue.BOWEL_GAS,
            over=(Tissue.BOWEL_CONTENT,),
        )  # fmt: skip
