"""The one door to image files.

Each format has a module that reads its header (:mod:`app.imaging.nifti`,
:mod:`~app.imaging.metaimage`, :mod:`~app.imaging.nrrd`, :mod:`~app.imaging.dicom`)
and none of them believes it; voxels are read by :mod:`app.imaging.voxels`.
SimpleITK writes what is no NIfTI file. Everything that leaves this module is in
(z, y, x).
"""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.errors import OutputError, UnreadableScanError, UnsupportedScanError
from app.imaging import metaimage, nifti, nrrd
from app.imaging.dicom_magic import is_dicom
from app.imaging.geometry import Geometry, LabelVolume, ScanVolume
from app.imaging.hounsfield import settle_offset
from app.imaging.layout import Layout, spacing_notes
from app.imaging.nifti import (
    NIFTI_SUFFIXES,
    is_nifti,
    make_header,
    read_header,
    write_stored,
)
from app.imaging.orientation import Orientation, as_lps, from_lps, to_lps
from app.imaging.volume import Volume
from app.imaging.voxels import check_whole, read_voxels

SCAN_SUFFIXES = (
    *NIFTI_SUFFIXES,
    *metaimage.METAIMAGE_SUFFIXES,
    *nrrd.NRRD_SUFFIXES,
)
"""File types that are read, besides DICOM, whose files may have any name."""

WRITTEN_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
"""File types that are written: header and voxels in one file, which appears at once."""

