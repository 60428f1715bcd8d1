"""A picture of a scan and its label map: three planes with the organs in color.

For a person to look at, never measured from. Planes are shown as radiologists
are used to: the patient's right on the left, front and head up.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from app.imaging.geometry import Geometry, LabelVolume, ScanVolume, SpacingZYX
from app.imaging.organ_volumes import organ_volumes_ml
from app.labels import ORGANS

DISPLAY_WINDOW_HU = (-160.0, 240.0)
"""The usual soft-tissue window: black and white, in HU."""

PLANE_PIXELS = 560
"""Longest side of a drawn plane, in pixels."""

OPACITY = 0.45
"""Share of the organ's color inside its outline."""

MARGIN_PIXELS = 12
LEGEND_COLUMNS = 5
LEGEND_ROW_PIXELS = 24
FONT_PIXELS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One slice of scan and label map, turned the way it is shown.

    Parameters
    ----------
    name : str
        What the plane is called, with its place in the scan.
    hu, labels : (rows, columns) arrays of int16 and uint8
        Slices through the volumes.
    spacing_mm : (row, column) floats
        Distance between neighboring pixels, in mm.
    """

    name: str
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


def three_planes(scan: ScanVolume, labels: LabelVolume, spacing_mm: SpacingZYX) -> list[Plane]:
    """Cut an axial, a coronal and a sagittal plane where most organs show.

    Parameters
    ----------
    scan, labels : (Z, Y, X) arrays of int16 and uint8
        Scan in HU and label map on one grid, in LPS.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    list of 3 Plane
    """
    z, y, x = (busiest_slice(labels, axis) for axis in range(3))
    step_z, step_y, step_x = spacing_mm
    num_z, num_y, num_x = labels.shape
    # Rows of the two upright planes start at the head, where z is largest.
    return [
        Plane(
            name=f"axial, slice {z + 1} of {num_z}",
            hu=scan[z],
            labels=labels[z],
            spacing_mm=(step_y, step_x),
        ),
        Plane(
            name=f"coronal, row {y + 1} of {num_y}",
            hu=scan[::-1, y],
            labels=labels[::-1, y],
            spacing_mm=(step_z, step_x),
        ),
        Plane(
            name=f"sagittal, column {x + 1} of {num_x}",
            hu=scan[::-1, :, x],
            labels=labels[::-1, :, x],
            spacing_mm=(step_z, step_y),
        ),
    ]


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


def draw_picture(
    scan: ScanVolume, labels: LabelVolume, spacing_mm: SpacingZYX, *, title: str
) -> Image.Image:
    """Draw three planes of a scan with its organs, and a legend with their volumes.

    Parameters
    ----------
    scan, labels : (Z, Y, X) arrays of int16 and uint8
        Scan in HU and label map on one grid, in LPS.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    title : str
        First line of the picture.

    Returns
    -------
    Image
        RGB, about 1,200 by 700 pixels.
    """
    planes = three_planes(scan, labels, spacing_mm)
    longest_mm = max(num * step for num, step in zip(labels.shape, spacing_mm, strict=True))
    painted = [paint(plane, PLANE_PIXELS / longest_mm) for plane in planes]
    # A plane narrower than its name would have the next name written over its own.
    widths = [max(image.width, PLANE_PIXELS // 3) for image in painted]
    top = MARGIN_PIXELS + 2 * LEGEND_ROW_PIXELS
    bottom = top + max(image.height for image in painted) + MARGIN_PIXELS
    num_rows = -(-len(ORGANS) // LEGEND_COLUMNS)
    size = (
        sum(widths) + (len(painted) + 1) * MARGIN_PIXELS,
        bottom + num_rows * LEGEND_ROW_PIXELS + MARGIN_PIXELS,
    )
    picture = Image.new("RGB", size, "black")
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(FONT_PIXELS)
    pen.text((MARGIN_PIXELS, MARGIN_PIXELS), title, "white", font)
    left = MARGIN_PIXELS
    for plane, image, width in zip(planes, painted, widths, strict=True):
        pen.text((left, top - LEGEND_ROW_PIXELS), plane.name, "silver", font)
        picture.paste(image, (left, top))
        left += width + MARGIN_PIXELS
    geometry = Geometry(shape=labels.shape, spacing_mm=spacing_mm)
    _draw_legend(pen, font, bottom, size[0], organ_volumes_ml(labels, geometry))
    return picture


def _draw_legend(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    top: int,
    width: int,
    volumes_ml: dict[str, float],
) -> None:
    """Write each organ's color, name and volume below the planes."""
    column_pixels = (width - 2 * MARGIN_PIXELS) // LEGEND_COLUMNS
    for index, organ in enumerate(ORGANS):
        volume_ml = volumes_ml[organ.name]
        row, column = divmod(index, LEGEND_COLUMNS)
        x, y = MARGIN_PIXELS + column * column_pixels, top + row * LEGEND_ROW_PIXELS
        pen.rectangle((x, y + 3, x + 12, y + 15), organ.color)
        found = f"{volume_ml:.0f} ml" if volume_ml >= 10 else f"{volume_ml:.1f} ml"
        text = f"{organ.name.replace('_', ' ')}  {found if volume_ml else 'not found'}"
        pen.text((x + 20, y), text, "white" if volume_ml else "gray", font)
