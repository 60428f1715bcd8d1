"""A phantom's vessels: aorta, vena cava, portal vein and what branches off them.

Everything is laid down for the reference patient (see
:mod:`app.synthesis.procedural.patient`): mm, (z, y, x), origin in the spinal canal
at the first lumbar vertebra, x to the left, y to the back, z to the head.
"""

import numpy as np

from app.synthesis.procedural.kidneys import make_kidney
from app.synthesis.procedural.patient import Patient, Placement
from app.synthesis.procedural.torso import SIDES, SOFT_FILL
from app.synthesis.shapes import Canvas, smooth_tube
from app.synthesis.tissues import Tissue


def paint_veins(canvas: Canvas, patient: Patient) -> None:
    """Paint the portal vein and its roots, and the renal and iliac veins."""
    drop = np.array([patient.breath_mm, 0, 0])
    confluence = np.array([8.0, -84, -4]) - drop
    portal = [confluence, np.array([24, -80, -18]) - drop, np.array([34, -82, -34]) - drop]
    splenic = [confluence, np.array([17, -76, 24]) - drop, np.array([26, -62, 50]) - drop,
               np.array([32, -46, 74]) - drop]  # fmt: skip
    mesenteric = [confluence, (-20, -93, -8), (-60, -99, -6), (-100, -98, -8)]
    canvas.paint_tube(smooth_tube(portal, [6.5, 6.5, 5.5]), Tissue.PORTAL_VEIN)
    canvas.paint_tube(smooth_tube(splenic, [4.5, 4, 4, 3.5]), Tissue.PORTAL_VEIN, over=SOFT_FILL)
    canvas.paint_tube(smooth_tube(mesenteric, [5.5, 5.5, 4.5, 3]), Tissue.PORTAL_VEIN)
    for side in SIDES:
        kidney = make_kidney(patient, side)
        hilum, height = kidney.hilum(18), kidney.center[0]
        through = [hilum, (height + 4, -58, 36), (0, -76, 6), (2, -70, -16)]
        straight = [hilum, (height + 6, -55, -38), (height + 8, -62, -24)]
        vein = smooth_tube(through if side > 0 else straight, 4.2)
        canvas.paint_tube(vein, Tissue.VEIN)
        iliac = [(-92, -58, -14), (-125, -52, side * 20 - 5), (-165, -50, side * 34),
                 (-215, -58, side * 48), (-262, -78, side * 68), (-310, -72, side * 74),
                 (-500, -50, side * 76), (-900, -5, side * 80)]  # fmt: skip
        canvas.paint_tube(smooth_tube(iliac, [9, 7.5, 7, 7, 6.5, 6, 5, 3], step_mm=11), Tissue.VEIN)


def paint_arteries(canvas: Canvas, patient: Patient) -> None:
    """Paint iliac, renal and visceral arteries and the aorta's branches to the neck."""
    drop = patient.breath_mm
    trunks: list[tuple[list[tuple[float, float, float]], float]] = [
        ([(16, -62, 6), (14, -80, 4), (-8, -90, 6), (-50, -95, 8), (-100, -94, 6)], 3.4),
        ([(26, -58, 8), (26 - drop, -78, 6), (30 - drop, -84, -12), (30 - drop, -90, -26)], 2.6),
        ([(26 - drop, -76, 7), (30 - drop, -72, 34), (38 - drop, -52, 70)], 2.6),
        ([(224, -62, -10), (262, -74, -24), (330, -78, -28), (390, -80, -28)], 4.0),
        ([(228, -58, 10), (265, -68, 18), (330, -78, 28), (390, -80, 28)], 3.6),
    ]
    for points, radius in trunks:
        canvas.paint_tube(smooth_tube(points, radius), Tissue.ARTERY, over=SOFT_FILL)
    for side in SIDES:
        renal = [(2, -58, 8), (-2, -48, side * 28), make_kidney(patient, side).hilum(20)]
        canvas.paint_tube(smooth_tube(renal, 2.8), Tissue.ARTERY)
        iliac = [(-86, -64, 4), (-120, -64, side * 22), (-160, -66, side * 40),
                 (-210, -74, side * 56), (-262, -88, side * 78), (-310, -82, side * 86),
                 (-500, -55, side * 84), (-900, 0, side * 88)]  # fmt: skip
        canvas.paint_tube(
            smooth_tube(iliac, [6.5, 6, 5.5, 5, 5, 4.5, 4, 2.5], step_mm=11), Tissue.ARTERY
        )


