"""Planes of a scan with the organs of its label map in color.

For a person to look at, never measured from. Planes are shown as radiologists
are used to: the patient's right on the left, front and head up.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from app.imaging.geometry import IndexZYX, LabelVolume, ScanVolume, SpacingZYX
from app.labels import ORGANS

DISPLAY_WINDOW_HU = (-160.0, 240.0)
"""The usual soft-tissue window: black and white, in HU."""

OPACITY = 0.45
"""Share of the organ's color inside its outline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One slice of scan and label map, turned the way it is shown.

    Parameters
    ----------
    name : str
        What the plane is called.
    sides : (left, right, top, bottom) str
        Which way the patient lies: R, L, A, P, S or I for right, left, anterior,
        posterior, superior, inferior, as 3D Slicer and the page's viewer write them.
    hu, labels : (rows, columns) arrays of int16 and uint8
        Slices through the volumes.
    spacing_mm : (row, column) floats
        Distance between neighboring pixels, in mm.
    """

    name: str
    sides: tuple[str, str, str, str]
    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float]


def busiest_slice(labels: LabelVolume, axis: int) -> int:
    """Find the slice that cuts most organs, and among equals the one that cuts them widest.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        The label map.
    axis : int
        The axis that the slice is perpendicular to.

    Returns
    -------
    int
        Index along ``axis``; the middle one where the label map is empty.
    """
    others = tuple(other for other in range(3) if other != axis)
    num_organs = np.zeros(labels.shape[axis], np.int64)
    num_voxels = np.zeros(labels.shape[axis], np.int64)
    for organ in ORGANS:
        in_slice = np.count_nonzero(labels == organ.value, axis=others)
        num_organs += in_slice > 0
        num_voxels += in_slice
    if not num_voxels.any():
        return int(labels.shape[axis] // 2)
    # A slice never holds as many voxels as the factor, so the count of organs decides first.
    return int(np.argmax(num_organs * labels.size + num_voxels))


def three_planes(
    scan: ScanVolume, labels: LabelVolume, spacing_mm: SpacingZYX, position: IndexZYX
) -> tuple[Plane, Plane, Plane]:
    """Cut an axial, a coronal and a sagittal plane through one voxel.

    Parameters
    ----------
    scan, labels : (Z, Y, X) arrays of int16 and uint8
        Scan in HU and label map on one grid, in LPS.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    position : (z, y, x) ints
        The voxel.

    Returns
    -------
    3 Plane
    """
    z, y, x = position
    step_z, step_y, step_x = spacing_mm
    # Rows of the two upright planes start at the head, where z is largest.
    axial = Plane(
        name="Axial",
        sides=("R", "L", "A", "P"),
        hu=scan[z],
        labels=labels[z],
        spacing_mm=(step_y, step_x),
    )
    coronal = Plane(
        name="Coronal",
        sides=("R", "L", "S", "I"),
        hu=scan[::-1, y],
        labels=labels[::-1, y],
        spacing_mm=(step_z, step_x),
    )
    sagittal = Plane(
        name="Sagittal",
        sides=("A", "P", "S", "I"),
        hu=scan[::-1, :, x],
        labels=labels[::-1, :, x],
        spacing_mm=(step_z, step_y),
    )
    return axial, coronal, sagittal


def outline(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Mark the organs' pixels that touch another value above, below, left or right of them."""
    padded = np.pad(labels, 1)
    neighbors = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs = np.logical_or.reduce([labels != neighbor for neighbor in neighbors])
    return np.asarray(differs & (labels > 0))


def paint(plane: Plane, pixels_per_mm: float) -> Image.Image:
    """Draw one plane with square pixels, the organs tinted and outlined in their colors.

    Parameters
    ----------
    plane : Plane
        What is drawn.
    pixels_per_mm : float
        Scale of the picture.

    Returns
    -------
    Image
        RGB.
    """
    rows, columns = (
        max(1, round(num * step * pixels_per_mm))
        for num, step in zip(plane.hu.shape, plane.spacing_mm, strict=True)
    )
    low, high = DISPLAY_WINDOW_HU
    gray = np.rint((np.clip(plane.hu, low, high) - low) * (255.0 / (high - low))).astype(np.uint8)
    smooth = Image.fromarray(gray).resize((columns, rows), Image.Resampling.BILINEAR)
    blocky = Image.fromarray(np.ascontiguousarray(plane.labels))
    labels = np.asarray(blocky.resize((columns, rows), Image.Resampling.NEAREST))

    palette = np.zeros((256, 3), np.float32)
    for organ in ORGANS:
        palette[organ.value] = organ.color
    opacity = np.where(outline(labels), 1.0, np.where(labels > 0, OPACITY, 0.0))[..., None]
    shades = np.asarray(smooth, np.float32)[..., None]
    blended = shades * (1 - opacity) + palette[labels] * opacity
    return Image.fromarray(blended.astype(np.uint8))
