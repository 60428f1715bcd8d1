"""A phantom's bones: spine, ribs, sternum, pelvis, legs and a plain skull.

Everything is laid down for the reference patient (see
:mod:`app.synthesis.procedural.patient`): mm, (z, y, x), origin in the spinal canal
at the first lumbar vertebra, x to the left, y to the back, z to the head.
"""

from dataclasses import replace

import numpy as np

from app.synthesis.procedural.torso import SIDES, Torso, at, mirrored
from app.synthesis.shapes import (
    Canvas,
    Ellipsoid,
    Field,
    FloatArray,
    Shape,
    Tube,
    grow,
    smooth_tube,
)
from app.synthesis.tissues import Tissue

# Spinal canal: z, y. Vertebral body: z, half width, half depth.
_CANAL = np.array(
    [
        (-285, 38), (-260, 48), (-225, 45), (-190, 28), (-160, 10), (-132, 0), (-100, -6),
        (-68, -5), (-34, -2), (0, 0), (32, 3), (62, 7), (90, 11), (115, 14), (164, 18), (214, 16),
        (237, 11), (259, 3), (279, -9), (300, -25), (330, -42), (380, -52), (420, -55),
    ], np.float64,
)  # fmt: skip

_BODY_SIZE = np.array(
    [(-160, 26, 16), (-100, 25, 17), (0, 22, 16), (62, 18, 15), (164, 15, 13), (279, 13, 9),
     (420, 12, 8)], np.float64,
)  # fmt: skip

_VERTEBRAE_Z = (
    -132, -101, -68, -34, 0, 32, 62, 90, 115, 139, 164, 189, 214, 237, 259, 279, 296, 311, 326,
    341, 356, 371, 386,
)  # fmt: skip
"""Centers of the vertebral bodies from L5 up to the neck, in mm."""

_LAST_THORACIC = 5
"""Place of T12 in :data:`_VERTEBRAE_Z`."""

# Ribs 12 to 1: drop in z from spine to front end, y of the front end.
_RIBS = (
    (62, -8), (88, -52), (118, -80), (146, -100), (158, -110), (160, -124), (152, -134),
    (140, -136), (122, -132), (100, -124), (78, -112), (52, -100),
)  # fmt: skip

_HIP_CENTER = (-238.0, -34.0, 92.0)
"""Center of the left femoral head, in mm."""


def paint_skeleton(canvas: Canvas, torso: Torso) -> None:
    """Paint spine, ribs, sternum, pelvis, femurs and skull."""
    _paint_ribs(canvas, torso)
    _paint_pelvis(canvas)
    _paint_spine(canvas)
    _paint_head(canvas)


def _paint_bone(canvas: Canvas, shape: Shape, shell_mm: float) -> None:
    canvas.paint(shape, Tissue.CORTICAL_BONE)
    canvas.paint(grow(shape, -shell_mm), Tissue.TRABECULAR_BONE)


def _paint_bone_tube(canvas: Canvas, tube: Tube, shell_mm: float) -> None:
    canvas.paint_tube(tube, Tissue.CORTICAL_BONE)
    canvas.paint_tube(tube.grown(-shell_mm), Tissue.TRABECULAR_BONE)


def _vertebral_column(z_low: float, z_high: float, by_mm: float = 0.0) -> Field:
    """Give the front column of the spine between two heights, waisted at mid height."""
    middle, half = np.float32((z_low + z_high) / 2), np.float32((z_high - z_low) / 2)

    def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        width, deep = (at(_BODY_SIZE, z, i) for i in (1, 2))
        center = at(_CANAL, z) - 9 - deep
        # End plates are hollowed, and thinner than the wall.
        from_end = np.float32(1.6) * (half - np.abs(z - middle))
        waist = np.float32(2.2) * (1 - ((z - middle) / half) ** 2)
        radius = np.sqrt(((y - center) / deep) ** 2 + (x / width) ** 2)
        hollow = np.float32(2.5) * np.maximum(1 - radius, 0)
        wall = (1 - radius) * deep - waist + np.float32(by_mm)
        result: FloatArray = np.minimum(wall, from_end - hollow)
        return result

    return Field(np.array([[z_low, -95.0, -32.0], [z_high, 60.0, 32.0]]), depth)


def _paint_spine(canvas: Canvas) -> None:
    heights = np.asarray(_VERTEBRAE_Z, np.float64)
    edges = np.concatenate([[-150.0], (heights[1:] + heights[:-1]) / 2, [393.0]])
    canvas.paint(_vertebral_column(-152.0, 393.0), Tissue.DISC)
    for low, high, z in zip(edges[:-1], edges[1:], heights, strict=True):
        gap = 0.13 * (high - low)
        _paint_bone(canvas, _vertebral_column(low + gap, high - gap, 1.0), 1.6)
        _paint_arch(canvas, float(z), float(high - low))
    canal = np.stack([_CANAL[:, 0], _CANAL[:, 1], np.zeros(len(_CANAL))], axis=1)
    canvas.paint_tube(
        smooth_tube(canal[3:], 8.0, step_mm=10, stretch=(1, 0.95, 1.2)), Tissue.SPINAL_CANAL
    )


