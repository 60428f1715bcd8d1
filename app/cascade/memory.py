"""What a scan will need, what the cap allows, and what was really used.

The plan is made from the file's header, before voxels are loaded. It adds up
the arrays that live at the same time in each step; the measured peak in
``run.json`` shows how well it does.
"""

import ctypes
import math
import mmap
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from app.config import PhaseConfig
from app.control_groups import NO_LIMIT_BYTES, container_limit
from app.errors import MemoryLimitError, UsageError
from app.imaging.geometry import IndexZYX, SpacingZYX
from app.imaging.io import ScanHeader
from app.imaging.orientation import lps_geometry
from app.imaging.resample import resampled_shape

try:
    import resource
except ModuleNotFoundError as error:
    raise UsageError(
        "this needs Linux or macOS; on Windows run it in WSL 2, or in the container"
    ) from error

KIB = 1024
MIB = 1024**2
GIB = 1024**3

DEFAULT_LIMIT_BYTES = 8 * GIB
"""The method's promise: a laptop with 8 GB."""

PROGRAM_BYTES = 640 * MIB
"""Interpreter, libraries and phase two's network at work: 536 MiB measured in f32 on a processor
with AVX2 alone, and a fifth, for other instructions lay weights and buffers out in other ways.

What that network took for its first patch it keeps, so that every step of a later scan has it
too."""

LOCATE_PROGRAM_BYTES = 320 * MIB
"""The same where phase two's network is there but never at work: 275 MiB measured, and a sixth."""

LOCATE_BYTES = 64 * MIB
"""What phase one's network has a patch in and works in, until it is given back: 44 MiB measured."""

READING_BYTES = 64 * MIB
"""Most that turning voxels of any type into HU takes beside them, one piece of a file at a time."""

DECODER_BYTES = 160 * MIB
"""The process that decodes compressed DICOM slices, which counts in the same control group."""

SLICE_HEADER_BYTES = 20 * KIB
"""Header of a DICOM slice, held as long as its scan is worked on: 17.4 KiB measured."""

OUTPUTS_BYTES = 320 * MIB
"""Drawing, and the coarse copy of a scan that a report's page shows: 83 to 137 MiB measured on the
benchmark's phantoms, more where slices are thinner. A DICOM SEG takes 116 MiB and 2.3 bytes a
voxel: less than this and the three of scan and label map."""

ADDRESS_BYTES = GIB
THREAD_ADDRESS_BYTES = 128 * MIB
"""Addresses that the libraries, and each of their threads, reserve and never fill: 1,018 MiB
measured with one thread, 1,055 with two. Only a limit such as ``ulimit -v`` counts them."""

HU_BYTES = 2
"""A voxel of a scan in memory: int16."""

LARGE_REGION_MM: SpacingZYX = (500.0, 300.0, 400.0)
"""Box assumed before phase one has run; 95 % of 250 published cases are smaller."""

SLAB_SLICES = 16
"""Slices of the scan labeled at a time: 16 slices of 512 x 512 float32 are 16 MiB."""

_READING_BYTES_PER_VOXEL = 48
# In float32 the best score so far and that of another class, where this is better, and next to
# nothing that they are interpolated from, 1 byte at most.
_LABELING_BYTES_PER_PIXEL = SLAB_SLICES * (4 + 4 + 1 + 1)
_UNITS = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """How much memory each step will need.

    Parameters
    ----------
    steps : dict of str to int
        Bytes in use at the height of each step, program included.
    limit_bytes : int
        What is allowed.
    """

    steps: dict[str, int]
    limit_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Bytes of the hungriest step."""
        return max(self.steps.values())


def parse_bytes(text: str) -> int:
    """Read a size such as ``8GiB``, ``8g``, ``512M`` or ``1073741824``.

    Units are powers of 1024, as in ``docker run -m``.

    Parameters
    ----------
    text : str
        A positive number and an optional unit.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    UsageError
        If the text is no such size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmg])(?:i?b)?|b)?\s*", text.lower())
    num_bytes = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if num_bytes <= 0:
        raise UsageError(f"memory limit {text!r} is not a size; write for example 8GiB or 512MiB")
    return num_bytes


