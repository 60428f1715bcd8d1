"""DICOM: which series a folder holds.

Headers are read with pydicom, which is Python all the way down, so that a
damaged or hostile one is an error and never a crash.
"""

import logging
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.filereader import read_partial
from pydicom.tag import Tag

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging.dicom_header import BoundedHeader
from app.imaging.dicom_magic import is_dicom
from app.imaging.dicom_pixels import DAMAGE, dicom_damage_named

logger = logging.getLogger(__name__)

pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

_CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # one slice a file
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced: all slices in one file
    "1.2.840.10008.5.1.4.1.1.2.2",  # enhanced, converted from single slices
)
_TAGS = [
    "SOPClassUID", "Modality", "ImageType", "SeriesInstanceUID", "SeriesNumber",
    "StudyInstanceUID", "FrameOfReferenceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleSlope", "RescaleIntercept", "RescaleType", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
_GROUP_OF_SERIES = 0x0020  # in ascending order, the last that tells what a file is

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")

HEADER_DAMAGE = "damaged DICOM header"

# What slope and intercept give: "unspecified" stands in many files that hold HU.
_HU_TYPES = ("", "HU", "US")
# HU that were changed on purpose, such as those of a virtual image without contrast agent.
NEARLY_HU_TYPES = ("HU_MOD",)


@dataclass(frozen=True, slots=True)
class Image:
    """One DICOM file's header.

    Parameters
    ----------
    path : Path
        The file.
    dataset : Dataset
        Its elements, pixels left out.
    transfer_syntax : str
        UID of how its pixels are encoded.
    """

    path: Path
    dataset: Any
    transfer_syntax: str

    @property
    def reason_against(self) -> str | None:
        """Why this is no slice of a CT scan; None if it is one."""
        sop_class = str(self.dataset.get("SOPClassUID") or _CT_CLASSES[0])
        modality = str(self.dataset.get("Modality") or "CT")
        if modality != "CT":
            return f"modality {modality[:16]!a}, 'CT' expected"
        if sop_class not in _CT_CLASSES:
            return f"{pydicom.uid.UID(sop_class).name[:64]!a} is no CT image"
        # Damaged, it may be a number; whole, it is a list of words.
        if "LOCALIZER" in str(self.dataset.get("ImageType")):
            return "a localizer, not a scan"
        return reason_against_type(rescale_type_of(self.dataset))


@dataclass(frozen=True, slots=True)
class Series:
    """The images of one series in one folder.

    Parameters
    ----------
    folder : Path
        Where they lie.
    uid : str
        SeriesInstanceUID; empty if missing.
    number : int or None
        SeriesNumber.
    images : tuple of Image
        At least one, by file name.
    num_damaged : int
        DICOM files of the folder that could not be read: they may be slices of it.
    num_in_folder : int
        Those that could, whatever their series: their headers are held as long as its own.
    """

    folder: Path
    uid: str
    number: int | None
    images: tuple[Image, ...]
    num_damaged: int
    num_in_folder: int

    @property
    def usable(self) -> tuple[Image, ...]:
        """The images that are slices of a CT scan."""
        return tuple(image for image in self.images if image.reason_against is None)

    @property
    def reason_against(self) -> str | None:
        """Why this series is no CT scan; None if it is one."""
        return None if self.usable else self.images[0].reason_against

    @property
    def uids(self) -> dict[str, str]:
        """UIDs of study, series and frame of reference, by DICOM's names; without other text."""
        found = {name: _text(self.images[0], name) for name in _UIDS}
        return {name: uid for name, uid in found.items() if re.fullmatch(r"[0-9.]{1,64}", uid)}

    def __str__(self) -> str:
        """Name the series for people."""
        named = "without number" if self.number is None else str(self.number)
        return f"series {named}, {len(self.images)} file(s), {self.images[0].path.name} ..."


def find_series(folder: Path) -> list[Series]:
    """List the series whose files lie in a folder, not in the folders below it.

    Files that are no DICOM are passed over, those whose header is damaged are
    counted.

    Parameters
    ----------
    folder : Path
        To look into.

    Returns
    -------
    list of Series
        By number; empty if there is none.
    """
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found = [path for path in files if is_dicom(path)]
    stats = [(path, path.stat()) for path in found]
    return list(
        _group(folder, tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats))
    )


