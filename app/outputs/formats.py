"""A label map in the formats of other tools, written beside it."""

from collections.abc import Collection, Iterable
from pathlib import Path

from app.errors import InputError
from app.imaging.io import ScanHeader
from app.imaging.label_maps import read_label_map
from app.imaging.segments import organs_by_value
from app.labels import NUM_CLASSES
from app.outputs import slicer
from app.outputs.made_by import MadeBy

NIFTI = "nifti"
SEG_NRRD = "seg.nrrd"
DICOM_SEG = "dicom-seg"
FORMATS = (NIFTI, SEG_NRRD, DICOM_SEG)
"""By the names that users give them. NIfTI is what the cascade itself writes."""


def check_formats(
    scan: ScanHeader, formats: Collection[str], series_files: Iterable[Path] | None = None
) -> None:
    """Refuse a scan whose label map could not be written as asked for, before there is one.

    Parameters
    ----------
    scan : ScanHeader
        The scan that is to be segmented.
    formats, series_files
        As for :func:`write_formats`.

    Raises
    ------
    InputError
        If a DICOM SEG is asked for and there is no series, or none that it can be made of.
    """
    if DICOM_SEG in formats:
        # The container image leaves out the DICOM libraries.
        from app.outputs import dicom_seg

        series = dicom_seg.read_series(_named(series_files, scan.path))
        dicom_seg.check_series(series, scan)


def write_formats(
    label_path: Path,
    name: str,
    formats: Collection[str],
    series_files: Iterable[Path] | None = None,
) -> tuple[list[Path], list[str]]:
    """Write a finished label map in further formats, beside it.

    Parameters
    ----------
    label_path : Path
        The label map.
    name : str
        Name of the case; files are named after it.
    formats : collection of str
        Of :data:`FORMATS`.
    series_files : iterable of Path, optional
        Files of the DICOM series that the label map lies on; needed for ``dicom-seg``.

    Returns
    -------
    list of Path
        What was written.
    list of str
        Warnings: what could not be, for want of an organ, or had to be left empty.

    Raises
    ------
    InputError
        If the label map or the series cannot be used, or a DICOM SEG has no series.
    OutputError
        If a file cannot be written.
    """
    if not {SEG_NRRD, DICOM_SEG} & set(formats):
        return [], []
    written: list[Path] = []
    warnings: list[str] = []
    label_map = read_label_map(label_path)
    if SEG_NRRD in formats:
        path = label_path.with_name(name + slicer.SUFFIX)
        slicer.write_seg_nrrd(label_map, path)
        written.append(path)
    if DICOM_SEG in formats:
        if not label_map.array.any():
            return written, ["no DICOM SEG written: it cannot be empty"]
        from app.outputs import dicom_seg

        series = dicom_seg.read_series(_named(series_files, label_path))
        path = label_path.with_name(name + dicom_seg.SUFFIX)
        warnings = dicom_seg.write_dicom_seg(label_map, series, path)
        written.append(path)
    return written, warnings


def convert_label_map(
    label_path: Path,
    folder: Path,
    name: str,
    formats: Collection[str],
    *,
    series_files: Iterable[Path] | None = None,
    made_by: MadeBy,
) -> tuple[list[Path], list[str]]:
    """Write a label map that another program may have changed in formats of :data:`FORMATS`.

    Parameters
    ----------
    label_path : Path
        A label map, or a segmentation of 3D Slicer (``.seg.nrrd``), whose segments are
        told by their names.
    folder : Path
        Where to write.
    name : str
        Files are named after it.
    formats : collection of str
        Without NIfTI.
    series_files : iterable of Path, optional
        Files of the DICOM series that it lies on; needed for ``dicom-seg``.
    made_by : MadeBy
        Who drew it, for ``dicom-seg``.

    Returns
    -------
    list of Path
        What was written.
    list of str
        Warnings: what of a DICOM SEG had to be left empty.

    Raises
    ------
    InputError
        If the label map or the series cannot be used, or the two do not belong together;
        nothing is written then.
    OutputError
        If a file cannot be written.
    """
    if label_path.name.lower().endswith(slicer.SUFFIX):
        organs = organs_by_value(label_path)
    else:
        organs = {value: value for value in range(NUM_CLASSES)}
    label_map = read_label_map(label_path, stands_for=organs)
    written: list[Path] = []
    warnings: list[str] = []
    if DICOM_SEG in formats:  # first, as it may be refused
        from app.outputs import dicom_seg

        series = dicom_seg.read_series(_named(series_files, label_path))
        path = folder / (name + dicom_seg.SUFFIX)
        warnings = dicom_seg.write_dicom_seg(label_map, series, path, made_by=made_by)
        written.append(path)
    if SEG_NRRD in formats:
        path = folder / (name + slicer.SUFFIX)
        slicer.write_seg_nrrd(label_map, path)
        written.append(path)
    return written, warnings


def _named(series_files: Iterable[Path] | None, path: Path) -> Iterable[Path]:
    if series_files is None:
        raise InputError(
            f"{path}: a DICOM SEG needs its series; name it with --dicom, or ask for "
            "--formats seg.nrrd"
        )
    return series_files
