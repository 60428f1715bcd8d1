"""A phantom's kidneys and adrenal glands.

Everything is laid down for the reference patient (see
:mod:`app.synthesis.procedural.patient`): mm, (z, y, x), origin in the spinal canal
at the first lumbar vertebra, x to the left, y to the back, z to the head.
"""

from dataclasses import dataclass

import numpy as np

from app.synthesis.procedural.patient import Patient, Placement
from app.synthesis.procedural.torso import BOWEL, LARGE, SOFT_FILL
from app.synthesis.shapes import (
    Canvas,
    Ellipsoid,
    Field,
    FloatArray,
    Points,
    Tube,
    frame,
    grow,
    smooth_tube,
    wobble,
)
from app.synthesis.tissues import Tissue


@dataclass(frozen=True, slots=True)
class Kidney:
    """Where one kidney lies and how it is turned.

    Parameters
    ----------
    center : (3,) array
        In mm.
    axes : (3, 3) array
        Columns point along the kidney, towards its hilum, and across both.
    semi_axes : three floats
        Half lengths along these axes, in mm.
    girth : float
        Size relative to the reference.
    columns : float
        Places the cortical columns between the pyramids.
    """

    center: Points
    axes: Points
    semi_axes: list[float]
    girth: float
    columns: float

    def hilum(self, deep_mm: float) -> list[float]:
        """Give a point so far from the center towards the hilum."""
        point: list[float] = (self.center + self.axes[:, 1] * deep_mm * self.girth).tolist()
        return point

    def bean(self) -> Field:
        """Give the kidney's outline: an ellipsoid whose poles lean towards the hilum."""

        def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
            return Ellipsoid((0, 0, 0), self.semi_axes).depth(*self._local(z, y, x))

        return Field(self._bounds(), depth)

    def pyramids(self) -> Field:
        """Give the medulla: a ring under the cortex, cut into pyramids by columns of cortex."""

        def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
            along, inwards, across = self._local(z, y, x)
            rows = np.cos(along * np.float32(2 * np.pi / 19) + np.float32(self.columns))
            fans = np.cos(2.5 * np.arctan2(across, -inwards - np.float32(4)) + np.float32(0.6))
            deep = Ellipsoid((0, 0, 0), self.semi_axes).depth(along, inwards, across)
            ring = np.minimum(deep - np.float32(6.0), np.float32(17.5) - deep)
            result: FloatArray = np.minimum(ring, 4 * (rows + fans + np.float32(0.75)))
            return result

        return Field(self._bounds(), depth)

    def _local(self, z: FloatArray, y: FloatArray, x: FloatArray) -> list[FloatArray]:
        offsets = [a - np.float32(c) for a, c in zip((z, y, x), self.center, strict=True)]
        along, inwards, across = (
            offsets[0] * turn[0] + offsets[1] * turn[1] + offsets[2] * turn[2]
            for turn in self.axes.T.tolist()
        )
        bend = np.float32(7.0) * (along / np.float32(self.semi_axes[0])) ** 2
        return [along, inwards - bend + np.float32(2.0), across]

    def _bounds(self) -> Points:
        length, thick, wide = self.semi_axes
        # The poles' lean takes the outline up to 9 mm further.
        reach = np.sqrt(((self.axes * (length, thick + 9, wide)) ** 2).sum(axis=1))
        return np.stack([self.center - reach, self.center + reach])


def make_kidney(patient: Patient, side: int) -> Kidney:
    """Lay down the right (side -1) or left (side 1) kidney of a patient."""
    name = "left_kidney" if side > 0 else "right_kidney"
    center = (-13.0, -28.0, 67.0) if side > 0 else (-23.0, -29.0, -67.0)
    place = Placement(patient, name, center)
    # The upper pole lies further back and nearer to the spine; the hilum looks in and forwards.
    along = (1.0, 0.16, -side * (0.24 + place.tilt))
    return Kidney(
        center=np.asarray(place(center)[0]),
        axes=frame(along, (0.0, -0.62, -side * 0.78)),
        semi_axes=place.radii(55, 28, 29),
        girth=place.girth,
        columns=patient.phase,
    )


