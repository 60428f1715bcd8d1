"""Scans that come as arrays or SimpleITK images, and label maps that go back as the same."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from app.errors import UnsupportedScanError
from app.imaging.geometry import Geometry, LabelVolume, ScanVolume
from app.imaging.io import ScanHeader, Source
from app.imaging.orientation import from_lps, to_lps
from app.imaging.volume import Volume
from app.imaging.voxels import AIR_HU

_NAME = Path("image in memory")
_INT16 = np.iinfo(np.int16)


def adopt_array(array: npt.NDArray[Any], geometry: Geometry) -> tuple[Volume, Source]:
    """Take an array for a scan.

    Parameters
    ----------
    array : (Z, Y, X) array of numbers
        HU, in any orientation. int16 is not copied; other types are rounded
        and clipped, and what is no number becomes air.
    geometry : Geometry
        Its grid.

    Returns
    -------
    Volume of int16
        In canonical orientation.
    Source
        How the array lay.

    Raises
    ------
    UnsupportedScanError
        If it is not one three-dimensional, non-empty scan on a grid in space.
    """
    if array.ndim != 3 or array.size == 0:
        raise UnsupportedScanError(
            f"image: shape {array.shape} found; give one scan of shape (z, y, x)"
        )
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise UnsupportedScanError(f"image: voxels of type {array.dtype} found; give HU as numbers")
    _check_grid(geometry)
    scan, orientation = to_lps(Volume(_as_int16(array), geometry))
    header = ScanHeader(
        path=_NAME,
        geometry=geometry,
        pixel_type=str(array.dtype),
        # Memory is planned by this: the array itself is its owner's, the int16 voxels are ours.
        bytes_per_voxel=2,
        nifti_header=None,
    )
    return scan, Source(header=header, orientation=orientation, geometry=scan.geometry)


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


def _check_grid(geometry: Geometry) -> None:
    if not all(np.isfinite(step) and step > 0 for step in geometry.spacing_mm):
        raise UnsupportedScanError(
            f"image: spacing {geometry.spacing_mm} mm (z, y, x) must be positive"
        )
    direction = np.asarray(geometry.direction)
    if direction.shape != (3, 3) or not abs(np.linalg.det(direction)) > 0.5:
        raise UnsupportedScanError(
            f"image: axes {direction.tolist()} (z, y, x) do not span space; "
            "give three unit vectors at right angles"
        )


def _as_int16(array: npt.NDArray[Any]) -> ScanVolume:
    """Convert one slice at a time, so that no wide copy of the scan arises."""
    if array.dtype == np.int16:
        return array
    converted = np.empty(array.shape, np.int16)
    for plane, out in zip(array, converted, strict=True):
        whole = np.nan_to_num(plane, nan=AIR_HU) if plane.dtype.kind == "f" else plane
        out[...] = np.rint(np.clip(whole, _INT16.min, _INT16.max))
    return converted
