"""DICOM: one CT series as a volume.

Slices are ordered by where they lie, and a series that is no regular grid is
refused: a hole or a tilt that goes unnoticed would shift organs. Compressed pixels
are decoded by :mod:`app.imaging.dicom_decoder`, in a process of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging.dicom_pixels import PixelFormat, dicom_damage_named, read_pixels
from app.imaging.dicom_series import (
    HEADER_DAMAGE,
    NEARLY_HU_TYPES,
    Image,
    Series,
    reason_against_type,
    rescale_type_of,
)
from app.imaging.geometry import Geometry, ScanVolume
from app.imaging.layout import grid_from_xyz
from app.imaging.voxels import Oddities, to_int16

MAX_SIDE = 4096
"""Pixels along a side of a slice; scanners give 512 or 1,024."""

_PIECE_PIXELS = 1 << 20  # turned into HU at once

_MAX_TILT_DEGREES = 0.5
# Of the distance between slices. Headers round positions; more than this is a hole or a shift.
_MAX_SHIFT = 0.1
# Of the usual distance. What single distances may differ by where that adds up over many slices.
_MAX_UNEVENNESS = 0.05
_SAME_PLACE_MM = 0.01
# A distance between two slices may be off by this where positions are rounded to hundredths.
_ROUNDED_MM = 0.011
_MAX_COSINE_ERROR = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One slice and where its pixels are.

    Parameters
    ----------
    path : Path
        The file.
    frame : int
        Which of the file's images, from 0.
    steps_xyz : (3, 2) array of float64
        From pixel to pixel along a row, and from row to row: LPS, mm.
    position_xyz : (3,) array of float64
        Center of the first pixel: LPS, mm.
    thickness_mm : float or None
        What the header says about its extent.
    slope, intercept : float
        HU = slope * stored number + intercept.
    has_intercept : bool
        Whether the header gives one.
    rescale_type : str
        What the header says those numbers are, such as HU; empty if nothing.
    pixels : PixelFormat
        Size and encoding.
    """

    path: Path
    frame: int
    steps_xyz: npt.NDArray[np.float64]
    position_xyz: npt.NDArray[np.float64]
    thickness_mm: float | None
    slope: float
    intercept: float
    has_intercept: bool
    rescale_type: str
    pixels: PixelFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A series whose slices form a regular grid.

    Parameters
    ----------
    series : Series
        Where it comes from.
    geometry : Geometry
        The grid.
    slices : tuple of Slice
        In the order of the grid's first axis.
    notes : tuple of str
        What a user should know.
    """

    series: Series
    geometry: Geometry
    slices: tuple[Slice, ...]
    notes: tuple[str, ...]


def stack_slices(series: Series) -> Stack:
    """Order the slices of a series and check that they form a regular grid.

    Parameters
    ----------
    series : Series
        A CT series.

    Returns
    -------
    Stack
        Slices in the order in which the grid counts them.

    Raises
    ------
    UnreadableScanError
        If a header is damaged.
    UnsupportedScanError
        If a needed element is missing, slices differ in size or direction, one is
        missing or there twice with different pixels, or the gantry was tilted.
    """
    images = series.usable
    slices = [piece for image in images for piece in _slices_of(image)]
    _check_alike(slices)
    across = np.cross(*slices[0].steps_xyz.T)
    normal = across / np.linalg.norm(across)
    slices.sort(key=lambda piece: float(piece.position_xyz @ normal))
    slices, notes = _drop_copies(slices, normal)
    if len(images) < len(series.images):
        notes += (f"{len(series.images) - len(images)} file(s) of the series are no CT slices",)
    if series.num_damaged:
        notes += (f"{series.num_damaged} DICOM file(s) of the folder are damaged and left out",)
    if any(piece.pixels.photometric == "MONOCHROME1" for piece in slices):
        notes += ("stored to be shown inverted (MONOCHROME1); the numbers were taken as they are",)
    if not all(piece.has_intercept for piece in slices):
        notes += ("no rescale intercept; the numbers were taken for HU",)
    changed = {piece.rescale_type for piece in slices} & {*NEARLY_HU_TYPES}
    notes += tuple(
        f"the header calls the numbers {name!a}, not HU; they were taken for HU"
        for name in sorted(changed)
    )
    step, more = _step_between(slices, normal, series.folder)
    first = slices[0]
    geometry = grid_from_xyz(
        series.folder,
        (first.pixels.columns, first.pixels.rows, len(slices)),
        np.column_stack([first.steps_xyz, step]),
        first.position_xyz.tolist(),
    )
    return Stack(series=series, geometry=geometry, slices=tuple(slices), notes=notes + more)


def read_stack(stack: Stack) -> tuple[ScanVolume, tuple[str, ...]]:
    """Read all slices as int16 HU.

    Parameters
    ----------
    stack : Stack
        The slices.

    Returns
    -------
    (Z, Y, X) array of int16
        As the stack's grid says.
    tuple of str
        What a user should know about the numbers.

    Raises
    ------
    UnreadableScanError
        If pixels are missing, damaged or cannot be decoded.
    """
    places = [(piece.path, piece.frame, piece.pixels) for piece in stack.slices]
    voxels: ScanVolume | None = None
    oddities = Oddities()
    # What the first slice needs is checked before memory is taken for all of them.
    for index, stored in enumerate(read_pixels(places)):
        if voxels is None:
            voxels = np.empty(stack.geometry.shape, np.int16)
        piece = stack.slices[index]
        # In pieces, as numbers grow to 64 bits on the way.
        rows = max(1, _PIECE_PIXELS // stored.shape[1])
        for top in range(0, len(stored), rows):
            part = slice(top, top + rows)
            voxels[index, part] = to_int16(stored[part], piece.slope, piece.intercept, oddities)
    if voxels is None:
        raise UnreadableScanError(f"{stack.series.folder}: no slices; export the series again")
    return voxels, oddities.notes()


def _is_enhanced(image: Image) -> bool:
    return "PerFrameFunctionalGroupsSequence" in image.dataset


def _slices_of(image: Image) -> list[Slice]:
    """Give the one slice of a file, or all of an enhanced one."""
    with dicom_damage_named(image.path, HEADER_DAMAGE):
        pixels = _pixel_format(image)
        if not _is_enhanced(image):
            if pixels.num_frames > 1:
                raise UnsupportedScanError(
                    f"{image.path}: {pixels.num_frames} frames found, and nothing that says where "
                    "each of them lies; export the series as one file a slice"
                )
            return [_slice(image, 0, pixels, [image.dataset] * 4)]
        shared = image.dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
        frames = image.dataset.PerFrameFunctionalGroupsSequence
        if len(frames) != pixels.num_frames:
            raise UnreadableScanError(
                f"{image.path}: {pixels.num_frames} frames promised, {len(frames)} described; "
                "export it again"
            )
        macros = ("PlanePosition", "PlaneOrientation", "PixelMeasures", "PixelValueTransformation")
        return [
            _slice(image, index, pixels, [_macro(image, frame, shared[0], name) for name in macros])
            for index, frame in enumerate(frames)
        ]


def _macro(image: Image, frame: Any, shared: Any, name: str) -> Any:
    """Find a group of elements of one frame: its own, or the one that all share."""
    for holder in (frame, shared):
        if found := holder.get(f"{name}Sequence"):
            return found[0]
    raise UnsupportedScanError(
        f"{image.path}: {name}Sequence is missing; export the series again with it"
    )


def _slice(image: Image, frame: int, pixels: PixelFormat, groups: Sequence[Any]) -> Slice:
    place, turn, measures, scale = groups
    cosines = np.reshape(_numbers(image, turn, "ImageOrientationPatient", 6), (2, 3)).T
    if np.abs(cosines.T @ cosines - np.eye(2)).max() > _MAX_COSINE_ERROR:
        raise UnsupportedScanError(
            f"{image.path}: ImageOrientationPatient {cosines.T.ravel().tolist()} is not two "
            "directions at right angles; export the series again"
        )
    row_step, column_step = _numbers(image, measures, "PixelSpacing", 2)
    if not (row_step > 0 and column_step > 0):
        raise UnsupportedScanError(
            f"{image.path}: PixelSpacing {row_step:g}, {column_step:g} mm must be positive; "
            "export the series again"
        )
    rescale_type = rescale_type_of(scale)
    if reason := reason_against_type(rescale_type):
        raise UnsupportedScanError(f"{image.path}: {reason}; give the series in HU")
    thickness = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
    return Slice(
        path=image.path,
        frame=frame,
        steps_xyz=cosines * (column_step, row_step),
        position_xyz=_numbers(image, place, "ImagePositionPatient", 3),
        thickness_mm=None if thickness is None else abs(float(thickness)),
        slope=_numbers(image, scale, "RescaleSlope", 1, default=1.0)[0],
        intercept=_numbers(image, scale, "RescaleIntercept", 1, default=0.0)[0],
        has_intercept=scale.get("RescaleIntercept") is not None,
        rescale_type=rescale_type,
        pixels=pixels,
    )


def _numbers(
    image: Image, group: Any, name: str, num: int, default: float | None = None
) -> npt.NDArray[np.float64]:
    """Read so many finite numbers of an element."""
    value = group.get(name)
    if value is None and default is not None:
        return np.full(num, default)
    if value is None:
        raise UnsupportedScanError(
            f"{image.path}: {name} is missing, so nobody knows where the slice lies; "
            "export the series again with it"
        )
    numbers = np.asarray(value, np.float64).reshape(-1)
    if numbers.size != num or not np.isfinite(numbers).all():
        raise UnreadableScanError(f"{image.path}: {name} must be {num} number(s); export it again")
    return numbers


def _pixel_format(image: Image) -> PixelFormat:
    """Read how pixels are stored, and refuse what no CT slice is."""
    header = image.dataset
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored"):
        if header.get(name) is None:
            raise UnsupportedScanError(
                f"{image.path}: {name} is missing, it holds no image; export it again"
            )
    samples = int(header.get("SamplesPerPixel") or 1)
    photometric = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnsupportedScanError(
            f"{image.path}: {samples} value(s) per pixel, {photometric[:16]!a}; "
            "color images are not CT scans"
        )
    pixels = PixelFormat(
        rows=int(header.Rows),
        columns=int(header.Columns),
        num_frames=max(1, int(header.get("NumberOfFrames") or 1)),
        bits_allocated=int(header.BitsAllocated),
        bits_stored=int(header.BitsStored),
        signed=bool(header.get("PixelRepresentation") or 0),
        photometric=photometric,
        transfer_syntax=image.transfer_syntax,
    )
    high_bit = header.get("HighBit")
    fits = 1 <= pixels.bits_stored <= pixels.bits_allocated and pixels.bits_allocated in (8, 16)
    if not fits or high_bit not in (None, pixels.bits_stored - 1):
        raise UnsupportedScanError(
            f"{image.path}: {pixels.bits_stored} of {pixels.bits_allocated} bits a pixel, the "
            f"highest is {high_bit}; export it as 16 bits"
        )
    if not (1 <= pixels.rows <= MAX_SIDE and 1 <= pixels.columns <= MAX_SIDE):
        raise UnsupportedScanError(
            f"{image.path}: {pixels.rows} x {pixels.columns} pixels; 1 to {MAX_SIDE} expected"
        )
    return pixels


def _check_alike(slices: Sequence[Slice]) -> None:
    """Refuse slices that differ in size, pixel spacing or direction."""
    first = slices[0]
    for piece in slices[1:]:
        if (piece.pixels.rows, piece.pixels.columns) != (first.pixels.rows, first.pixels.columns):
            finding = "size"
        elif not np.allclose(piece.steps_xyz, first.steps_xyz, rtol=1e-3, atol=1e-3):
            finding = "pixel spacing or direction"
        else:
            continue
        raise UnsupportedScanError(
            f"{piece.path}: differs in {finding} from {first.path.name} of the same series; "
            "put images that do not belong together into folders of their own"
        )


def _drop_copies(
    slices: Sequence[Slice], normal: npt.NDArray[np.float64]
) -> tuple[list[Slice], tuple[str, ...]]:
    """Keep one of several equal slices at a place; refuse different ones."""
    kept: list[Slice] = []
    for piece in slices:
        before = kept[-1] if kept else None
        if before is None or (piece.position_xyz - before.position_xyz) @ normal > _SAME_PLACE_MM:
            kept.append(piece)
        elif not _same_pixels(piece, before):
            raise UnsupportedScanError(
                f"{piece.path}: lies where {before.path.name} lies but shows something else, so "
                "the series holds several scans; put each into a folder of its own"
            )
    num_copies = len(slices) - len(kept)
    return kept, (f"{num_copies} slice(s) were there twice",) if num_copies else ()


def _same_pixels(one: Slice, other: Slice) -> bool:
    if not np.allclose(one.position_xyz, other.position_xyz, atol=_SAME_PLACE_MM):
        return False
    if (one.slope, one.intercept) != (other.slope, other.intercept):
        return False
    here, there = read_pixels([(piece.path, piece.frame, piece.pixels) for piece in (one, other)])
    return np.array_equal(here, there)


def _step_between(
    slices: Sequence[Slice], normal: npt.NDArray[np.float64], folder: Path
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Find the step from slice to slice; refuse holes, uneven distances and a tilted gantry."""
    if len(slices) == 1:
        thickness = slices[0].thickness_mm
        if thickness:
            return normal * thickness, ("the series is a single slice",)
        return normal, ("the series is a single slice of unknown thickness; 1 mm was assumed",)
    places = np.array([piece.position_xyz for piece in slices])
    step: npt.NDArray[np.float64] = (places[-1] - places[0]) / (len(slices) - 1)
    heights = places @ normal
    distance = float(step @ normal)
    regular = heights[0] + distance * np.arange(len(slices))
    notes: tuple[str, ...] = ()
    off_mm = float(np.abs(heights - regular).max())
    if off_mm > _MAX_SHIFT * distance:
        gaps = np.diff(heights)
        if np.abs(gaps - np.median(gaps)).max() > _MAX_UNEVENNESS * np.median(gaps) + _ROUNDED_MM:
            raise UnsupportedScanError(f"{folder}: {_describe_gaps(slices, gaps)}")
        notes = (
            f"slices lie {_mm(gaps)} mm apart; {distance:.4g} mm was taken for all, so that slices "
            f"lie up to {off_mm:.1f} mm from where the header says",
        )
    tilt = math.degrees(math.acos(min(1.0, distance / float(np.linalg.norm(step)))))
    if tilt > _MAX_TILT_DEGREES:
        raise UnsupportedScanError(
            f"{folder}: the gantry was tilted by {tilt:.1f} degrees, so slices are shifted against "
            "each other; resample the series to a grid with right angles (dcm2niix and 3D Slicer "
            "do) and give that file"
        )
    offsets = places - (places[0] + np.outer(np.arange(len(slices)), step))
    apart = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1)
    if apart.max() > max(1.0, _MAX_SHIFT * distance):
        odd = slices[int(apart.argmax())]
        raise UnsupportedScanError(
            f"{odd.path}: is shifted sideways by {apart.max():.1f} mm against the other slices of "
            "the series; export it again"
        )
    return step, notes


def _describe_gaps(slices: Sequence[Slice], gaps: npt.NDArray[np.float64]) -> str:
    """Tell missing slices from distances that simply differ."""
    multiples = gaps / float(np.median(gaps))
    holes = np.flatnonzero(np.rint(multiples) > 1)
    if not holes.size or np.abs(multiples - np.rint(multiples)).max() > _MAX_SHIFT:
        return f"slices lie {_mm(gaps)} mm apart; export or resample the series with even distances"
    told = "; ".join(
        f"{round(multiples[hole]) - 1} between {slices[hole].path.name} and "
        f"{slices[hole + 1].path.name}"
        for hole in holes[:3]
    )
    num_missing = round(float(np.rint(multiples[holes] - 1).sum()))
    return f"{num_missing} slice(s) missing ({told}); export the whole series again"


def _mm(gaps: npt.NDArray[np.float64]) -> str:
    return f"{gaps.min():.2f} to {gaps.max():.2f}"