def _paint_arch(canvas: Canvas, z: float, height: float) -> None:
    """Paint the ring behind a vertebral body, its spinous and its transverse processes."""
    y = float(at(_CANAL, z))
    width = float(at(_BODY_SIZE, z, 1))
    ring = Ellipsoid((z, y, 0.0), (0.36 * height, 13.5, 15.5))
    _paint_bone(canvas, ring, 2.0)
    slant = 0.15 if z < 20 else 0.6
    spinous = Tube(
        np.array([(z - 4, y + 12, 0.0), (z - 8 - 30 * slant, y + 36 - 8 * slant, 0.0)]),
        np.array([4.5, 4.0]), (0.5 * height / 9, 1, 0.8),
    )  # fmt: skip
    _paint_bone(canvas, spinous, 1.6)
    for side in SIDES:
        reach = 1.75 * width if z < 270 else 1.3 * width
        back = 3 if z < 20 else 14
        process = Tube(
            np.array([(z, y + 2, side * 10.0), (z + 3, y + back, side * reach)]),
            np.array([5.5, 4.0]),
        )
        _paint_bone(canvas, process, 1.6)
        facet = Ellipsoid((z - height / 2, y + 10, side * 15.0), (height / 3, 6.5, 6))
        _paint_bone(canvas, facet, 1.8)


def _rib_path(torso: Torso, index: int, side: int) -> list[tuple[float, float, float]]:
    """Lay a rib around the chest wall from its vertebra down to its front end."""
    z_spine = _VERTEBRAE_Z[_LAST_THORACIC + index] + 8.0
    drop, front_y = _RIBS[index]
    y_spine = float(at(_CANAL, z_spine)) + 4
    # Ribs run 6.5 mm outside the cavity's lining.
    wall = replace(torso.cavity, extra_mm=6.5)
    path = [(z_spine, y_spine, side * 17.0)]
    steps = 14
    for step in range(steps + 1):
        angle = np.deg2rad(62 - step / steps * 160)
        z = z_spine - drop * (step / steps) ** 1.25
        half_width, front, back = (float(m) for m in wall.measures(np.asarray(z, np.float32)))
        middle = 0.42 * front + 0.58 * back
        cosine, sine = np.cos(angle), np.sin(angle)
        power = 2 / wall.exponent
        x = half_width * abs(cosine) ** power
        reach = back - middle if sine > 0 else middle - front
        y = middle + np.sign(sine) * reach * abs(sine) ** power
        if sine < 0 and y < front_y:
            break
        path.append((z, float(y), side * float(x)))
    return path


def _paint_ribs(canvas: Canvas, torso: Torso) -> None:
    """Paint ribs, costal cartilage and sternum, and the shoulder's bones."""
    for side in SIDES:
        ends = []
        for index in range(len(_RIBS)):
            path = _rib_path(torso, index, side)
            rib = smooth_tube(path, 5.2, step_mm=13, stretch=(1.25, 1, 1))
            _paint_bone_tube(canvas, rib, 1.8)
            ends.append(path[-1])
        _paint_costal_cartilage(canvas, ends, side)
        clavicle = [(240, -112, 18), (256, -98, 60), (262, -60, 110), (252, -40, 140)]
        _paint_bone_tube(canvas, smooth_tube(mirrored(clavicle, side), 5.5), 2.0)
        blade = [(255, 20, 118), (200, 48, 105), (150, 50, 92)]
        canvas.paint_tube(
            smooth_tube(mirrored(blade, side), [9, 7, 4], stretch=(1, 0.5, 3)),
            Tissue.CORTICAL_BONE, over=(Tissue.MUSCLE,),
        )  # fmt: skip
    plate = [(z, _sternum_y(z), 0.0) for z in (112.0, 150.0, 190.0, 225.0, 244.0)]
    _paint_bone_tube(canvas, smooth_tube(plate, [3, 5.5, 5.5, 7, 7], stretch=(1, 1, 2.9)), 1.5)


def _paint_costal_cartilage(
    canvas: Canvas, ends: list[tuple[float, float, float]], side: int
) -> None:
    """Join ribs to the sternum: 1 to 6 on their own, 7 to 10 by the arch under the chest."""
    arch = [*ends[2:6], (112.0, -150.0, side * 30.0), (120.0, -149.0, side * 14.0)]
    canvas.paint_tube(smooth_tube(arch, 6.0), Tissue.CARTILAGE)
    for end, z in zip(reversed(ends[6:]), (242.0, 226.0, 205.0, 185.0, 165.0, 146.0), strict=True):
        joint = (z, _sternum_y(z), side * 16.0)
        bend = ((end[0] + z) / 2 - 6, (end[1] + joint[1]) / 2 - 8, side * 45.0)
        canvas.paint_tube(smooth_tube([end, bend, joint], 5.5), Tissue.CARTILAGE)


