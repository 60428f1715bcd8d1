"""A phantom's trunk: skin, fat, the muscular wall, and the hollow the organs are fitted into.

Everything is laid down for the reference patient (see
:mod:`app.synthesis.procedural.patient`): mm, (z, y, x), origin in the spinal canal
at the first lumbar vertebra, x to the left, y to the back, z to the head.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from app.synthesis.procedural.patient import Patient
from app.synthesis.shapes import (
    Bounds,
    Canvas,
    Field,
    FloatArray,
    grow,
    intersect,
    smooth_tube,
    subtract,
)
from app.synthesis.tissues import Tissue

Table = npt.NDArray[np.float64]

SIDES = (-1, 1)
"""Sign of x: the patient's right and left."""

EVERYWHERE: Bounds = np.array([[-3000.0] * 3, [3000.0] * 3])
"""Bounds of what has none."""

SOFT_FILL = (Tissue.FAT, Tissue.MESENTERY)
"""Tissues that fill what organs leave free."""

LARGE = (Tissue.LIVER, Tissue.SPLEEN, Tissue.MUSCLE, *SOFT_FILL)
"""Tissues that give way to the fat around an organ."""

BOWEL = (
    Tissue.BOWEL_WALL, Tissue.BOWEL_CONTENT, Tissue.BOWEL_GAS, Tissue.COLON_WALL, Tissue.STOOL,
)  # fmt: skip
"""What bowel and colon are made of."""

# Outlines: z, half width, front y, back y, in mm, from the thighs to the neck.
_WALL = np.array(
    [
        (-345, 150, -95, 62), (-300, 166, -108, 74), (-260, 167, -112, 76), (-200, 158, -116, 70),
        (-150, 145, -120, 62), (-110, 137, -122, 58), (-70, 134, -127, 58), (-30, 138, -136, 58),
        (0, 143, -146, 59), (40, 149, -160, 60), (80, 152, -170, 60), (130, 152, -168, 59),
        (180, 150, -155, 58), (220, 150, -137, 56), (245, 140, -122, 50), (268, 112, -110, 42),
        (288, 76, -106, 28), (310, 60, -108, 14), (340, 55, -112, 4), (400, 56, -120, -8),
    ], np.float64,
)  # fmt: skip

_CAVITY = np.array(
    [
        (-285, 34, -84, 18), (-262, 46, -94, 30), (-230, 60, -101, 38), (-190, 80, -106, 38),
        (-150, 104, -109, 24), (-110, 118, -111, 16), (-70, 118, -115, 17), (-30, 121, -124, 22),
        (0, 126, -133, 31), (40, 133, -147, 38), (80, 137, -157, 42), (130, 137, -154, 43),
        (180, 130, -139, 42), (220, 108, -117, 36), (245, 82, -98, 26), (266, 50, -78, 12),
    ], np.float64,
)  # fmt: skip


def at(table: Table, z: FloatArray | float, column: int = 1) -> FloatArray:
    """Look a measure up along the body, linearly."""
    return np.asarray(np.interp(z, table[:, 0], table[:, column]), np.float32)


def hump(z: FloatArray | float, center: float, width: float) -> FloatArray:
    """Give a bell curve along the body, 1 at its center."""
    return np.asarray(np.exp(-(((z - center) / width) ** 2)), np.float32)