def series_of(path: Path) -> Series:
    """Find the one series that a path stands for.

    Parameters
    ----------
    path : Path
        A DICOM file, which stands for its series; or a folder with one CT series.

    Returns
    -------
    Series
        With at least one slice of a CT scan.

    Raises
    ------
    UnreadableScanError
        If there is no readable DICOM file.
    UnsupportedScanError
        If the series is no CT scan, or the folder holds several.
    """
    found = find_series(path if path.is_dir() else path.parent)
    if not path.is_dir():
        found = [one for one in found if any(image.path == path for image in one.images)]
    if not found:
        _tell_damage(path)
        raise UnreadableScanError(f"{path}: no readable DICOM image; copy or export it again")
    scans = [one for one in found if one.reason_against is None]
    if not scans:
        reasons = sorted({str(one.reason_against) for one in found})
        raise UnsupportedScanError(f"{path}: {'; '.join(reasons)}; give a CT series")
    if len(scans) > 1:
        raise UnsupportedScanError(
            f"{path}: {len(scans)} CT series found ({'; '.join(map(str, scans))}); "
            "give one file of the one that is meant"
        )
    return scans[0]


def _tell_damage(path: Path) -> None:
    """Raise what is wrong with the first of files none of which can be read."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        if not file.name.startswith(".") and is_dicom(file):
            _read_image(file)
            return


@lru_cache(maxsize=1)
def _group(folder: Path, signature: tuple[tuple[Path, int, int], ...]) -> tuple[Series, ...]:
    """Group files by series; the last folder is remembered, as it is asked for again and again.

    Sizes and times of the files are part of the question: changed files are read anew.
    """
    groups: dict[str, list[Image]] = {}
    for path, _, _ in signature:
        try:
            image = _read_image(path)
            groups.setdefault(str(image.dataset.get("SeriesInstanceUID") or ""), []).append(image)
        except UnreadableScanError as error:
            logger.warning("left out: %s", error)
    num_read = sum(map(len, groups.values()))
    num_damaged = len(signature) - num_read
    series = [
        Series(folder, uid, _number(images[0]), tuple(images), num_damaged, num_read)
        for uid, images in groups.items()
    ]
    return tuple(sorted(series, key=lambda one: (one.number is None, one.number or 0, one.uid)))


def _number(image: Image) -> int | None:
    try:
        return int(image.dataset.SeriesNumber)
    except DAMAGE:
        return None


def _text(image: Image, name: str) -> str:
    """Read an element that nothing hangs on; empty where it is missing or damaged."""
    try:
        return str(image.dataset.get(name) or "")
    except DAMAGE:
        return ""


def _read_image(path: Path) -> Image:
    with dicom_damage_named(path, HEADER_DAMAGE), path.open("rb") as file:
        header = BoundedHeader(path, file)
        try:
            dataset = pydicom.dcmread(header, stop_before_pixels=True, specific_tags=_TAGS)
        except (UnreadableScanError, *DAMAGE):
            if header.refusal is None:
                raise
            # What is no scan may be long, such as contours; what it is comes first.
            file.seek(0)
            dataset = read_partial(
                cast("BinaryIO", BoundedHeader(path, file)),
                lambda tag, *_: tag.group > _GROUP_OF_SERIES,
                specific_tags=[Tag(name) for name in _TAGS],
            )
            if Image(path, dataset, "").reason_against is None:
                raise header.refusal from None
        dataset.buffer = None
        syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
        for tag in ("SOPClassUID", "Modality", "ImageType", "SeriesInstanceUID", "RescaleType"):
            dataset.get(tag)  # damaged values show here and not somewhere later
        if dataset.get("SOPClassUID") is None and dataset.get("Modality") is None:
            raise UnreadableScanError(
                f"{path}: says neither modality nor class, so it is damaged; copy it again"
            )
    return Image(path, dataset, syntax)


def rescale_type_of(group: Any) -> str:
    """Read what slope and intercept give."""
    return str(group.get("RescaleType") or "").strip().upper()


def reason_against_type(rescale_type: str) -> str | None:
    """Refuse images of iodine, effective atomic numbers and the like, which look like HU."""
    if rescale_type in (*_HU_TYPES, *NEARLY_HU_TYPES):
        return None
    return f"rescale type {rescale_type[:16]!a}, 'HU' expected"