_LAYOUT_READERS: Mapping[tuple[str, ...], Callable[[Path], Layout]] = {
    NIFTI_SUFFIXES: nifti.read_layout,
    metaimage.METAIMAGE_SUFFIXES: metaimage.read_layout,
    nrrd.NRRD_SUFFIXES: nrrd.read_layout,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanHeader:
    """What a scan file says about itself before its voxels are loaded.

    Parameters
    ----------
    path : Path
        The file, or the folder of a DICOM series.
    geometry : Geometry
        The grid as stored, whatever its orientation.
    nifti_header : bytes or None
        Of a NIfTI file, the header to hand on to the label map.
    notes : tuple of str
        What a user should know about the header.
    slice_files : tuple of Path
        Of a DICOM series, the file of each slice in the order of the grid's first
        axis; an enhanced file comes once for each of its slices.
    num_other_headers : int
        Other DICOM files of the folder, whose headers are held beside those of the slices.
    files : tuple of Path
        All that the scan is read from: a header and the file of its voxels, or slices.
    dicom_uids : dict of str to str
        What a DICOM series is called in an archive: its ``StudyInstanceUID``,
        ``SeriesInstanceUID`` and ``FrameOfReferenceUID``, as far as it tells them.
    """

    path: Path
    geometry: Geometry
    nifti_header: bytes | None
    notes: tuple[str, ...] = ()
    slice_files: tuple[Path, ...] = ()
    num_other_headers: int = 0
    files: tuple[Path, ...] = ()
    dicom_uids: Mapping[str, str] = field(default_factory=dict)


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
    notes : tuple of str
        What a user should know about header and voxels: warnings for the report.
    """

    header: ScanHeader
    orientation: Orientation
    geometry: Geometry
    notes: tuple[str, ...] = ()

    def blank_label_map(self) -> LabelVolume:
        """Make a label map of background, to be filled in canonical orientation.

        Returns
        -------
        (Z, Y, X) array of uint8
            A view in canonical orientation of an array that lies in memory as
            the scan lay on disk, so that writing needs no further copy.
        """
        return as_lps(np.zeros(self.header.geometry.shape, np.uint8), self.orientation)


def peek(path: Path) -> ScanHeader:
    """Read a scan's header and leave its voxels alone.

    Parameters
    ----------
    path : Path
        A file of one of :data:`SCAN_SUFFIXES`, a folder with one DICOM series, or
        a DICOM file, which stands for its series.

    Returns
    -------
    ScanHeader
        Grid, files, and what a user should know.

    Raises
    ------
    UnreadableScanError
        If the file is missing, damaged or not an image.
    UnsupportedScanError
        If it is not one three-dimensional, single-channel, non-empty CT scan on a
        grid with right angles.
    """
    return _open(path)[0]


def read_scan(path: Path, *, as_labels: bool = False) -> tuple[Volume, Source]:
    """Read one CT scan in canonical orientation.

    Voxels of other types than int16 are rounded and clipped to it, and a scan
    stored as HU + 1024 is brought to HU; ``Source.notes`` tells of it.

    Parameters
    ----------
    path : Path
        As for :func:`peek`.
    as_labels : bool
        Whether it is a label map: what is no whole number is refused, not rounded, and
        nothing is taken for HU.

    Returns
    -------
    Volume of int16
        HU, (z, y, x), LPS.
    Source
        How the scan lay on disk.

    Raises
    ------
    UnreadableScanError, UnsupportedScanError
        As :func:`peek`; and if voxels are missing or damaged, or labels no whole numbers.
    """
    header, read = _open(path, as_labels=as_labels)
    voxels, notes = read()
    notes = (*header.notes, *notes, *(() if as_labels else settle_offset(voxels)))
    scan, orientation = to_lps(Volume(voxels, header.geometry))
    return scan, Source(header=header, orientation=orientation, geometry=scan.geometry, notes=notes)


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
    geometry = source.header.geometry
    with atomic_path(path) as partial:
        if is_nifti(path):
            write_stored(partial, stored, source.header.nifti_header or make_header(geometry))
            return
        _write_image(Volume(stored, geometry), partial, path)


def write_scan(scan: Volume, path: Path) -> None:
    """Write a scan as NIfTI on its very grid, slices that lean included, whole or not at all.

    Parameters
    ----------
    scan : Volume of int16
        HU as they are to be stored.
    path : Path
        File to write, ending in one of :data:`~app.imaging.nifti.NIFTI_SUFFIXES`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with atomic_path(path) as partial:
        write_stored(partial, scan.array, make_header(scan.geometry))


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
    # A checksum for the name: with more before it, a long one would be too long for a file.
    suffix = next((end for end in WRITTEN_SUFFIXES if path.name.lower().endswith(end)), path.suffix)
    checksum = zlib.crc32(os.fsencode(path.name))
    partial = path.with_name(f".partial-{os.getpid()}-{checksum:08x}{suffix}")
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


def as_text(name: str) -> str:
    """Write out bytes of a file's name that are no text, so that files of text can hold it."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(
    path: Path, *, as_labels: bool = False
) -> tuple[ScanHeader, Callable[[], tuple[ScanVolume, tuple[str, ...]]]]:
    """Read a header, and give what reads the voxels."""
    read_layout = _layout_reader(path)
    if path.is_dir() or read_layout is None:
        return _open_series(path)
    if not path.is_file():
        raise UnreadableScanError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UnreadableScanError(f"{path}: the file is empty; copy or export it again")
    layout = read_layout(path)
    header = ScanHeader(
        path=path,
        geometry=layout.geometry,
        nifti_header=read_header(path) if is_nifti(path) else None,
        notes=layout.notes + spacing_notes(layout.geometry),
        files=(path,) if layout.path == path else (path, layout.path),
    )
    return header, lambda: read_voxels(layout, as_labels=as_labels)


def _open_series(path: Path) -> tuple[ScanHeader, Callable[[], tuple[ScanVolume, tuple[str, ...]]]]:
    """Read the headers of a DICOM series, and give what reads the voxels."""
    # Not needed, and not paid for, where no DICOM is read.
    from app.imaging import dicom, dicom_series

    if not path.exists():
        raise UnreadableScanError(f"{path}: no such file")
    if not path.is_dir() and not is_dicom(path):
        raise UnsupportedScanError(
            f"{path}: file type not known; use DICOM or {', '.join(SCAN_SUFFIXES)}"
        )
    stack = dicom.stack_slices(dicom_series.series_of(path))
    slice_files = tuple(piece.path for piece in stack.slices)
    files = tuple(dict.fromkeys(slice_files))
    header = ScanHeader(
        path=path,
        geometry=stack.geometry,
        nifti_header=None,
        notes=stack.notes + spacing_notes(stack.geometry),
        slice_files=slice_files,
        num_other_headers=stack.series.num_in_folder - len(files),
        files=files,
        dicom_uids=stack.series.uids,
    )
    return header, lambda: dicom.read_stack(stack)


def _write_image(
    volume: Volume, partial: Path, path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a volume under a temporary name, its grid included."""
    # Here, since its import takes longer than reading a scan's header, and few need it.
    import SimpleITK as sitk

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
    _check_written(partial, path)


def _check_written(partial: Path, path: Path) -> None:
    """Refuse a file that is cut short: on a full disk the library may say nothing of it."""
    read_layout = _layout_reader(partial)
    try:
        # A grid that no scan has, as one asked for of a phantom, is not read.
        with contextlib.suppress(UnsupportedScanError):
            if read_layout is not None:
                check_whole(read_layout(partial))
    except UnreadableScanError as error:
        raise OutputError(f"{path}: cannot be written whole; is the disk full?") from error


def _layout_reader(path: Path) -> Callable[[Path], Layout] | None:
    """Give what reads the header of a file of this name; None if that is DICOM or nothing known."""
    name = path.name.lower()
    return next((read for ends, read in _LAYOUT_READERS.items() if name.endswith(ends)), None)


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip()
