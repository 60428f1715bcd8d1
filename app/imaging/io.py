"""The one door to image files, and the one place that knows (x, y, z) order.

Files are read and written through SimpleITK. Everything that leaves this
module is in (z, y, x).
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from app.errors import OutputError, UnreadableScanError, UnsupportedScanError
from app.imaging.geometry import Geometry, LabelVolume, ScanVolume
from app.imaging.nifti import check_is_whole, is_nifti, read_header, write_labels
from app.imaging.orientation import Orientation, as_lps, from_lps, to_lps
from app.imaging.volume import Volume

SCAN_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
"""File types that are read."""

AIR_HU = -1024
"""What a voxel without a number (NaN) becomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanHeader:
    """What a scan file says about itself before its voxels are loaded.

    Parameters
    ----------
    path : Path
        The file.
    geometry : Geometry
        The grid as stored, whatever its orientation.
    pixel_type : str
        Name of the voxels' type in memory, such as ``"16-bit signed integer"``.
    bytes_per_voxel : int
        Size of one voxel in memory.
    nifti_header : bytes or None
        Of a NIfTI file, the header to hand on to the label map.
    """

    path: Path
    geometry: Geometry
    pixel_type: str
    bytes_per_voxel: int
    nifti_header: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How a scan lay on disk, so that its label map can lie the same way.

    Parameters
    ----------
    header : ScanHeader
        The scan's header.
    orientation : Orientation
        How the stored array relates to the canonical one.
    geometry : Geometry
        The scan's grid in canonical orientation.
    """

    header: ScanHeader
    orientation: Orientation
    geometry: Geometry

    def blank_label_map(self) -> LabelVolume:
        """Make a label map of background, to be filled in canonical orientation.

        Returns
        -------
        (Z, Y, X) array of uint8
            A view in canonical orientation of an array that lies in memory as
            the scan lay on disk, so that writing needs no further copy.
        """
        return as_lps(np.zeros(self.header.geometry.shape, np.uint8), self.orientation)


class _Pixels:
    """Own an image and offer its voxels to numpy.

    numpy keeps the object it took an array from, so the image lives as long as
    any view of it. SimpleITK's own view does not guard against that.
    """

    def __init__(self, image: sitk.Image) -> None:
        self.image = image
        view = sitk.GetArrayViewFromImage(image)
        self.__array_interface__: dict[str, Any] = view.__array_interface__


def peek(path: Path) -> ScanHeader:
    """Read a scan's header and leave its voxels alone.

    Parameters
    ----------
    path : Path
        A file of one of :data:`SCAN_SUFFIXES`.

    Returns
    -------
    ScanHeader
        Size, spacing and pixel type.

    Raises
    ------
    UnreadableScanError
        If the file is missing or not an image.
    UnsupportedScanError
        If it is not one three-dimensional, single-channel, non-empty image.
    """
    if not path.is_file():
        raise UnreadableScanError(f"{path}: no such file")
    if not path.name.lower().endswith(SCAN_SUFFIXES):
        raise UnsupportedScanError(f"{path}: file type not known; use {', '.join(SCAN_SUFFIXES)}")
    if path.stat().st_size == 0:
        raise UnreadableScanError(f"{path}: the file is empty; copy or export it again")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise UnreadableScanError(f"{path}: not a readable image ({_last_line(error)})") from error
    _check_is_one_scan(path, reader)
    return ScanHeader(
        path=path,
        geometry=_geometry(path, reader),
        pixel_type=sitk.GetPixelIDValueAsString(reader.GetPixelID()),
        bytes_per_voxel=_bytes_per_voxel(reader.GetPixelID()),
        nifti_header=read_header(path) if is_nifti(path) else None,
    )


def read_scan(path: Path) -> tuple[Volume, Source]:
    """Read one CT scan in canonical orientation.

    An int16 file is never copied: the result is a view of the voxels as they
    were loaded. Other pixel types are rounded and clipped to int16.

    Parameters
    ----------
    path : Path
        A file of one of :data:`SCAN_SUFFIXES`.

    Returns
    -------
    Volume of int16
        HU, (z, y, x), LPS.
    Source
        How the scan lay on disk.

    Raises
    ------
    UnreadableScanError, UnsupportedScanError
        As :func:`peek`; and if voxels are missing or damaged.
    """
    header = peek(path)
    # Checking takes as long as reading; both spend it outside the interpreter's lock.
    with ThreadPoolExecutor(max_workers=1) as pool:
        whole = pool.submit(_check_voxels, path)
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError as error:
            whole.result()
            raise UnreadableScanError(
                f"{path}: voxels cannot be read ({_last_line(error)}); copy or export it again"
            ) from error
        whole.result()
    pixels: npt.NDArray[Any] = np.asarray(_Pixels(image))
    del image
    stored = Volume(_as_int16(pixels), header.geometry)
    scan, orientation = to_lps(stored)
    return scan, Source(header=header, orientation=orientation, geometry=scan.geometry)


def write_label_map(labels: LabelVolume, source: Source, path: Path) -> None:
    """Write a label map on its scan's own grid, whole or not at all.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        In canonical orientation.
    source : Source
        How the scan lay on disk; the label map will lie the same way.
    path : Path
        File to write; its suffix gives the format.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    stored = np.ascontiguousarray(from_lps(labels, source.orientation))
    scan_header = source.header.nifti_header
    with atomic_path(path) as partial:
        if scan_header is not None and is_nifti(path):
            write_labels(partial, stored, scan_header)
            return
        _write_image(Volume(stored, source.header.geometry), partial, path)