def memory_limit(asked_bytes: int | None = None) -> int:
    """Find how much memory may be used.

    Parameters
    ----------
    asked_bytes : int, optional
        What the user asked for.

    Returns
    -------
    int
        Bytes: as asked, though never more than the container's own limit, beyond
        which the system ends the process; else that limit, else 8 GiB or what the
        machine has, if that is less.
    """
    allowed = container_limit()
    if asked_bytes is not None:
        return min(asked_bytes, allowed or asked_bytes)
    installed = _kib_field(Path("/proc/meminfo"), "MemTotal") or DEFAULT_LIMIT_BYTES
    return min(allowed or DEFAULT_LIMIT_BYTES, installed)


def within_address_space(limit_bytes: int, threads: int) -> int:
    """Lower a memory limit to what a limit on addresses (``ulimit -v``) leaves room for.

    Parameters
    ----------
    limit_bytes : int
        What may be used.
    threads : int
        Threads the networks compute with.

    Returns
    -------
    int
        Bytes; at least 0.
    """
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    if addresses == resource.RLIM_INFINITY:
        return limit_bytes
    return max(0, min(limit_bytes, addresses - ADDRESS_BYTES - threads * THREAD_ADDRESS_BYTES))


def check_program_fits(threads: int, *, locate_only: bool = False) -> None:
    """Refuse limits of the system that the program alone exceeds, before networks are loaded.

    Parameters
    ----------
    threads : int
        Threads the networks compute with.
    locate_only : bool
        Whether phase two is never run.

    Raises
    ------
    MemoryLimitError
        If no scan could be segmented.
    """
    allowed = within_address_space(container_limit() or NO_LIMIT_BYTES, threads)
    needed = LOCATE_PROGRAM_BYTES if locate_only else PROGRAM_BYTES
    if allowed < needed:
        raise MemoryLimitError(
            f"memory limit of {allowed / MIB:.0f} MiB: the program alone needs "
            f"{needed / MIB:.0f} MiB; raise the container's own limit or ulimit -v"
        )


