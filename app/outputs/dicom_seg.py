"""DICOM Segmentation objects: organs with SNOMED CT codes that refer to the series they lie on."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
from highdicom import PatientSexValues
from highdicom.color import CIELabColor
from highdicom.seg import SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.uid import (
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    generate_uid,
)
from pydicom.valuerep import DA, TM

from app import __version__
from app.errors import InputError, UnreadableScanError, UnsupportedScanError
from app.imaging.geometry import Geometry
from app.imaging.io import ScanHeader, atomic_path
from app.imaging.label_maps import LabelMap, grid_difference
from app.imaging.orientation import (
    Orientation,
    from_lps,
    lps_geometry,
    nearest_orientation,
    turn_geometry,
)
from app.labels import ORGANS, Organ
from app.manifest import sha256_of
from app.outputs.made_by import MadeBy
from app.terminology import ANATOMICAL_STRUCTURE, SCHEME, TERMS, Code

logger = logging.getLogger(__name__)

SUFFIX = ".seg.dcm"
NAME = "abdomen-cascade"

_SERIES_NUMBER = 300
_UNNAMED = "2.25.0"  # until all else is known
# Anonymized series may lack every date, and a segmentation must have one.
_NO_DATE, _MIDNIGHT = "19000101", "000000"
_ENHANCED = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SeriesInstanceUID")
_NEEDED_OF_ENHANCED = ("SeriesInstanceUID", "PerFrameFunctionalGroupsSequence")


def read_series(files: Iterable[Path]) -> list[Dataset]:
    """Read the headers of the one series of images among some files.

    Parameters
    ----------
    files : iterable of Path
        In any order; those that are no DICOM images with a place in space are
        passed over.

    Returns
    -------
    list of Dataset
        Without pixels: from the first slice to the last, or one enhanced (multi-frame)
        image.

    Raises
    ------
    UnreadableScanError
        If there is no image.
    UnsupportedScanError
        If there is more than one series, or more than one image in an enhanced one.
    """
    paths = list(files)
    series = [header for path in paths if (header := _image_header(path)) is not None]
    if not series:
        raise UnreadableScanError(
            f"{paths[0] if paths else 'DICOM series'}: no slice of a series, nor in the "
            f"{max(0, len(paths) - 1)} other file(s); name the folder of the series"
        )
    found = sorted({str(header.SeriesInstanceUID) for header in series})
    if len(found) > 1:
        raise UnsupportedScanError(
            f"{paths[0].parent}: {len(found)} series found ({', '.join(found)}); "
            "name a folder that holds the one that was segmented"
        )
    if len(series) > 1 and any(map(_is_enhanced, series)):
        raise UnsupportedScanError(
            f"{paths[0].parent}: an enhanced series of {len(series)} files; a DICOM SEG is made of "
            "one that is a single file, so export it as one or as single slices, or ask for "
            "--formats seg.nrrd"
        )
    return series if _is_enhanced(series[0]) else [series[index] for index in _order(series)]


def series_geometry(series: Sequence[Dataset]) -> Geometry:
    """Give the grid of a series of parallel slices.

    Parameters
    ----------
    series : sequence of Dataset
        Its slices, or one enhanced image.

    Returns
    -------
    Geometry
        Axis 0 runs through the slices along the normal of their planes, in whichever
        order they are given; axis 1 runs down the rows.

    Raises
    ------
    AttributeError
        If an enhanced image does not say where its frames lie.
    """
    planes = _planes(series)
    planes = [planes[index] for index in _order(planes)]
    first, last = planes[0], planes[-1]
    rows_xyz, columns_xyz = np.reshape(first.ImageOrientationPatient, (2, 3)).astype(float)
    first_xyz, last_xyz = (
        np.asarray(header.ImagePositionPatient, float) for header in (first, last)
    )
    step_xyz = (last_xyz - first_xyz) / max(1, len(planes) - 1)
    step_mm = float(np.linalg.norm(step_xyz))
    if step_mm == 0:  # a single slice
        step_xyz, step_mm = _normal(first), float(first.get("SliceThickness") or 1)
    axes_xyz = (step_xyz / np.linalg.norm(step_xyz), columns_xyz, rows_xyz)
    sy, sx = (float(step) for step in first.PixelSpacing)
    z, y, x = np.stack([axis[::-1] for axis in axes_xyz], axis=1).tolist()
    oz, oy, ox = first_xyz[::-1].tolist()
    return Geometry(
        shape=(len(planes), int(series[0].Rows), int(series[0].Columns)),
        spacing_mm=(step_mm, sy, sx),
        origin_mm=(oz, oy, ox),
        direction=(tuple(z), tuple(y), tuple(x)),
    )


def check_series(series: Sequence[Dataset], scan: ScanHeader) -> None:
    """Refuse a series of which no segmentation of a scan could be made, before there is one.

    Parameters
    ----------
    series : sequence of Dataset
        Headers of the source images; see :func:`read_series`.
    scan : ScanHeader
        The scan that is to be segmented.

    Raises
    ------
    InputError
        If the scan lies on another grid, or the series lacks what every DICOM image must
        tell.
    """
    _orientation_on(lps_geometry(scan.geometry), series, scan.path)
    first, _ = _repeatable(series[0])
    if _is_enhanced(first):  # new elements, as the others are shared with the series
        frames = first.PerFrameFunctionalGroupsSequence[:1]
        first.add_new("PerFrameFunctionalGroupsSequence", "SQ", frames)
        first.add_new("NumberOfFrames", "IS", 1)
    with _told_of(scan.path):  # the library asks for what it needs, so let it have a slice
        _segmentation(np.ones((1, first.Rows, first.Columns), np.uint8), [first], MadeBy.NETWORK)


def write_dicom_seg(
    label_map: LabelMap,
    series: Sequence[Dataset],
    path: Path,
    *,
    made_by: MadeBy = MadeBy.NETWORK,
) -> list[str]:
    """Write a label map as a DICOM Segmentation of the series it was made from.

    All organs are described, and the number of a segment is its organ's label
    value; one that was not found has no frames. The same label map and series give
    the same bytes: UIDs are made from all that is written, and the date of the
    content is that of the first slice. Patient and study are named as in that slice, but
    for values that are none, which are left empty.

    Parameters
    ----------
    label_map : LabelMap
        On the grid of the series, whichever way it lies; not empty.
    series : sequence of Dataset
        Headers of the source images; see :func:`read_series`.
    path : Path
        File to write.
    made_by : MadeBy
        Who drew it; each segment tells.

    Returns
    -------
    list of str
        Warnings: what had to be left empty.

    Raises
    ------
    InputError
        If the label map lies on another grid, holds no organ, or the series
        lacks what every DICOM image must tell.
    OutputError
        If the file cannot be written.
    """
    orientation = _orientation_on(label_map.source.geometry, series, label_map.path)
    if not label_map.array.any():
        raise InputError(f"{label_map.path}: no organ in it; a DICOM SEG needs at least one")
    # As the source has them: an enhanced image may hold its frames in any order.
    order = _order(_planes(series))
    frames = np.ascontiguousarray(from_lps(label_map.in_lps, orientation)[np.argsort(order)])
    first, invalid = _repeatable(series[0])
    with _told_of(path):
        segmentation = _segmentation(frames, [first, *series[1:]], made_by)
    with atomic_path(path) as partial:
        segmentation.save_as(partial)
        _name_by_content(segmentation, sha256_of(partial))
        segmentation.save_as(partial)
    if not invalid:
        return []
    # Without the values themselves, which may tell who the patient is.
    return [
        f"{path}: left empty, as the DICOM series has no valid value of {', '.join(invalid)}; "
        "correct it in the archive, where it matters"
    ]


def _one_name(value: object) -> None:
    if isinstance(value, MultiValue):
        raise TypeError("several names")


# Values of the source that the library takes in this form alone; of others it takes any.
_TAKEN: Mapping[str, Callable[[Any], object]] = {
    "PatientName": _one_name,
    "PatientBirthDate": DA,
    "PatientSex": PatientSexValues,
    "StudyDate": DA,
    "StudyTime": TM,
}

# What the standard lets be empty, and programs that take out who a patient is leave out.
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
)


def _repeatable(header: Dataset) -> tuple[Dataset, list[str]]:
    """Copy a header without values that no segmentation may repeat; name the elements emptied."""
    copied = header[:]  # its elements are those of the header
    invalid = []
    for name, take in _TAKEN.items():
        value = header.get(name)
        if not value:
            continue
        try:
            take(value)
        except (TypeError, ValueError):
            invalid.append(name)
            copied.add_new(name, header[name].VR, None)  # another element
    return copied, invalid


def _orientation_on(grid: Geometry, series: Sequence[Dataset], path: Path) -> Orientation:
    """Tell how a series lies whose grid, turned to LPS, must be that of a file."""
    with _told_of(path):
        stored = series_geometry(series)
    orientation = nearest_orientation(stored)
    difference = grid_difference(turn_geometry(stored, orientation), grid)
    if difference:
        raise InputError(
            f"{path}: not on the grid of the DICOM series: {difference}; name the series it was "
            "made from, or ask for --formats seg.nrrd"
        )
    return orientation


@contextlib.contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Turn what is raised where a series lacks an element into an error that names it."""
    try:
        yield
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: the DICOM series lacks what a segmentation must repeat ({error}); "
            "export the series again"
        ) from error