@dataclass(frozen=True, slots=True)
class Outline:
    """The inside of a trunk: a superellipse in each axial plane.

    Parameters
    ----------
    table : (N, 4) array
        Rows of z, half width, front y and back y, in mm.
    belly_mm : float
        How far visceral fat pushes the front out at the navel, in mm.
    fat_mm : float
        Subcutaneous fat included, in mm at the flank.
    extra_mm : float
        Added all around.
    exponent : float
        2 is an ellipse; larger is nearer to a rectangle.
    furrow : float
        How deep the back is drawn in along the spine, as a share of its depth.
    """

    table: Table
    belly_mm: float = 0.0
    fat_mm: float = 0.0
    extra_mm: float = 0.0
    exponent: float = 2.4
    furrow: float = 0.0

    @property
    def bounds(self) -> Bounds:
        """As far as the table reaches along z."""
        reach = self.fat_mm * 1.6 + self.extra_mm
        widest, front, back = self.table[:, 1].max(), self.table[:, 2].min(), self.table[:, 3].max()
        side = widest + reach + 0.45 * self.belly_mm
        return np.array(
            [
                [self.table[0, 0] - self.extra_mm, front - reach - self.belly_mm, -side],
                [self.table[-1, 0] + self.extra_mm, back + reach, side],
            ]
        )

    def measures(self, z: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give half width, front y and back y at a height, fat and belly included, in mm."""
        half_width, front, back = (at(self.table, z, i) for i in (1, 2, 3))
        belly = self.belly_mm * hump(z, -75, 105)
        # Fat is thick at the hips and the belly, thin at the chest, thinner at the neck.
        neck = np.clip((z - 262) / 40, 0, 1)
        fat = self.fat_mm * (0.45 + 0.75 * hump(z, -190, 170)) * (1 - 0.6 * neck)
        return (
            np.asarray(half_width + fat + 0.45 * belly + self.extra_mm, np.float32),
            np.asarray(front - 1.1 * fat - belly - self.extra_mm, np.float32),
            np.asarray(back + 0.85 * fat + self.extra_mm, np.float32),
        )

    def depth(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Depth in mm, to first order at the surface."""
        half_width, front, back = self.measures(z)
        middle = 0.42 * front + 0.58 * back
        # Powers are taken on planes; the volume itself only sees one sum.
        side = (np.abs(x) / half_width) ** np.float32(self.exponent)
        reach = np.where(y < middle, middle - front, back - middle)
        radial = (np.abs(y - middle) / reach) ** np.float32(self.exponent)
        smaller = np.minimum(half_width, reach) / np.float32(self.exponent)
        furrow = np.exp(-((x / 17) ** 2)) * np.clip((y - 15) / 25, 0, self.furrow)
        return np.asarray((1 - furrow - (side + radial)) * smaller, np.float32)


@dataclass(frozen=True, slots=True)
class Torso:
    """The patient's hollows: what the organs are fitted into.

    Parameters
    ----------
    cavity : Outline
        Inner face of the trunk's wall, from the neck to the pelvic floor.
    breath_mm : float
        How far the diaphragm lies below the reference, in mm.
    """

    cavity: Outline
    breath_mm: float

    def dome(self, y: FloatArray, x: FloatArray) -> FloatArray:
        """Give the height of the diaphragm over a point of the axial plane, in mm."""
        right = ((x + 64) / 80) ** 2 + ((y + 66) / 106) ** 2
        left = ((x - 62) / 76) ** 2 + ((y + 60) / 100) ** 2
        middle = (x / 62) ** 2 + ((y + 96) / 72) ** 2
        height = np.maximum(112 - 64 * right, 99 - 56 * left)
        height = np.maximum(height, 88 - 34 * middle)
        lowest = 30 + 0.25 * np.maximum(-60 - y, 0)
        return np.maximum(height, lowest).astype(np.float32) - np.float32(self.breath_mm)

    def below_dome(self, gap_mm: float) -> Field:
        """Give the space under the diaphragm, less a gap."""
        gap = np.float32(gap_mm)
        return Field(EVERYWHERE, lambda z, y, x: 0.8 * (self.dome(y, x) - gap - z))

    def above_dome(self, gap_mm: float) -> Field:
        """Give the space over the diaphragm, less a gap."""
        gap = np.float32(gap_mm)
        return Field(EVERYWHERE, lambda z, y, x: 0.8 * (z - self.dome(y, x) - gap))


def make_torso(patient: Patient) -> Torso:
    """Build the hollows of one patient."""
    return Torso(Outline(_CAVITY, belly_mm=45 * patient.belly), patient.breath_mm)


def mirrored(points: Sequence[Sequence[float]], side: int) -> list[tuple[float, float, float]]:
    """Put points laid down for the left (side 1) on either side of the body."""
    return [(z, y, side * x) for z, y, x in points]


def _cylinder_along_z(points: Sequence[tuple[float, float, float, float]]) -> Field:
    """Give a limb: circles of center (y, x) and radius at heights z, linear in between."""
    table = np.asarray(sorted(points), np.float64)

    def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        middle_y, middle_x, radius = (at(table, z, i) for i in (1, 2, 3))
        return radius - np.sqrt((y - middle_y) ** 2 + (x - middle_x) ** 2)

    reach = table[:, 3].max()
    low = (table[0, 0], table[:, 1].min() - reach, table[:, 2].min() - reach)
    high = (table[-1, 0], table[:, 1].max() + reach, table[:, 2].max() + reach)
    return Field(np.array([low, high]), depth)


def _legs(extra_mm: float) -> list[Field]:
    rows = (
        (-1000, -25, 82, 28), (-930, -25, 82, 36), (-800, -15, 84, 56), (-700, -25, 86, 58),
        (-620, -25, 86, 62), (-450, -28, 88, 74), (-330, -22, 88, 82), (-250, -20, 90, 78),
    )  # fmt: skip
    return [
        _cylinder_along_z([(z, y, side * x, r + extra_mm) for z, y, x, r in rows]) for side in SIDES
    ]


def paint_skin_and_wall(canvas: Canvas, patient: Patient, torso: Torso) -> None:
    """Paint table, skin, subcutaneous fat, the muscular wall and what fills the trunk."""
    belly, fat = 45 * patient.belly, patient.fat_mm
    skin = Outline(_WALL, belly_mm=belly, fat_mm=fat, extra_mm=2.0, furrow=0.14)
    canvas.paint(_table(float(skin.table[:, 3].max() + fat)), Tissue.TABLE)
    leg_fat = 0.8 * fat
    below_skin = replace(skin, extra_mm=0.0)
    for layer, extra, tissue in ((skin, 2.0, Tissue.SKIN), (below_skin, 0.0, Tissue.FAT)):
        canvas.paint(layer, tissue)
        for leg in _legs(leg_fat + extra):
            canvas.paint(leg, tissue, over=(Tissue.AIR, Tissue.SKIN, Tissue.TABLE))
    canvas.paint(Outline(_WALL, belly_mm=belly, furrow=0.18), Tissue.MUSCLE)
    for leg in _legs(0.0):
        canvas.paint(leg, Tissue.MUSCLE, over=(Tissue.FAT,))
    canvas.paint(torso.cavity, Tissue.FAT)
    mesentery = intersect(
        grow(torso.cavity, -5), torso.below_dome(3), _before(-48), _above(-230), blend_mm=12
    )
    canvas.paint(mesentery, Tissue.MESENTERY)


def _before(y_mm: float) -> Field:
    return Field(EVERYWHERE, lambda _z, y, _x: np.float32(y_mm) - y)


def _above(z_mm: float) -> Field:
    return Field(EVERYWHERE, lambda z, _y, _x: z - np.float32(z_mm))


def _table(back_y: float) -> Field:
    """Give a shell of carbon fiber, 9 mm thick, that bends up at its sides."""
    bounds = np.array([[-3000.0, back_y - 60, -215.0], [3000.0, back_y + 60, 215.0]])
    top = np.float32(back_y + 4)
    return Field(
        bounds, lambda _z, y, x: np.float32(4.5) - np.abs(y - top - 4.5 + x * x * np.float32(9e-4))
    )


def paint_muscles(canvas: Canvas, torso: Torso) -> None:
    """Paint the muscles inside the wall and the planes of fat between the muscles of the wall."""
    for side in SIDES:
        _paint_deep_muscles(canvas, side)
    _paint_fat_planes(canvas, torso)


def _paint_deep_muscles(canvas: Canvas, side: int) -> None:
    """Paint the muscles along the spine, psoas, quadratus, iliacus and the diaphragm's crus."""
    back = smooth_tube(
        mirrored([(-190, 44, 22), (-120, 34, 32), (-60, 33, 36), (0, 34, 36), (80, 38, 30),
                  (180, 42, 24), (280, 18, 20), (340, -12, 18)], side),
        [8, 22, 25, 25, 19, 15, 14, 14], stretch=(1, 0.95, 1.25),
    )  # fmt: skip
    psoas = smooth_tube(
        mirrored([(22, -20, 24), (-20, -23, 31), (-70, -28, 38), (-120, -36, 49), (-165, -58, 73),
                  (-215, -82, 92), (-265, -68, 98), (-310, -40, 98)], side),
        [6, 13, 19, 23, 23, 18, 15, 9], stretch=(1, 1.1, 1),
    )  # fmt: skip
    quadratus = smooth_tube(
        mirrored([(18, 18, 56), (-40, 14, 68), (-110, 10, 84)], side),
        [5, 10, 10], stretch=(1, 0.9, 1.9),
    )  # fmt: skip
    iliacus = smooth_tube(
        mirrored([(-122, -8, 98), (-160, -22, 92), (-200, -52, 94), (-230, -70, 96)], side),
        [10, 16, 17, 13], stretch=(1, 1.5, 0.9),
    )  # fmt: skip
    # The right crus reaches further down than the left.
    end = -10 if side > 0 else -30
    crus = smooth_tube(
        mirrored([(68, -34, 5), (20, -46, 15), (end, -49, 14)], side),
        [4, 5, 4], stretch=(1, 1.4, 0.8),
    )  # fmt: skip
    canvas.paint_tube(back.grown(2.0), Tissue.FAT, over=(Tissue.MUSCLE,))
    for muscle in (back, psoas, quadratus, iliacus):
        canvas.paint_tube(muscle, Tissue.MUSCLE)
    canvas.paint_tube(crus, Tissue.MUSCLE, over=(Tissue.FAT,))


def _paint_fat_planes(canvas: Canvas, torso: Torso) -> None:
    """Paint fat between the recti, beside them, in the flank, at the loin and in the buttock."""
    over = (Tissue.MUSCLE,)
    _paint_sagittal_plane(canvas, 0.0, -250.0, 60.0, 3.0)
    for side in SIDES:
        _paint_sagittal_plane(canvas, side * 72.0, -200.0, 20.0, 2.5)
        loin = mirrored([(15, 58, 92), (-50, 55, 92), (-115, 58, 96)], side)
        buttock = mirrored([(-130, 15, 112), (-200, 28, 95), (-260, 30, 60)], side)
        for tube in (
            smooth_tube(loin, [8, 19, 10], stretch=(1, 1, 1.2)),
            smooth_tube(buttock, 3.5, stretch=(1, 1, 2.2)),
        ):
            canvas.paint_tube(tube, Tissue.FAT, over=over)
    flank = replace(torso.cavity, extra_mm=7.0)
    layer = subtract(grow(flank, 0.8), grow(flank, -0.8))
    sides_only = Field(
        np.array([[-115.0, -100.0, -220.0], [20.0, 5.0, 220.0]]),
        lambda _z, _y, x: np.abs(x) - np.float32(75),
    )
    canvas.paint(intersect(layer, sides_only), Tissue.FAT, over=over)


def _paint_sagittal_plane(
    canvas: Canvas, x_mm: float, z_low: float, z_high: float, half_mm: float
) -> None:
    """Paint a sheet of fat through the front of the muscular wall."""
    bounds = np.array([[z_low, -300.0, x_mm - half_mm], [z_high, -75.0, x_mm + half_mm]])
    sheet = Field(bounds, lambda _z, _y, x: np.float32(half_mm) - np.abs(x - np.float32(x_mm)))
    canvas.paint(sheet, Tissue.FAT, over=(Tissue.MUSCLE,))
