"""Scans that come as arrays or SimpleITK images, and label maps that go back as the same.

Grid and voxels go through the code that files go through, so that the same is refused,
corrected and told of.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from app.errors import UnsupportedScanError
from app.imaging.geometry import Geometry, LabelVolume, ScanVolume
from app.imaging.hounsfield import settle_offset
from app.imaging.io import ScanHeader, Source
from app.imaging.layout import grid_from_xyz, spacing_notes
from app.imaging.orientation import from_lps, to_lps
from app.imaging.volume import Volume
from app.imaging.voxels import Oddities, to_int16

_NAME = Path("image in memory")


def adopt_array(array: npt.NDArray[Any], geometry: Geometry) -> tuple[Volume, Source]:
    """Take an array for a scan.

    Parameters
    ----------
    array : (Z, Y, X) array of numbers
        HU, in any orientation. int16 is not copied, unless it was stored as HU + 1024;
        other types are rounded and clipped, and what is no number becomes air. The
        array itself stays as it is.
    geometry : Geometry
        Its grid.

    Returns
    -------
    Volume of int16
        In canonical orientation.
    Source
        How the array lay, and what a user should know of it.

    Raises
    ------
    UnsupportedScanError
        If it is not one three-dimensional, non-empty scan on a grid with right angles.
    """
    if array.ndim != 3 or array.size == 0:
        raise UnsupportedScanError(
            f"image: shape {array.shape} found; give one scan of shape (z, y, x)"
        )
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise UnsupportedScanError(f"image: voxels of type {array.dtype} found; give HU as numbers")
    geometry = _checked_grid(geometry)
    voxels, voxel_notes = _as_hu(array)
    scan, orientation = to_lps(Volume(voxels, geometry))
    header = ScanHeader(
        path=_NAME,
        geometry=geometry,
        nifti_header=None,
        notes=spacing_notes(geometry),
    )
    notes = (*header.notes, *voxel_notes)
    return scan, Source(header=header, orientation=orientation, geometry=scan.geometry, notes=notes)


def adopt_image(image: sitk.Image) -> tuple[Volume, Source]:
    """Take a SimpleITK image for a scan.

    Parameters
    ----------
    image : SimpleITK.Image
        HU, in any orientation; must live as long as the result.

    Returns
    -------
    Volume, Source
        As :func:`adopt_array`.

    Raises
    ------
    UnsupportedScanError
        If it is not one three-dimensional, single-channel, non-empty scan.
    """
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise UnsupportedScanError(
            f"image: {image.GetDimension()} dimensions with "
            f"{image.GetNumberOfComponentsPerPixel()} values per voxel found; "
            "give one volume of HU"
        )
    nx, ny, nz = image.GetSize()
    sx, sy, sz = image.GetSpacing()
    ox, oy, oz = image.GetOrigin()
    rows_xyz = np.reshape(image.GetDirection(), (3, 3)).tolist()
    geometry = Geometry(
        shape=(nz, ny, nx),
        spacing_mm=(sz, sy, sx),
        origin_mm=(oz, oy, ox),
        direction=tuple((z, y, x) for x, y, z in reversed(rows_xyz)),
    )
    return adopt_array(sitk.GetArrayViewFromImage(image), geometry)


def as_array(labels: LabelVolume, source: Source) -> LabelVolume:
    """Turn a label map to lie as its scan did.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        In canonical orientation.
    source : Source
        How the scan lay.

    Returns
    -------
    (Z, Y, X) array of uint8
        C-contiguous.
    """
    return np.ascontiguousarray(from_lps(labels, source.orientation))


def as_image(labels: LabelVolume, source: Source, image: sitk.Image) -> sitk.Image:
    """Turn a label map into an image on the grid of its scan's image."""
    label_image = sitk.GetImageFromArray(as_array(labels, source))
    label_image.CopyInformation(image)
    return label_image


def _checked_grid(geometry: Geometry) -> Geometry:
    """Read a grid as one is read from a file, which refuses what can be none."""
    # A file that gives a step as a vector cannot tell a negative length from another direction.
    if not all(np.isfinite(step) and step > 0 for step in geometry.spacing_mm):
        raise UnsupportedScanError(
            f"image: spacing {geometry.spacing_mm} mm (z, y, x) must be positive"
        )
    nz, ny, nx = geometry.shape
    steps = np.asarray(geometry.direction, np.float64) * np.asarray(geometry.spacing_mm)
    return grid_from_xyz(_NAME, (nx, ny, nz), steps[::-1, ::-1], geometry.origin_mm[::-1])


def _as_hu(array: npt.NDArray[Any]) -> tuple[ScanVolume, tuple[str, ...]]:
    """Convert slice by slice, so that no wide copy of the scan arises, and tell what is odd."""
    if array.dtype != np.int16:
        oddities = Oddities()
        converted = np.empty(array.shape, np.int16)
        for plane, out in zip(array, converted, strict=True):
            out[...] = to_int16(plane, 1.0, 0.0, oddities)
        return converted, (*oddities.notes(), *settle_offset(converted))
    owned = array.view()
    owned.flags.writeable = False
    try:
        return array, settle_offset(owned)
    except ValueError:  # it has an offset to be taken off, and is not ours to be changed
        shifted = array.copy()
        return shifted, settle_offset(shifted)