def _sternum_y(z: float) -> float:
    return float(np.interp(z, (105, 150, 200, 245), (-160, -152, -136, -112)))


def _paint_pelvis(canvas: Canvas) -> None:
    """Paint sacrum, hip bones and femurs."""
    sacrum = smooth_tube(
        [(-150, -16, 0), (-178, 4, 0), (-210, 28, 0), (-240, 44, 0), (-268, 40, 0), (-282, 30, 0)],
        [21, 20, 16, 11, 7, 4], stretch=(1, 0.9, 2.1),
    )  # fmt: skip
    _paint_bone(canvas, sacrum, 2.0)
    z_hip, y_hip, x_hip = _HIP_CENTER
    for side in SIDES:
        _paint_ilium(canvas, side)
        branches = [
            smooth_tube(mirrored([(-222, -48, 78), (-248, -76, 48), (-262, -88, 10)], side),
                        [13, 9, 11]),
            smooth_tube(mirrored([(-240, -16, 84), (-285, 2, 68), (-305, -10, 60)], side),
                        [15, 15, 14]),
            smooth_tube(mirrored([(-305, -12, 58), (-292, -50, 34), (-268, -84, 10)], side),
                        [11, 7, 9]),
        ]  # fmt: skip
        for branch in branches:
            _paint_bone_tube(canvas, branch, 2.4)
        hip = (z_hip, y_hip, side * x_hip)
        _paint_bone(canvas, Ellipsoid(hip, (31, 31, 31)), 3.0)
        canvas.paint(Ellipsoid(hip, (26, 26, 26)), Tissue.CARTILAGE)
        _paint_femur(canvas, hip, side)
    canvas.paint(Ellipsoid((-265, -88, 0.0), (16, 9, 4)), Tissue.CARTILAGE)


def _paint_ilium(canvas: Canvas, side: int) -> None:
    """Paint the wing of a hip bone: a fan of rods from above the hip joint to the crest."""
    crest = [(-150, 44, 42), (-122, 26, 78), (-108, -5, 112), (-112, -42, 130), (-136, -76, 132),
             (-160, -92, 122)]  # fmt: skip
    root = [(-208, -4, 74), (-205, -10, 82), (-205, -18, 90), (-205, -26, 95),
            (-208, -34, 98), (-212, -42, 100)]  # fmt: skip
    rim = smooth_tube(crest, 1.0, step_mm=5).points
    feet = smooth_tube(root, 1.0, step_mm=5).points
    mirror = np.array([1.0, 1.0, side])
    step = (len(feet) - 1) / (len(rim) - 1)
    fan = [
        Tube(np.stack([feet[round(i * step)], point]) * mirror, np.array([9.0, 6.0]))
        for i, point in enumerate(rim)
    ]
    for rod in fan:
        canvas.paint_tube(rod, Tissue.CORTICAL_BONE)
    for rod in fan:
        canvas.paint_tube(rod.grown(-2.2), Tissue.TRABECULAR_BONE)


def _paint_femur(canvas: Canvas, hip: tuple[float, float, float], side: int) -> None:
    shaft = smooth_tube(
        mirrored([(-275, -20, 128), (-330, -28, 122), (-420, -36, 108), (-560, -32, 92),
                   (-640, -24, 86)], side), [19, 15, 14, 15, 26],
    )  # fmt: skip
    neck = smooth_tube([hip, (-262, -22, side * 126)], [19, 17], step_mm=20)
    trochanter = Ellipsoid((-258, -10, side * 134), (20, 18, 13))
    shin = smooth_tube(
        mirrored([(-665, -25, 85), (-720, -35, 84), (-930, -28, 80)], side), [26, 14, 12]
    )
    head = Ellipsoid(hip, (23.5, 23.5, 23.5))
    for knob in (head, trochanter):
        _paint_bone(canvas, knob, 2.0)
    for tube in (neck, shaft, shin):
        _paint_bone_tube(canvas, tube, 4.0)
    canvas.paint(grow(head, -2.0), Tissue.TRABECULAR_BONE)


def _paint_head(canvas: Canvas) -> None:
    """Paint a plain head: for scans that reach beyond the neck."""
    skull = Ellipsoid((470, -92, 0), (88, 95, 76))
    face = Ellipsoid((425, -125, 0), (58, 62, 58))
    for shape in (skull, face):
        canvas.paint(grow(shape, 4), Tissue.SKIN, over=(Tissue.AIR, Tissue.TABLE))
    for shape in (face, skull):
        canvas.paint(grow(shape, 2), Tissue.MUSCLE, over=(Tissue.SKIN, Tissue.AIR, Tissue.FAT))
    canvas.paint(grow(face, -14), Tissue.CORTICAL_BONE)
    canvas.paint(grow(face, -20), Tissue.AIRWAY)
    canvas.paint(grow(skull, -3), Tissue.CORTICAL_BONE)
    canvas.paint(grow(skull, -10), Tissue.BRAIN)
