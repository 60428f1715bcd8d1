"""The organs of a phantom: liver, spleen, stomach, pancreas, duodenum and their neighbors.

Everything is laid down for the reference patient (see
:mod:`app.synthesis.procedural.patient`): mm, (z, y, x), origin in the spinal canal
at the first lumbar vertebra, x to the left, y to the back, z to the head.
Sizes and places are close to the median of real patients. Where two organs touch,
the one painted last presses into the other through a thin layer of fat.
"""

import numpy as np

from app.synthesis.procedural.bowel import paint_colon, paint_small_bowel
from app.synthesis.procedural.kidneys import paint_adrenal, paint_kidney
from app.synthesis.procedural.patient import Patient, Placement
from app.synthesis.procedural.torso import BOWEL, EVERYWHERE, LARGE, SIDES, Torso, at
from app.synthesis.procedural.vessels import (
    paint_aorta,
    paint_arteries,
    paint_cava,
    paint_liver_vessels,
    paint_veins,
)
from app.synthesis.shapes import (
    Canvas,
    Ellipsoid,
    Field,
    FloatArray,
    Shape,
    Tube,
    frame,
    grow,
    in_front_of,
    intersect,
    smooth_tube,
    subtract,
    unite,
    wobble,
)
from app.synthesis.tissues import Tissue

_STOMACH_CENTER, _PYLORUS = (60.0, -50.0, 58.0), (7.0, -104.0, -24.0)
"""The fundus, about which the stomach grows, and where it ends; in mm."""


# Of the liver, from right to left: x, lowest z under the middle of the body; x, hindmost y; in mm.
_LIVER_FLOOR = np.array(
    [(-150, -40), (-125, -54), (-105, -50), (-80, -28), (-50, -2), (-20, 14), (10, 28), (40, 48),
     (70, 74)], np.float64,
)  # fmt: skip
_LIVER_BACK = np.array(
    [(-150, 24), (-100, 24), (-70, 14), (-45, -12), (-25, -34), (-5, -56), (25, -68), (60, -82)],
    np.float64,
)


def paint_viscera(canvas: Canvas, patient: Patient, torso: Torso) -> None:
    """Paint everything inside the belly, from the most yielding to the firmest."""
    paint_small_bowel(canvas, patient)
    _paint_bladder(canvas)
    _paint_liver(canvas, patient, torso)
    _paint_spleen(canvas, patient, torso)
    paint_colon(canvas, patient)
    _paint_stomach(canvas, patient, torso)
    for side in SIDES:
        paint_kidney(canvas, patient, side)
    paint_veins(canvas, patient)
    _paint_pancreas(canvas, patient)
    _paint_duodenum(canvas, patient)
    _paint_gallbladder(canvas, patient)
    paint_arteries(canvas, patient)
    paint_cava(canvas, patient)
    _paint_esophagus(canvas, patient)
    paint_aorta(canvas, patient)
    for side in SIDES:
        paint_adrenal(canvas, patient, side)
    paint_liver_vessels(canvas, patient)