def _segmentation(
    frames: np.ndarray, series: Sequence[Dataset], made_by: MadeBy
) -> hd.seg.Segmentation:
    date, time = _content_date(series[0])
    # The library would print a patient's name of one part alone, and tell of values that are long.
    anonymous = series[0][:]
    for name in _MAY_BE_EMPTY:
        anonymous.add_new(name, dictionary_VR(name), None)
    segmentation = hd.seg.Segmentation(
        source_images=[anonymous, *series[1:]],
        pixel_array=frames,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(organ, made_by) for organ in ORGANS],
        series_instance_uid=_UNNAMED,
        series_number=_SERIES_NUMBER,
        series_description="Abdominal organs (research only)",
        sop_instance_uid=_UNNAMED,
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number=__version__,
        content_label="ORGANS",
        content_description=made_by.described,
        content_date=date,
        content_time=time,
        specific_character_set=None,  # the library refuses some that it would only repeat
    )
    for name in ("SpecificCharacterSet", *_MAY_BE_EMPTY):
        if name in series[0]:
            segmentation[name] = series[0][name]
    # All optional, and others each time.
    del segmentation.InstanceCreationDate, segmentation.InstanceCreationTime
    del segmentation.ContributingEquipmentSequence[-1].ContributionDateTime  # of highdicom itself
    _name_dimensions(segmentation, _UNNAMED)
    return segmentation