def paint_cava(canvas: Canvas, patient: Patient) -> None:
    """Paint the inferior vena cava, from the iliac veins to the right atrium."""
    place = Placement(patient, "inferior_vena_cava", (20, -60, -20))
    wide = place.girth**1.5
    path = [(-90, -58, -15), (-60, -59, -19), (-20, -58, -22), (20, -56, -24), (50, -54, -26),
            (78, -56, -28), (98, -66, -28), (120, -80, -28)]  # fmt: skip
    radii = [9.5 * wide, 9.5 * wide, 10 * wide, 10.5 * wide, 11 * wide, 11.5 * wide, 12 * wide, 13]
    vein = smooth_tube(path, radii, stretch=(1, 0.82, 1.12))
    canvas.paint_tube(vein, Tissue.INFERIOR_VENA_CAVA)


def paint_aorta(canvas: Canvas, patient: Patient) -> None:
    """Paint the aorta: from the heart over its arch, down before the spine to L4."""
    wide = patient.girth["aorta"] ** 1.5
    path = [(140, -94, 4), (165, -96, -10), (195, -94, -16), (215, -84, -12), (225, -64, 2),
            (220, -42, 18), (200, -26, 24), (165, -21, 24), (125, -26, 20), (90, -36, 14),
            (55, -45, 9), (20, -51, 7), (-25, -56, 8), (-60, -60, 6), (-86, -61, 4)]  # fmt: skip
    radii = [14, 14, 13.5, 13, 12.5, 12, 11.5, 11.3, 11, 10.8, 10.3, 9.8, 8.8, 8.3, 8.2]
    canvas.paint_tube(smooth_tube(path, [radius * wide for radius in radii]), Tissue.AORTA)


def paint_liver_vessels(canvas: Canvas, patient: Patient) -> None:
    """Paint hepatic veins that meet at the vena cava, and the portal vein's branches."""
    place = Placement(patient, "liver", (47, -77, -60))
    veins = [
        ([(92, -66, -28), (78, -62, -58), (56, -48, -88), (20, -44, -108)], 4.2),
        ([(92, -68, -26), (76, -88, -42), (50, -108, -58), (20, -116, -72)], 3.8),
        ([(92, -70, -22), (80, -98, -4), (64, -120, 14), (50, -130, 28)], 3.4),
        ([(70, -54, -70), (80, -40, -92), (78, -34, -108)], 2.2),
        ([(66, -96, -48), (78, -116, -66), (72, -126, -84)], 2.2),
        ([(60, -50, -82), (44, -22, -94), (30, -6, -104)], 2.2),
    ]
    portal = [
        ([(34, -82, -34), (42, -76, -62), (58, -84, -88), (66, -98, -106)], 4.6),
        ([(42, -76, -62), (28, -56, -88), (8, -44, -108)], 3.6),
        ([(34, -82, -34), (48, -98, -14), (56, -116, 4), (52, -134, 8)], 3.8),
        ([(56, -116, 4), (60, -112, 26), (62, -106, 40)], 2.2),
        ([(46, -76, -70), (30, -96, -84), (8, -104, -98)], 2.6),
        ([(56, -84, -84), (74, -72, -98), (84, -70, -104)], 2.2),
    ]
    for points, radius in veins + portal:
        tube = smooth_tube(place(*points), np.linspace(radius, 0.45 * radius, len(points)).tolist())
        canvas.paint_tube(tube, Tissue.LIVER_VESSEL, over=(Tissue.LIVER,))