def process_peak() -> int:
    """Give the highest memory use (resident set) of this process since the last reset.

    Returns
    -------
    int
        Bytes.
    """
    peak = _kib_field(Path("/proc/self/status"), "VmHWM")
    if peak is not None:
        return peak
    unit = 1 if sys.platform == "darwin" else KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_process_peak() -> None:
    """Start measuring the process's peak afresh, where the system allows it.

    Elsewhere :func:`process_peak` goes on giving the peak since the start.
    """
    try:
        # 5 is the kernel's code for "reset the peak resident set size".
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def return_freed_memory() -> None:
    """Let the C library give freed memory back to the system, where it is one that keeps it.

    glibc keeps what a large array was freed from once it has seen a few of them come and go.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return
    trim(0)


def drop_contents(array: npt.NDArray[Any]) -> None:
    """Give the memory of an array back to the system while the array is still there.

    Parameters
    ----------
    array : C-contiguous ndarray
        In memory that the C library gave. What it holds afterwards is not defined.
    """
    try:
        advise = ctypes.CDLL(None).madvise
    except (AttributeError, OSError):
        return
    first, last = array.ctypes.data, array.ctypes.data + array.nbytes
    # Whole pages: others may hold something else, too.
    start, stop = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE, last // mmap.PAGESIZE * mmap.PAGESIZE
    if start < stop:
        advise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED)


def plan_memory(
    header: ScanHeader,
    *,
    locate: PhaseConfig,
    segment: PhaseConfig,
    limit_bytes: int,
    region_mm: SpacingZYX | None = None,
    keeps_scan: bool = False,
    num_copies: int = 0,
    writes_more: bool = False,
    locate_only: bool = False,
) -> MemoryPlan:
    """Estimate what a scan needs, from its header alone.

    Parameters
    ----------
    header : ScanHeader
        Size and spacing of the scan, and the files it lies in.
    locate, segment : PhaseConfig
        The two phases.
    limit_bytes : int
        What is allowed.
    region_mm : (z, y, x) floats, optional
        Size of the located box, once it is known; a large one by default.
    keeps_scan : bool
        Whether the scan stays in memory until its organs have been measured.
    num_copies : int
        Images of the label map's kind and size that stay in memory beside it.
    writes_more : bool
        Whether pictures or further formats are made of the finished label map.
    locate_only : bool
        Whether phase two is never run; then there is no label map, and none of the three above.

    Returns
    -------
    MemoryPlan
        By step.

    Raises
    ------
    MemoryLimitError
        If the scan does not fit.
    """
    steps = _step_bytes(header, locate, segment, region_mm or LARGE_REGION_MM)
    voxels = math.prod(header.geometry.shape)
    if keeps_scan:
        steps["restore"] += HU_BYTES * voxels
    steps["restore"] += num_copies * voxels
    if writes_more:
        # Scan and label map are read once more.
        steps["outputs"] = (HU_BYTES + 1) * voxels + OUTPUTS_BYTES
    held = PROGRAM_BYTES
    if locate_only:
        steps = {name: steps[name] for name in ("read", "locate")}
        held = LOCATE_PROGRAM_BYTES
    held += SLICE_HEADER_BYTES * (len(header.slice_files) + header.num_other_headers)
    plan = MemoryPlan(
        steps={name: held + num_bytes for name, num_bytes in steps.items()},
        limit_bytes=limit_bytes,
    )
    if plan.peak_bytes > limit_bytes:
        raise MemoryLimitError(
            f"{header.path}: needs about {plan.peak_bytes / GIB:.1f} GiB, "
            f"{limit_bytes / GIB:.1f} GiB are allowed; raise --memory-limit or "
            "memory= (and the container's own limit), or crop the scan to the abdomen"
        )
    return plan


def _step_bytes(
    header: ScanHeader, locate: PhaseConfig, segment: PhaseConfig, region_mm: SpacingZYX
) -> dict[str, int]:
    """Add up the arrays that live at the same time at the height of each step."""
    geometry = lps_geometry(header.geometry)
    voxels = math.prod(geometry.shape)
    # Voxels of whatever type become HU as they are read, so that none is held twice.
    scan = HU_BYTES * voxels
    depth, height, width = (
        min(size, most) for size, most in zip(geometry.extent_mm, region_mm, strict=True)
    )
    fine = resampled_shape((1, 1, 1), (depth, height, width), segment.spacing_mm)
    coarse = resampled_shape(geometry.shape, geometry.spacing_mm, locate.spacing_mm)
    scores = _kept_bytes(fine, len(segment.class_names))
    pixels = math.ceil(height / geometry.spacing_mm[1]) * math.ceil(width / geometry.spacing_mm[2])
    num_copies = 1 if header.nifti_header is not None else 2
    return {
        "read": scan
        + min(READING_BYTES, _READING_BYTES_PER_VOXEL * voxels)
        + (DECODER_BYTES if header.slice_files else 0),
        "locate": scan
        + max(
            _resample_bytes(geometry.shape[0], coarse),
            LOCATE_BYTES + _kept_bytes(coarse, 1) + _working_bytes(coarse),
        ),
        # A second look resamples beside the scores of the first one.
        "segment": scan
        + scores
        + max(
            _resample_bytes(math.ceil(depth / geometry.spacing_mm[0]), fine),
            _working_bytes(fine),
            # They move to a larger window then. Linux takes back what was moved at once, other
            # systems hold both for that long.
            0 if sys.platform == "linux" else scores,
        ),
        # Of formats other than NIfTI a library writes a copy of the label map.
        "restore": scores
        + max(_working_bytes(fine), _LABELING_BYTES_PER_PIXEL * pixels)
        + num_copies * voxels,
    }


def _resample_bytes(num_slices: int, new_shape: IndexZYX) -> int:
    """Bytes for resampling: every slice shrunk in-plane, and the result."""
    return 4 * (num_slices + new_shape[0]) * new_shape[1] * new_shape[2]


def _kept_bytes(shape: IndexZYX, num_channels: int) -> int:
    """Bytes for 16-bit scores, the weight that each voxel's have, and its best class."""
    return (2 * (num_channels + 1) + 1) * math.prod(shape)


def _working_bytes(shape: IndexZYX) -> int:
    """Bytes that are worked in beside the scores kept, 12 a voxel.

    First that is the network's input, before and after its intensities are scaled, and marks
    of where to look; then the numbered pieces of an organ, which its box need not fill.
    """
    return 12 * math.prod(shape)


def _kib_field(path: Path, name: str) -> int | None:
    """Read a field such as ``VmHWM:  1234 kB``, in bytes."""
    try:
        text = path.read_text()
    except OSError:
        return None
    match = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(match[1]) * KIB if match else None