def _name_by_content(segmentation: hd.seg.Segmentation, sha256: str) -> None:
    """Give UIDs that follow from what is written: another content, another object."""
    _name_dimensions(segmentation, generate_uid(entropy_srcs=[sha256, "dimensions"]))
    instance = generate_uid(entropy_srcs=[sha256, "instance"])
    segmentation.SeriesInstanceUID = generate_uid(entropy_srcs=[sha256, "series"])
    segmentation.SOPInstanceUID = instance
    segmentation.file_meta.MediaStorageSOPInstanceUID = instance


def _name_dimensions(segmentation: hd.seg.Segmentation, uid: str) -> None:
    """Name the one organization of dimensions that the frames have."""
    for item in (
        *segmentation.DimensionOrganizationSequence,
        *segmentation.DimensionIndexSequence,
    ):
        item.DimensionOrganizationUID = uid


def _content_date(header: Dataset) -> tuple[str, str]:
    """Give the date and time of a slice's content, from the closest element that tells one."""
    for event in ("Content", "Acquisition", "Series", "Study"):
        date, time = (str(header.get(f"{event}{kind}") or "") for kind in ("Date", "Time"))
        # Both give None for nothing.
        with contextlib.suppress(ValueError, AttributeError):
            day = DA(date).strftime("%Y%m%d")
            with contextlib.suppress(ValueError, AttributeError):
                return day, TM(time).strftime("%H%M%S")
            return day, _MIDNIGHT
    return _NO_DATE, _MIDNIGHT


def _description(organ: Organ, made_by: MadeBy) -> SegmentDescription:
    """Describe one organ in standard words; no program is named for what a person drew."""
    term = TERMS[organ.value]
    algorithm = hd.AlgorithmIdentificationSequence(
        name=NAME, family=codes.DCM.ArtificialIntelligence, version=__version__
    )
    description = SegmentDescription(
        segment_number=organ.value,
        segment_label=term.label,
        segmented_property_category=_concept(ANATOMICAL_STRUCTURE),
        segmented_property_type=_concept(term.organ),
        algorithm_type=made_by.algorithm_type,
        algorithm_identification=None if made_by is MadeBy.HAND else algorithm,
        display_color=CIELabColor.from_rgb(*organ.color),
    )
    if term.side is not None:
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(term.side)]
    return description


def _concept(code: Code) -> CodedConcept:
    return CodedConcept(code.value, SCHEME, code.meaning)


def _image_header(path: Path) -> Dataset | None:
    """Read the header of an image with a place in space; None for other files."""
    try:
        header = dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError) as error:
        logger.debug("%s: passed over (%s)", path, error)
        return None
    needed = _NEEDED_OF_ENHANCED if _is_enhanced(header) else _NEEDED
    return header if all(name in header for name in needed) else None


def _is_enhanced(header: Dataset) -> bool:
    """Tell whether a file holds all slices of a CT series."""
    return header.get("SOPClassUID") in _ENHANCED


def _planes(series: Sequence[Dataset]) -> list[Dataset]:
    """Give what tells where each slice lies: its header, or the groups of an enhanced frame."""
    if not _is_enhanced(series[0]):
        return list(series)
    (shared,) = series[0].SharedFunctionalGroupsSequence
    planes = []
    for frame in series[0].PerFrameFunctionalGroupsSequence:
        plane = Dataset()
        plane.ImagePositionPatient = frame.PlanePositionSequence[0].ImagePositionPatient
        # highdicom, too, looks for these among what all frames share.
        turn, measures = shared.PlaneOrientationSequence[0], shared.PixelMeasuresSequence[0]
        plane.ImageOrientationPatient = turn.ImageOrientationPatient
        plane.PixelSpacing = measures.PixelSpacing
        plane.SliceThickness = measures.get("SliceThickness")
        planes.append(plane)
    return planes


def _order(planes: Sequence[Dataset]) -> npt.NDArray[np.intp]:
    """Sort slices along the normal of their planes; give their numbers in that order."""
    normal = _normal(planes[0])
    heights = [float(np.dot(normal, plane.ImagePositionPatient)) for plane in planes]
    return np.argsort(heights, kind="stable")


def _normal(header: Dataset) -> np.ndarray:
    rows, columns = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
    return np.cross(rows, columns)
