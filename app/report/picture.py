"""The picture of a case: three planes, the organs from the front, and their volumes."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from app.imaging.components import components_of
from app.imaging.crop import bounding_box, box_on_grid
from app.imaging.geometry import Box, IndexZYX, LabelVolume
from app.imaging.picture import DISPLAY_WINDOW_HU, busiest_slice, paint, three_planes
from app.imaging.volume import Volume
from app.labels import ORGANS
from app.report.front_view import front_view
from app.report.viewing_copy import ViewingCopy

AROUND_ORGANS_MM = 70.0
"""How far above and below the organs the picture reaches, in mm; a long scan is cut there."""

AROUND_BODY_MM = 8.0
"""Air shown around the body, in mm."""

TILES_PIXELS = (1150, 1000)
"""Room for two by two tiles: columns and rows, in pixels."""

LEGEND_PIXELS = 300
MARGIN_PIXELS = 24
GAP_PIXELS = 4
HEAD_PIXELS = 76
LINE_PIXELS = 31
SCALE_BAR_MM = 50

PAPER, TILE = (19, 23, 29), (0, 0, 0)
BRIGHT, PLAIN, FAINT = (242, 245, 248), (205, 212, 220), (132, 142, 154)
AMBER = (240, 192, 96)

NOTE_PIXELS = 21
"""Height of a line of small print."""

NOTES = (
    "Slices count from feet, front and right.",
    "Drawn for looking at, not for",
    "measuring. Not for clinical use.",
)

NOTE_LETTERS = 40
"""Letters of small print that fit beside each other into the legend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One of the four images of a picture.

    Parameters
    ----------
    caption : str
        Written into its upper left corner.
    sides : (left, right, top, bottom) str
        Which way the patient lies.
    image : Image
        RGB.
    """

    caption: str
    sides: tuple[str, str, str, str]
    image: Image.Image


def draw_picture(
    scan: Volume,
    labels: LabelVolume,
    copy: ViewingCopy,
    volumes_ml: Mapping[str, float],
    *,
    title: str,
    warnings: Sequence[str] = (),
) -> Image.Image:
    """Draw a scan with its organs.

    Parameters
    ----------
    scan : Volume of int16
        In HU, in canonical orientation.
    labels : (Z, Y, X) array of uint8
        Label map on the scan's grid.
    copy : ViewingCopy
        Of both, to find the planes by and to render.
    volumes_ml : dict of str to float
        Volume of each organ that was asked for, in ml.
    title : str
        Written above.
    warnings : sequence of str
        Written below the legend, as far as there is room.

    Returns
    -------
    Image
        RGB, at most 1,520 by 1,130 pixels.
    """
    box = shown_box(copy, scan)
    tiles, pixels_per_mm = _tiles(scan, labels, copy, box)
    columns = [max(tiles[0].image.width, tiles[2].image.width)]
    columns.append(max(tiles[1].image.width, tiles[3].image.width))
    rows = [max(tile.image.height for tile in pair) for pair in (tiles[:2], tiles[2:])]
    legend_left = MARGIN_PIXELS + sum(columns) + GAP_PIXELS + MARGIN_PIXELS
    least_height = HEAD_PIXELS + (len(ORGANS) + 4) * LINE_PIXELS
    height = max(HEAD_PIXELS + sum(rows) + GAP_PIXELS, least_height) + MARGIN_PIXELS
    picture = Image.new("RGB", (legend_left + LEGEND_PIXELS + MARGIN_PIXELS, height), PAPER)
    pen = ImageDraw.Draw(picture)
    _write_head(pen, scan, title, picture.width)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, 2)
        left = MARGIN_PIXELS + column * (columns[0] + GAP_PIXELS)
        top = HEAD_PIXELS + row * (rows[0] + GAP_PIXELS)
        _draw_tile(picture, tile, (left, top), (columns[column], rows[row]))
    _draw_scale_bar(pen, pixels_per_mm, left=MARGIN_PIXELS + 14, bottom=HEAD_PIXELS + rows[0] - 12)
    bottom = _draw_legend(pen, volumes_ml, left=legend_left, top=HEAD_PIXELS)
    _write_warnings(pen, warnings, left=legend_left, top=bottom, stop=height - MARGIN_PIXELS)
    return picture


def shown_box(copy: ViewingCopy, scan: Volume) -> Box:
    """Find what of a scan is worth showing: the body, and along z the organs' surroundings.

    Parameters
    ----------
    copy : ViewingCopy
        Of scan and label map.
    scan : Volume of int16
        The scan.

    Returns
    -------
    Box
        In the scan's voxels.
    """
    labels, grid = copy.labels.array, copy.labels.geometry
    thin = copy.gray.array[::2, ::2, ::2] > 0  # every other voxel tells where the body is
    _, found = components_of(thin, grid.spacing_mm)
    start, stop = np.zeros(3, int), np.asarray(grid.shape)
    if found:
        margin = np.ceil(AROUND_BODY_MM / np.asarray(grid.spacing_mm)).astype(int)
        start = np.maximum(start, 2 * np.asarray(found[0].box.start) - margin)
        stop = np.minimum(stop, 2 * np.asarray(found[0].box.stop) + margin)
    if labels.any():
        organs = bounding_box(labels > 0, grid.spacing_mm)
        around = bounding_box(labels > 0, grid.spacing_mm, AROUND_ORGANS_MM)
        start, stop = np.minimum(start, organs.start), np.maximum(stop, organs.stop)
        start[0], stop[0] = around.start[0], around.stop[0]
    return box_on_grid(
        Box.between(start.tolist(), stop.tolist()),
        grid.shape,
        grid.spacing_mm,
        scan.geometry.shape,
        scan.geometry.spacing_mm,
    )


def _tiles(
    scan: Volume, labels: LabelVolume, copy: ViewingCopy, box: Box
) -> tuple[list[Tile], float]:
    """Draw the four tiles at one scale, and give it in pixels per mm."""
    spacing_mm = scan.geometry.spacing_mm
    position = _busiest_position(copy, scan)
    z, y, x = (
        min(max(index, first), stop - 1) - first
        for index, first, stop in zip(position, box.start, box.stop, strict=True)
    )
    planes = three_planes(scan.array[box.slices], labels[box.slices], spacing_mm, (z, y, x))
    tall_mm, deep_mm, wide_mm = (
        size * step for size, step in zip(box.shape, spacing_mm, strict=True)
    )
    pixels_per_mm = min(
        TILES_PIXELS[0] / (wide_mm + max(wide_mm, deep_mm)),
        TILES_PIXELS[1] / (max(deep_mm, tall_mm) + tall_mm),
    )
    tiles = [
        Tile(
            caption=f"{plane.name}  {place + first + 1} / {size}",
            sides=plane.sides,
            image=paint(plane, pixels_per_mm),
        )
        for plane, place, first, size in zip(
            planes, (z, y, x), box.start, scan.geometry.shape, strict=True
        )
    ]
    front = _front(copy, scan, box, pixels_per_mm)
    return [
        *tiles,
        Tile(caption="From the front", sides=planes[1].sides, image=front),
    ], pixels_per_mm


def _busiest_position(copy: ViewingCopy, scan: Volume) -> IndexZYX:
    """Find the voxel of the scan where planes show most organs."""
    z, y, x = (
        min(size - 1, int((busiest_slice(copy.labels.array, axis) + 0.5) * size / coarse_size))
        for axis, (size, coarse_size) in enumerate(
            zip(scan.geometry.shape, copy.labels.geometry.shape, strict=True)
        )
    )
    return (z, y, x)


def _front(copy: ViewingCopy, scan: Volume, box: Box, pixels_per_mm: float) -> Image.Image:
    grid = copy.labels.geometry
    coarse = box_on_grid(
        box, scan.geometry.shape, scan.geometry.spacing_mm, grid.shape, grid.spacing_mm
    )
    rendered = Image.fromarray(
        front_view(copy.labels.array[coarse.slices], grid.spacing_mm, pixels_per_mm=pixels_per_mm)
    )
    image = Image.new("RGB", rendered.size, TILE)
    image.paste(rendered, mask=rendered.getchannel("A"))
    return image


def _font(pixels: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(pixels)


def _write_head(pen: ImageDraw.ImageDraw, scan: Volume, title: str, width: int) -> None:
    pen.text((MARGIN_PIXELS, 20), title, BRIGHT, _font(26))
    size = " x ".join(str(size) for size in scan.geometry.shape[::-1])
    spacing = " x ".join(f"{step:.3g}" for step in scan.geometry.spacing_mm[::-1])
    low, high = DISPLAY_WINDOW_HU
    lines = (f"{size} voxels of {spacing} mm", f"window {low:.0f} to {high:.0f} HU")
    for line, top in zip(lines, (18, 40), strict=True):
        pen.text((width - MARGIN_PIXELS, top), line, FAINT, _font(15), anchor="ra")


def _draw_tile(
    picture: Image.Image, tile: Tile, corner: tuple[int, int], room: tuple[int, int]
) -> None:
    """Put a tile into the middle of its room and write its caption and sides."""
    left, top = corner
    width, height = room
    pen = ImageDraw.Draw(picture)
    pen.rectangle((left, top, left + width - 1, top + height - 1), TILE)
    inside = (left + (width - tile.image.width) // 2, top + (height - tile.image.height) // 2)
    picture.paste(tile.image, inside)
    middle = (left + width // 2, top + height // 2)
    places = (
        ((left + 10, middle[1]), "lm"),
        ((left + width - 10, middle[1]), "rm"),
        ((middle[0], top + 8), "ma"),
        ((middle[0], top + height - 8), "md"),
    )
    for side, (place, anchor) in zip(tile.sides, places, strict=True):
        _write(pen, place, side, pixels=17, anchor=anchor)
    _write(pen, (left + 12, top + 9), tile.caption, pixels=16)


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, *, pixels: int, anchor: str = "la"
) -> None:
    """Write on an image, outlined so that it is read on bright bone too."""
    pen.text(place, text, PLAIN, _font(pixels), anchor=anchor, stroke_width=2, stroke_fill=TILE)


def _draw_scale_bar(
    pen: ImageDraw.ImageDraw, pixels_per_mm: float, *, left: int, bottom: int
) -> None:
    right = left + round(SCALE_BAR_MM * pixels_per_mm)
    pen.rectangle((left - 1, bottom - 3, right + 1, bottom), TILE)
    pen.line((left, bottom - 2, right, bottom - 2), PLAIN, 2)
    _write(pen, (left, bottom - 6), f"{SCALE_BAR_MM} mm", pixels=14, anchor="ld")


def _draw_legend(
    pen: ImageDraw.ImageDraw, volumes_ml: Mapping[str, float], *, left: int, top: int
) -> int:
    """Write each organ's color, name and volume; give the row below."""
    right = left + LEGEND_PIXELS
    pen.text((left, top), "Organ", FAINT, _font(15))
    pen.text((right, top), "ml", FAINT, _font(15), anchor="ra")
    asked_for = [organ for organ in ORGANS if organ.name in volumes_ml]
    for line, organ in enumerate(asked_for):
        y = top + 30 + line * LINE_PIXELS
        volume_ml = volumes_ml[organ.name]
        found = f"{volume_ml:,.0f}" if volume_ml >= 10 else f"{volume_ml:.1f}"
        ink = BRIGHT if volume_ml else FAINT
        pen.rounded_rectangle((left, y + 2, left + 15, y + 17), 4, organ.color)
        pen.text((left + 27, y), organ.name.replace("_", " ").capitalize(), ink, _font(18))
        pen.text((right, y), found if volume_ml else "not found", ink, _font(18), anchor="ra")
    bottom = top + 30 + len(asked_for) * LINE_PIXELS + 14
    for text in NOTES:
        pen.text((left, bottom), text, FAINT, _font(15))
        bottom += NOTE_PIXELS
    return bottom


def _write_warnings(
    pen: ImageDraw.ImageDraw, warnings: Sequence[str], *, left: int, top: int, stop: int
) -> None:
    """Write what should be looked at, and three dots where there is more than fits."""
    lines = [line for text in warnings for line in ["", *textwrap.wrap(text, NOTE_LETTERS)]]
    room = max(0, (stop - top) // NOTE_PIXELS)
    if len(lines) > room:
        lines = [*lines[: room - 1], "…"][:room]
    for index, line in enumerate(lines):
        pen.text((left, top + NOTE_PIXELS * index), line, AMBER, _font(15))