def write_volume(volume: Volume, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a scan or label map as its geometry says, whole or not at all.

    Parameters
    ----------
    volume : Volume of int16 or uint8
        The array as it is to be stored.
    path : Path
        File to write; its suffix gives the format.
    metadata : mapping of str to str, optional
        Further fields of the file's header, where the format has room for them.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with atomic_path(path) as partial:
        _write_image(volume, partial, path, metadata)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Offer a temporary name that becomes the file when all has gone well.

    The temporary file lies in the same folder, so that the last step is a
    rename, and is removed when something fails.

    Parameters
    ----------
    path : Path
        The file that is to appear, or to be replaced.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    OutputError
        If the folder cannot be written to.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
        # The file is whole by now; not every file system can flush a folder.
        with contextlib.suppress(OSError):
            _flush(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error})") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_is_one_scan(path: Path, reader: sitk.ImageFileReader) -> None:
    if reader.GetDimension() != 3:
        raise UnsupportedScanError(
            f"{path}: {reader.GetDimension()} dimensions found, 3 expected; "
            "give one volume per file"
        )
    if reader.GetNumberOfComponents() != 1:
        raise UnsupportedScanError(
            f"{path}: {reader.GetNumberOfComponents()} values per voxel found, 1 expected; "
            "color and vector images are not CT scans"
        )
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise UnsupportedScanError(f"{path}: complex voxels found, HU expected; export it as CT")
    if min(reader.GetSize()) < 1:
        raise UnsupportedScanError(
            f"{path}: no voxels, size {reader.GetSize()} (x, y, z); export it again"
        )
    if not all(np.isfinite(step) and step > 0 for step in reader.GetSpacing()):
        raise UnsupportedScanError(
            f"{path}: spacing {reader.GetSpacing()} mm (x, y, z) must be positive; export it again"
        )


def _geometry(path: Path, reader: sitk.ImageFileReader) -> Geometry:
    nx, ny, nz = reader.GetSize()
    sx, sy, sz = reader.GetSpacing()
    ox, oy, oz = reader.GetOrigin()
    direction_xyz = np.asarray(reader.GetDirection()).reshape(3, 3)
    if abs(np.linalg.det(direction_xyz)) < 0.5:
        raise UnsupportedScanError(
            f"{path}: axes {direction_xyz.tolist()} (x, y, z) do not span space; export it again"
        )
    return Geometry(
        shape=(nz, ny, nx),
        spacing_mm=(sz, sy, sx),
        origin_mm=(oz, oy, ox),
        direction=tuple((z, y, x) for x, y, z in direction_xyz[::-1].tolist()),
    )


def _check_voxels(path: Path) -> None:
    """Check that no voxels are missing, where the reader would not notice."""
    if is_nifti(path):
        check_is_whole(path)


def _write_image(
    volume: Volume, partial: Path, path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a volume under a temporary name, its grid included."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.array))
    geometry = volume.geometry
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm[::-1])
    direction_xyz = np.asarray(geometry.direction)[::-1, ::-1]
    image.SetDirection(direction_xyz.ravel().tolist())
    for key, text in (metadata or {}).items():
        image.SetMetaData(key, text)
    try:
        sitk.WriteImage(image, str(partial), useCompression=True)
    except RuntimeError as error:
        raise OutputError(f"{path}: cannot be written ({_last_line(error)})") from error


def _bytes_per_voxel(pixel_id: int) -> int:
    return int(sitk.GetArrayViewFromImage(sitk.Image([1, 1, 1], pixel_id)).itemsize)


def _as_int16(pixels: npt.NDArray[Any]) -> ScanVolume:
    """Convert one slice at a time, so that no wide copy of the scan arises."""
    if pixels.dtype == np.int16:
        return pixels
    if np.can_cast(pixels.dtype, np.int16):  # a label map: nothing to round or clip
        return pixels.astype(np.int16)
    limits = np.iinfo(np.int16)
    converted = np.empty(pixels.shape, np.int16)
    for plane, out in zip(pixels, converted, strict=True):
        if np.issubdtype(plane.dtype, np.floating):
            whole = np.rint(np.nan_to_num(plane, nan=AIR_HU))
        else:
            whole = plane
        out[...] = np.clip(whole, limits.min, limits.max)
    return converted


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