def paint_kidney(canvas: Canvas, patient: Patient, side: int) -> None:
    """Paint a kidney in its fat: cortex, pyramids, fatty sinus with pelvis and ureter."""
    kidney = make_kidney(patient, side)
    bean = kidney.bean()
    cortex = Tissue.LEFT_KIDNEY if side > 0 else Tissue.RIGHT_KIDNEY
    medulla = Tissue.LEFT_KIDNEY_MEDULLA if side > 0 else Tissue.RIGHT_KIDNEY_MEDULLA
    canvas.paint(grow(bean, 5 + 6 * patient.belly), Tissue.FAT, over=(*LARGE, *BOWEL))
    canvas.paint(bean, cortex)
    canvas.paint(kidney.pyramids(), medulla, over=(cortex,))
    sinus_axes = [length * kidney.girth for length in (28, 18, 10)]
    sinus = Ellipsoid(kidney.hilum(15.5), sinus_axes, kidney.axes)
    canvas.paint(wobble(sinus, 1.5, 14, patient.phase), Tissue.FAT, over=(cortex, medulla))
    pelvis = Ellipsoid(kidney.hilum(16), (9, 11, 4.5), kidney.axes)
    canvas.paint(pelvis, Tissue.URINE, over=(Tissue.FAT,))
    ureter = [kidney.hilum(22), (kidney.center[0] - 38, -38, side * 42), (-110, -58, side * 38),
              (-170, -48, side * 42), (-235, -8, side * 38), (-250, -30, side * 18)]  # fmt: skip
    canvas.paint_tube(smooth_tube(ureter, 2.2), Tissue.URINE, over=SOFT_FILL)


def paint_adrenal(canvas: Canvas, patient: Patient, side: int) -> None:
    """Paint an adrenal gland: a body and two limbs, thin plates that open to the back."""
    name = "left_adrenal_gland" if side > 0 else "right_adrenal_gland"
    organ = Tissue.LEFT_ADRENAL if side > 0 else Tissue.RIGHT_ADRENAL
    tips = (
        [(29, -57, 32), (29, -42, 26), (29, -41, 43)]
        if side > 0
        else [(36, -51, -30), (36, -29, -28), (36, -30, -40)]
    )
    place = Placement(patient, name, np.mean(tips, axis=0))
    front, medial, lateral = (np.asarray(point) for point in place(*tips))
    gland = _plates(front, medial, lateral, side=side, girth=place.girth)
    kidneys = (Tissue.RIGHT_KIDNEY, Tissue.LEFT_KIDNEY)
    canvas.paint(grow(gland, 2.0), Tissue.FAT, over=(*LARGE, *kidneys))
    canvas.paint(gland, organ)


def _plates(front: Points, medial: Points, lateral: Points, *, side: int, girth: float) -> Field:
    """Raise a Y in the axial plane to a gland that thins out above and below."""
    joint = front + (medial + lateral - 2 * front) * 0.22
    half_height = 15.0 * girth
    limbs = [
        Tube(np.stack([start, stop]) * (0, 1, 1), np.array(radii) * girth)
        for start, stop, radii in (
            (front, joint, (2.6, 3.1)),
            (joint, medial, (2.9, 2.0)),
            (joint, lateral, (2.9, 2.0)),
        )
    ]

    def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        # The gland leans back and outwards on its way up, as the kidney's top does.
        away = (z - np.float32(front[0])) / np.float32(half_height)
        y_level, x_level = y + 5 * away, x + np.float32(2.5 * side) * away
        deepest = np.maximum.reduce(
            [limb.depth(np.zeros_like(z), y_level, x_level) for limb in limbs]
        )
        thinner = np.float32(3.2) * np.maximum(np.abs(away) - np.float32(0.45), 0) ** 2
        ends = np.float32(half_height) * (1 - np.abs(away))
        result: FloatArray = np.minimum(deepest - thinner, ends)
        return result

    corners = np.stack([front, medial, lateral])
    reach = np.array([half_height + 1, 12, 9])
    return Field(np.stack([corners.min(axis=0) - reach, corners.max(axis=0) + reach]), depth)