def _paint_liver(canvas: Canvas, patient: Patient, torso: Torso) -> None:
    """Paint the liver: what fills the right dome, down to a slanted, hollowed visceral face."""
    place = Placement(patient, "liver", (47, -77, -60))
    lower = float(78 * (place.girth - 1) - place.shift[0])
    left_end = 58.0 + 90 * (place.girth - 1) + 6 * float(np.sin(patient.phase))

    def visceral(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        slant = 10 * np.sin((y + 60) / 34) + 0.30 * np.maximum(y + 70, 0)
        floor = at(_LIVER_FLOOR, x) - lower + slant - 0.10 * np.minimum(y + 90, 0)
        return np.asarray(0.8 * (z - floor), np.float32)

    def posterior(_z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        return np.asarray(0.75 * (at(_LIVER_BACK, x) - y), np.float32)

    def left_lobe(_z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        return np.asarray(left_end - x - 0.25 * np.abs(y + 115), np.float32)

    bounds = np.array([[-110.0, -240.0, -150.0], [125.0, 40.0, 110.0]])
    body = intersect(
        Field(bounds, intersect(grow(torso.cavity, -2.0), torso.below_dome(2.5), blend_mm=5).depth),
        Field(EVERYWHERE, visceral),
        Field(EVERYWHERE, posterior),
        Field(EVERYWHERE, left_lobe),
        Field(EVERYWHERE, lambda _z, y, _x: y + np.float32(163)),
        blend_mm=22,
    )
    caudate = Ellipsoid((46, -62, -14), (24, 15, 12))
    fissure = Ellipsoid((10, -128, 2), (34, 30, 2.2), frame((1, 0.25, 0.1), (0, 1, 0.1)))
    porta = Ellipsoid((20, -82, -22), (14, 11, 26), frame((1, 0, 0.3), (0, 1, 0)))
    liver = subtract(
        wobble(unite(body, caudate, blend_mm=10), 1.3, 61, patient.phase),
        fissure, porta, blend_mm=5,
    )  # fmt: skip
    canvas.paint(Field(bounds, liver.depth), Tissue.LIVER)


def _paint_spleen(canvas: Canvas, patient: Patient, torso: Torso) -> None:
    """Paint the spleen: a crescent between the left dome, the ribs, the stomach and the kidney."""
    place = Placement(patient, "spleen", (48, -24, 106))
    ((z, y, x),) = place((48, -24, 94))
    axes = place.radii(66, 58, 47)
    lump = Ellipsoid((z, y, x), axes, frame((0.9, -0.42, 0.1), (0.42, 0.9, 0.1)))
    hollow = Ellipsoid((z + 4, y - 26, x - 50), place.radii(56, 38, 40))
    room = intersect(grow(torso.cavity, -2.5), torso.below_dome(2.5), blend_mm=5)
    spleen = intersect(lump, room, blend_mm=12)
    spleen = subtract(spleen, hollow, blend_mm=8)
    canvas.paint(wobble(spleen, 0.8, 43, patient.phase), Tissue.SPLEEN)


def _fat_around(canvas: Canvas, shape: Shape, margin_mm: float) -> None:
    canvas.paint(grow(shape, margin_mm), Tissue.FAT, over=LARGE)


def _paint_stomach(canvas: Canvas, patient: Patient, torso: Torso) -> None:
    """Paint the stomach: fundus under the left dome, a J to the pylorus, fluid with gas on top."""
    place = Placement(patient, "stomach", _STOMACH_CENTER)
    tube = smooth_tube(
        place((62, -51, 55), (53, -76, 60), (36, -105, 58), (14, -121, 45), (-5, -127, 25),
              (-9, -124, 4), (0, -114, -13), _PYLORUS),
        place.radii(28, 29, 26, 23, 20.5, 18.5, 13.5, 9),
    )  # fmt: skip
    room = intersect(tube, grow(torso.cavity, -3.0), torso.below_dome(5.0), blend_mm=14)
    stomach = wobble(room, 1.6, 37, patient.phase)
    canvas.paint(grow(stomach, 3.0), Tissue.FAT, over=(*LARGE, *BOWEL))
    canvas.paint(stomach, Tissue.STOMACH)
    lumen = wobble(grow(room, -4.2), 1.1, 15, patient.phase)
    canvas.paint(lumen, Tissue.STOMACH_CONTENT, over=(Tissue.STOMACH,))
    level = float(place((40, -104, 60))[0][1]) - patient.stomach_level_mm
    canvas.paint(
        intersect(lumen, in_front_of(level, stomach.bounds)), Tissue.STOMACH_GAS,
        over=(Tissue.STOMACH_CONTENT,),
    )  # fmt: skip


def _paint_pancreas(canvas: Canvas, patient: Patient) -> None:
    """Paint the pancreas: head in the duodenum's loop, neck on the vein, tail at the spleen."""
    place = Placement(patient, "pancreas", (4, -84, 10))
    head = smooth_tube(
        place((12, -92, -20), (-8, -88, -27), (-30, -82, -26), (-38, -78, -16)),
        place.radii(12, 15, 14, 9), stretch=(1.1, 1, 1.1),
    )  # fmt: skip
    body = smooth_tube(
        place((8, -94, -16), (12, -99, 0), (18, -94, 22), (27, -80, 46), (34, -63, 68),
              (39, -50, 85)),
        place.radii(10.5, 9, 10, 10, 10, 8), stretch=(1.15, 0.9, 1),
    )  # fmt: skip
    gland = wobble(unite(head, body, blend_mm=8), 1.3, 11.5, patient.phase)
    _fat_around(canvas, gland, 1.5)
    kept = (Tissue.PORTAL_VEIN, Tissue.CORTICAL_BONE)
    everything = [tissue for tissue in Tissue if tissue not in kept]
    canvas.paint(gland, Tissue.PANCREAS, over=everything)


def _paint_duodenum(canvas: Canvas, patient: Patient) -> None:
    """Paint the duodenum: a C from the pylorus around the pancreas head, then across the aorta."""
    place = Placement(patient, "duodenum", (-25, -84, -30))
    path = [
        *Placement(patient, "stomach", _STOMACH_CENTER)(_PYLORUS),
        *place((14, -98, -40), (9, -86, -53), (-12, -79, -56), (-38, -77, -53), (-54, -81, -38),
               (-58, -86, -14), (-52, -88, 12), (-32, -88, 28), (-14, -92, 34)),
    ]  # fmt: skip
    radii = place.radii(8.5, 12.5, 11.5, 11, 11.5, 11, 10, 9.5, 9.5, 9)
    loop = smooth_tube(path, radii, step_mm=6)
    _fat_around(canvas, loop, 1.5)
    canvas.paint_tube(loop, Tissue.DUODENUM)
    folds = 1 + 0.14 * np.sin(np.arange(len(loop.radii)) * 2.3 + patient.phase)
    lumen = Tube(loop.points, np.maximum(loop.radii * folds - 4.4, 2.5), loop.stretch)
    canvas.paint_tube(lumen, Tissue.DUODENUM_CONTENT, over=(Tissue.DUODENUM,))
    bulb = Tube(lumen.points[:6], lumen.radii[:6])
    level = float(bulb.points[:, 1].mean()) - 2
    canvas.paint(
        intersect(bulb, in_front_of(level, loop.bounds)), Tissue.DUODENUM_GAS,
        over=(Tissue.DUODENUM_CONTENT,),
    )  # fmt: skip


def _paint_gallbladder(canvas: Canvas, patient: Patient) -> None:
    """Paint the gallbladder: a pear in its fossa under the right lobe, neck to the porta."""
    place = Placement(patient, "gallbladder", (20, -98, -66))
    pear = smooth_tube(
        place((24, -92, -54), (15, -98, -61), (2, -108, -69), (-10, -116, -75)),
        place.radii(5, 9.5, 14, 13.5),
    )  # fmt: skip
    _fat_around(canvas, pear, 1.0)
    canvas.paint_tube(pear, Tissue.GALLBLADDER)


def _paint_esophagus(canvas: Canvas, patient: Patient) -> None:
    """Paint the esophagus: behind the heart, through the hiatus, into the stomach."""
    place = Placement(patient, "stomach", _STOMACH_CENTER)
    cardia = place((66, -66, 44))[0]
    wide = patient.girth["esophagus"] ** 1.5
    path = [(380, -72, 2), (310, -52, 3), (270, -40, 4), (225, -36, 4), (180, -38, 4),
            (140, -46, 4), (110, -58, 8), (cardia[0] + 22, -64, 18), cardia]  # fmt: skip
    gullet = smooth_tube(path, 6.2 * wide, stretch=(1, 0.85, 1.2))
    canvas.paint_tube(gullet, Tissue.ESOPHAGUS)
    if np.sin(patient.phase) > 0:
        half = len(gullet.points) // 2
        gas = Tube(gullet.points[2:half] - (0, 1.2, 0), np.full(half - 2, 2.0), (1, 0.8, 1.4))
        canvas.paint_tube(gas, Tissue.ESOPHAGUS_GAS)


def _paint_bladder(canvas: Canvas) -> None:
    """Paint bladder and what lies behind it in the pelvis."""
    bladder = Ellipsoid((-244, -62, 2), (28, 30, 36))
    canvas.paint(bladder, Tissue.PELVIC_SOFT_TISSUE)
    canvas.paint(grow(bladder, -3.5), Tissue.URINE)
    canvas.paint(Ellipsoid((-245, -18, 0), (26, 15, 28)), Tissue.PELVIC_SOFT_TISSUE)
    canvas.paint(Ellipsoid((-282, -40, 0), (14, 26, 20)), Tissue.PELVIC_SOFT_TISSUE)
