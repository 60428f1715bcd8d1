"""Segment scans from Python: an array or a SimpleITK image in, the labels of its organs out.

>>> from app import segment
>>> labels, report = segment(SimpleITK.ReadImage("scan.nii.gz"))   # doctest: +SKIP
>>> report.volumes_ml["liver"]                                      # doctest: +SKIP

The networks are opened on the first call and kept. :class:`Segmenter` opens others, or
the same with other settings.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from app.cascade.bundle import Cascade, hurried, open_cascade
from app.cascade.confidence import confidence_map
from app.cascade.engine import Precision
from app.cascade.memory import (
    memory_limit,
    parse_bytes,
    reset_process_peak,
    return_freed_memory,
)
from app.cascade.pipeline import label_scan, score_scan
from app.cascade.report import CaseReport
from app.config import DEFAULT_WEIGHTS
from app.errors import UsageError
from app.imaging.geometry import IDENTITY, Geometry, LabelVolume, SpacingZYX
from app.imaging.in_memory import adopt_array, adopt_image, as_array, as_image
from app.imaging.io import Source
from app.imaging.volume import Volume
from app.labels import values_of

Labels = TypeVar("Labels")
Direction = Sequence[Sequence[float]]

_OPENING = Lock()

_MAX_LENGTH_ERROR = 0.01
"""How far from 1 the length of a direction may be; with more it may hold the spacing, too."""


class _LabelsAndReport(NamedTuple, Generic[Labels]):
    labels: Labels
    report: CaseReport


class Segmentation(_LabelsAndReport[Labels]):
    """What was found in a scan: ``labels, report = segment(scan)``.

    Parameters
    ----------
    labels : array of uint8, or SimpleITK.Image
        Of the type the scan came in, on its grid; values as in :data:`app.labels.ORGANS`.
    report : CaseReport
        Times, memory, box, organ volumes, statistics, warnings.

    Attributes
    ----------
    confidence : array of uint8, or SimpleITK.Image, or None
        If it was asked for: how sure the network is of each voxel, 0 to 100, on the same
        grid; see :func:`app.cascade.confidence.confidence_map`.
    """

    confidence: Labels | None = None


class Segmenter:
    """Both networks, opened once, for any number of scans.

    Several threads may share it: their scans wait for each other, for a scan has all processors
    and the memory that was planned for it.

    Parameters
    ----------
    weights : Path, optional
        Folder that holds ``locate`` and ``segment``; by default the weights that
        came with the program.
    threads : int, optional
        Processor threads; all by default.
    precision : {"auto", "f32", "bf16"}
        Number format of phase two; phase one computes in float32.
    memory : str, optional
        Most memory a scan may need, such as ``"8GiB"``; by default the
        container's limit, else 8 GiB.

    Raises
    ------
    UsageError
        If ``memory`` is no size, ``threads`` not positive, or ``precision`` none of these.
    WeightsError
        If the folder does not hold both phases, whole and unchanged.
    """

    def __init__(
        self,
        *,
        weights: Path = DEFAULT_WEIGHTS,
        threads: int | None = None,
        precision: Precision = "auto",
        memory: str | None = None,
    ) -> None:
        self._cascade = open_cascade(
            Path(weights),
            memory_limit_bytes=memory_limit(parse_bytes(memory) if memory else None),
            threads=threads,
            precision=precision,
        )
        self._one_scan_at_a_time = Lock()

    @overload
    def segment(
        self,
        image: npt.NDArray[Any],
        *,
        spacing_mm: SpacingZYX | None = ...,
        origin_mm: SpacingZYX = ...,
        direction: Direction = ...,
        organs: Iterable[str] | None = ...,
        statistics: bool = ...,
        confidence: bool = ...,
        fast: bool = ...,
    ) -> Segmentation[LabelVolume]: ...

    @overload
    def segment(
        self,
        image: sitk.Image,
        *,
        organs: Iterable[str] | None = ...,
        statistics: bool = ...,
        confidence: bool = ...,
        fast: bool = ...,
    ) -> Segmentation[sitk.Image]: ...

    def segment(
        self,
        image: Any,
        *,
        spacing_mm: SpacingZYX | None = None,
        origin_mm: SpacingZYX = (0.0, 0.0, 0.0),
        direction: Direction = IDENTITY,
        organs: Iterable[str] | None = None,
        statistics: bool = False,
        confidence: bool = False,
        fast: bool = False,
    ) -> Segmentation[Any]:
        """Segment the abdominal organs of one CT scan; see :func:`segment`."""
        if isinstance(image, sitk.Image):
            if spacing_mm is not None:
                raise UsageError("spacing_mm: a SimpleITK image has its own; leave it out")
            adopt = partial(adopt_image, image)
            as_given: Callable[..., Any] = partial(as_image, image=image)
        else:
            array = np.asarray(image)
            grid = _geometry(array, spacing_mm, origin_mm, direction)
            adopt = partial(adopt_array, array, grid)
            as_given = as_array
        cascade = hurried(self._cascade) if fast else self._cascade
        values = None if organs is None else values_of(organs)
        with self._one_scan_at_a_time:
            scan, source = adopt()  # not before, as most scans are copied for it
            return _segment(
                scan,
                source,
                cascade,
                values,
                partial(as_given, source=source),
                statistics=statistics,
                confidence=confidence,
            )


@overload
def segment(
    image: npt.NDArray[Any],
    *,
    spacing_mm: SpacingZYX | None = ...,
    origin_mm: SpacingZYX = ...,
    direction: Direction = ...,
    organs: Iterable[str] | None = ...,
    statistics: bool = ...,
    confidence: bool = ...,
    fast: bool = ...,
) -> Segmentation[LabelVolume]: ...


@overload
def segment(
    image: sitk.Image,
    *,
    organs: Iterable[str] | None = ...,
    statistics: bool = ...,
    confidence: bool = ...,
    fast: bool = ...,
) -> Segmentation[sitk.Image]: ...


def segment(image: Any, **options: Any) -> Segmentation[Any]:
    """Segment the abdominal organs of one CT scan with the weights that came with the program.

    Parameters
    ----------
    image : SimpleITK.Image, or (Z, Y, X) array of numbers
        HU, in any orientation. It stays as it is; an int16 scan is copied only where an
        offset of 1024 must be taken off.
    spacing_mm : (z, y, x) floats
        Voxel spacing of an array, in mm; needed for arrays alone.
    origin_mm : (z, y, x) floats
        World position of an array's first voxel, LPS, in mm.
    direction : 3 rows of 3 floats
        Column ``j`` is the world direction (z, y, x) of array axis ``j``. By
        default axis 0 grows towards the head, 1 to the back, 2 to the left.
    organs : iterable of str, optional
        Names of the organs wanted; all by default.
    statistics : bool
        Whether to measure HU and extent of each organ: ``report.organs``.
    confidence : bool
        Whether to tell how sure the network is of each voxel: ``confidence`` of the result.
    fast : bool
        Fewer patches, and no second look where the located box cuts an organ.

    Returns
    -------
    Segmentation
        ``labels`` of the image's type on its grid, and the ``report``.

    Raises
    ------
    UsageError
        If an array comes without spacing, its place is not told in numbers as above, or
        an organ is not known.
    UnsupportedScanError
        If the image is not one three-dimensional CT scan.
    MemoryLimitError
        If the scan would need more than is allowed.
    ScoresError
        If a network's scores of the scan are NaN or infinite.
    """
    found: Any = _default_segmenter().segment(image, **options)
    return cast("Segmentation[Any]", found)


@cache
def _only_segmenter() -> Segmenter:
    return Segmenter()


def _default_segmenter() -> Segmenter:
    """Open the networks on the first call; calls at the same time wait, and get the same."""
    with _OPENING:
        return _only_segmenter()


def _segment(
    scan: Volume,
    source: Source,
    cascade: Cascade,
    organs: frozenset[int] | None,
    as_given: Callable[[LabelVolume], Labels],
    *,
    statistics: bool,
    confidence: bool,
) -> Segmentation[Labels]:
    """Do in memory what ``segment_scan`` does from file to file."""
    return_freed_memory()  # what an earlier scan left
    reset_process_peak()
    report = CaseReport(observer=cascade.observer)
    report.warnings += source.notes
    # The scan's owner keeps it, and each result is copied into an image.
    cascade = replace(cascade, keeps_scan=True, num_copies=2 if confidence else 1)
    report.note_plan(cascade.plan(source.header))
    scores = score_scan(scan, source, cascade, report, organs=organs)
    measured_scan = scan if statistics else None
    found = Segmentation(
        as_given(label_scan(scores, source, report, organs=organs, scan=measured_scan)), report
    )
    if confidence:
        with report.step("confidence"):
            found.confidence = as_given(confidence_map(scores, source))
    return found


def _geometry(
    array: npt.NDArray[Any],
    spacing_mm: SpacingZYX | None,
    origin_mm: SpacingZYX,
    direction: Direction,
) -> Geometry:
    if spacing_mm is None:
        raise UsageError("spacing_mm: an array needs its voxel spacing along (z, y, x), in mm")
    if array.ndim != 3:
        raise UsageError(f"image: an array of shape {array.shape} found; give one scan (z, y, x)")
    nz, ny, nx = array.shape
    sz, sy, sx = _numbers("spacing_mm", spacing_mm, (3,), "3 numbers (z, y, x), in mm").tolist()
    oz, oy, ox = _numbers("origin_mm", origin_mm, (3,), "3 numbers (z, y, x), in mm").tolist()
    rows = "3 rows (z, y, x) of 3 numbers, columns being unit vectors"
    cosines = _numbers("direction", direction, (3, 3), rows)
    if not np.allclose(np.linalg.norm(cosines, axis=0), 1, atol=_MAX_LENGTH_ERROR):
        raise UsageError(f"direction: {direction!r} found; give {rows}")
    return Geometry(
        shape=(nz, ny, nx),
        spacing_mm=(sz, sy, sx),
        origin_mm=(oz, oy, ox),
        direction=tuple((z, y, x) for z, y, x in cosines.tolist()),
    )


def _numbers(
    name: str, value: Any, shape: tuple[int, ...], expected: str
) -> npt.NDArray[np.float64]:
    """Take numbers from whatever was given for an argument."""
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != shape:
        raise UsageError(f"{name}: {value!r} found; give {expected}")
    return numbers
