"""NIfTI-1 and NIfTI-2: headers read strictly, label maps written with their scan's header.

The image library fills what is missing from a truncated file with zeros, writes
a header of its own, and was not made for files that mean harm. So headers are
read here, field by field, and label maps keep all that their scan's header says
about where voxels lie: other programs may read a grid from fields it would drop.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from isal import igzip

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging.geometry import Geometry, LabelVolume, ScanVolume, SpacingZYX
from app.imaging.layout import (
    Layout,
    check_extents,
    check_single_channel,
    grid_from_xyz,
    spans_space,
)
from app.imaging.voxels import Inflated, damage_named

NIFTI_SUFFIXES = (".nii.gz", ".nii")

_CHUNK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
# Label maps are mostly background; higher levels take longer and save next to nothing.
_COMPRESSION_LEVEL = 1

# Name: (offset and type in NIfTI-1, offset and type in NIfTI-2).
_FIELDS: dict[str, tuple[tuple[int, Any], tuple[int, Any]]] = {
    "sizeof_hdr": ((0, "i4"), (0, "i4")),
    "magic": ((344, "V4"), (4, "V8")),
    "dim": ((40, ("i2", 8)), (16, ("i8", 8))),
    "intent_p": ((56, ("f4", 3)), (80, ("f8", 3))),
    "intent_code": ((68, "i2"), (504, "i4")),
    "datatype": ((70, "i2"), (12, "i2")),
    "bitpix": ((72, "i2"), (14, "i2")),
    "pixdim": ((76, ("f4", 8)), (104, ("f8", 8))),
    "vox_offset": ((108, "f4"), (168, "i8")),
    "scl_slope": ((112, "f4"), (176, "f8")),
    "scl_inter": ((116, "f4"), (184, "f8")),
    "cal_range": ((124, ("f4", 2)), (192, ("f8", 2))),
    "xyzt_units": ((123, "u1"), (500, "i4")),
    "aux_file": ((228, "V24"), (320, "V24")),
    "qform_code": ((252, "i2"), (344, "i4")),
    "sform_code": ((254, "i2"), (348, "i4")),
    "quatern": ((256, ("f4", 3)), (352, ("f8", 3))),
    "qoffset": ((268, ("f4", 3)), (376, ("f8", 3))),
    "srow": ((280, ("f4", (3, 4))), (400, ("f8", (3, 4)))),
    "intent_name": ((328, "V16"), (508, "V16")),
}


@dataclass(frozen=True, slots=True)
class _Version:
    """One version of the format: its header, and what every file of it begins with."""

    name: str
    dtype: np.dtype[np.void]
    magic: bytes

    @property
    def header_bytes(self) -> int:
        return self.dtype.itemsize

    @property
    def data_offset(self) -> int:
        """Where voxels begin if no extension comes first: four zero bytes say so."""
        return self.header_bytes + 4


def _version(name: str, index: int, header_bytes: int, magic: bytes) -> _Version:
    fields = {field: places[index] for field, places in _FIELDS.items()}
    described: Any = {
        "names": list(fields),
        "offsets": [offset for offset, _ in fields.values()],
        "formats": [kind for _, kind in fields.values()],
        "itemsize": header_bytes,
    }
    return _Version(name, np.dtype(described), magic)


_VERSIONS = (
    _version("NIfTI-1", 0, 348, b"n+1\0"),
    _version("NIfTI-2", 1, 540, b"n+2\0\r\n\x1a\n"),
)

_CODES = {np.dtype(np.uint8): 2, np.dtype(np.int16): 4}
_MM, _SCANNER = 2, 1
_DTYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
_CHANNELS = {128: 3, 2304: 4}  # RGB and RGBA
_COMPLEX = (32, 1792, 2048)
_MM_PER_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}
_UNIT_BITS = 7
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def is_nifti(path: Path) -> bool:
    """Tell by its name whether a file is a NIfTI file."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def read_header(path: Path) -> bytes:
    """Read the 348 bytes of a NIfTI-1 header, or the 540 of NIfTI-2.

    Raises
    ------
    UnreadableScanError
        If the file is no NIfTI file.
    """
    longest = max(version.header_bytes for version in _VERSIONS)
    with damage_named(path), path.open("rb") as file:
        start = file.read(longest)
        if start.startswith(_GZIP_MAGIC):
            file.seek(0)
            stream = Inflated(file)
            start = b""
            while len(start) < longest and (more := stream.read(longest - len(start))):
                start += more
    version, _ = _parse(start, path)
    return start[: version.header_bytes]


def read_layout(path: Path) -> Layout:
    """Read from a header where voxels lie, in the file and in space.

    Where sform and qform both are set the sform wins, unless it is no grid with
    right angles. Where neither is, axes are taken to grow left, front and up,
    as older Analyze files do.

    Raises
    ------
    UnreadableScanError
        If the file is no NIfTI file.
    UnsupportedScanError
        If it is not one three-dimensional, single-channel volume of numbers.
    """
    raw = read_header(path)
    version, header = _parse(raw, path)
    num_axes = int(header["dim"][0])
    if not 1 <= num_axes <= 7:
        raise UnreadableScanError(
            f"{path}: the header promises {num_axes} dimensions; export it again"
        )
    extents = [int(extent) for extent in header["dim"][1 : num_axes + 1]]
    if num_axes == 5:  # the format's place for vectors
        check_single_channel(path, extents[4])
    size_xyz = check_extents(path, extents)
    dtype = _dtype(header, path)
    steps_xyz, origin_xyz, notes = _place(header, size_xyz, path)
    slope, intercept = _scale(header, path)
    with damage_named(path), path.open("rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
    return Layout(
        path=path,
        geometry=grid_from_xyz(path, size_xyz, steps_xyz, origin_xyz),
        dtype=dtype,
        skip=_data_offset(header, version, path),
        compressed=compressed,
        slope=slope,
        intercept=intercept,
        notes=notes,
    )


def stated_spacing(raw_header: bytes, path: Path) -> SpacingZYX:
    """Read the spacing that a header states in ``pixdim``, whatever its matrices and units say.

    That is what most tools that compare label maps measure by.

    Parameters
    ----------
    raw_header : bytes
        From :func:`read_header`.
    path : Path
        Where it comes from.

    Returns
    -------
    (z, y, x) floats
        As stored, without a sign; 1 in place of 0.
    """
    _, header = _parse(raw_header, path)
    x, y, z = (step or 1.0 for step in _pixdim(header).tolist())
    return (z, y, x)


def make_header(geometry: Geometry) -> bytes:
    """Make the header of a label map whose scan came without one, or of a scan.

    The image library writes right angles alone, so that the end of a long scan whose
    slices lean a little would lie some mm off. The sform tells the grid as it is, the
    qform the nearest one with right angles, for programs that know no others.

    Parameters
    ----------
    geometry : Geometry
        The grid as stored.

    Returns
    -------
    bytes
        As from :func:`read_header`, of NIfTI-1.
    """
    from scipy.spatial.transform import Rotation  # takes a while, and only such scans need it

    version = _VERSIONS[0]
    spacing_xyz = geometry.spacing_mm[::-1]
    turn = _RAS_TO_LPS @ np.asarray(geometry.direction)[::-1, ::-1]
    origin = _RAS_TO_LPS @ geometry.origin_mm[::-1]
    third = 1 if np.linalg.det(turn) > 0 else -1  # whether the third axis grows the other way
    raw = bytearray(version.header_bytes)
    header = np.frombuffer(raw, version.dtype)  # what is set here is set in `raw`
    header["sizeof_hdr"], header["magic"] = version.header_bytes, version.magic
    header["dim"][0, :4] = (3, *geometry.shape[::-1])
    header["pixdim"][0, :4] = (third, *spacing_xyz)
    header["xyzt_units"] = _MM
    header["sform_code"] = header["qform_code"] = _SCANNER
    header["srow"] = np.column_stack([turn * spacing_xyz, origin])
    # The nearest rotation, where the axes stand at no right angles.
    nearest = Rotation.from_matrix(turn * (1, 1, third))
    header["quatern"] = nearest.as_quat(canonical=True, scalar_first=True)[1:]
    header["qoffset"] = origin
    return bytes(raw)


def write_stored(path: Path, voxels: LabelVolume | ScanVolume, scan_header: bytes) -> None:
    """Write a label map, or a scan in HU, with a scan's header.

    The same voxels always give the same bytes.

    Parameters
    ----------
    path : Path
        A ``.nii`` or ``.nii.gz`` file.
    voxels : (Z, Y, X) array of uint8 or int16
        As the scan is stored; copied only where it does not lie in C order.
    scan_header : bytes
        From :func:`read_header` or :func:`make_header`; all that says where voxels lie is kept.
    """
    preamble, dtype = _header_for(voxels.dtype, scan_header, path)
    content = np.ascontiguousarray(voxels, dtype).ravel().view(np.uint8).data
    with path.open("wb") as file:
        if path.suffix.lower() != ".gz":
            file.write(preamble)
            file.write(content)
            return
        packed = igzip.IGzipFile("", "wb", _COMPRESSION_LEVEL, file, mtime=0)  # type: ignore[no-untyped-call]
        with cast("BinaryIO", packed) as stream:
            stream.write(preamble)
            for start in range(0, len(content), _CHUNK_BYTES):
                stream.write(content[start : start + _CHUNK_BYTES])


def _parse(raw: bytes, path: Path) -> tuple[_Version, Any]:
    """Tell version and byte order by the header's first number, which is its length."""
    for version in _VERSIONS:
        for dtype in (version.dtype, version.dtype.newbyteorder()):
            if len(raw) < version.header_bytes:
                continue
            header = np.frombuffer(raw, dtype, 1)[0]
            if header["sizeof_hdr"] != version.header_bytes:
                continue
            if bytes(header["magic"]) != version.magic:
                raise UnreadableScanError(
                    f"{path}: a {version.name} header without its voxels, or an Analyze file; "
                    "save header and voxels in one .nii file"
                )
            return version, header
    raise UnreadableScanError(f"{path}: no NIfTI header found; save it as NIfTI")


def _dtype(header: Any, path: Path) -> np.dtype[np.generic]:
    code = int(header["datatype"])
    check_single_channel(path, _CHANNELS.get(code, 1))
    if code in _COMPLEX:
        raise UnsupportedScanError(f"{path}: complex voxels found, HU expected; export it as CT")
    if code not in _DTYPES:
        raise UnsupportedScanError(
            f"{path}: voxel type {code} is not read; save it as 16-bit integer or 32-bit float"
        )
    dtype: np.dtype[np.generic] = np.dtype(_DTYPES[code])
    if header["bitpix"] != 8 * dtype.itemsize:
        raise UnreadableScanError(
            f"{path}: voxel type {code} has {8 * dtype.itemsize} bits, the header says "
            f"{int(header['bitpix'])}; export it again"
        )
    is_native = header.dtype["sizeof_hdr"].isnative
    return dtype if is_native else dtype.newbyteorder()


def _data_offset(header: Any, version: _Version, path: Path) -> int:
    offset = float(header["vox_offset"])
    # Some writers leave 0 where voxels follow the header at once.
    if offset == 0:
        return version.data_offset
    if not (version.header_bytes <= offset < 2**40 and offset.is_integer()):
        raise UnreadableScanError(
            f"{path}: voxels cannot begin at byte {offset:g}; export it again"
        )
    return int(offset)


def _scale(header: Any, path: Path) -> tuple[float, float]:
    """Read slope and intercept; a slope of 0 or no number means none, as the format says."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise UnsupportedScanError(
            f"{path}: intensities are scaled by {slope} and {intercept}, which are no numbers; "
            "export it again"
        )
    return slope, intercept


@np.errstate(all="ignore")  # numbers out of range are refused when the grid is made
def _place(
    header: Any, size_xyz: tuple[int, int, int], path: Path
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], tuple[str, ...]]:
    """Find steps and origin in LPS mm, and say so where the header leaves room for doubt."""
    has_sform, has_qform = header["sform_code"] > 0, header["qform_code"] > 0
    by_rows, by_turn = _sform(header), _qform(header)
    notes: list[str] = []
    if not (has_sform or has_qform):
        steps, origin = np.diag([-1.0, 1.0, 1.0]) * _pixdim(header), np.zeros(3)
        notes.append(
            "the header does not say how the scan lies; axes were taken to grow left, front, up, "
            "so left and right may be exchanged"
        )
    elif has_sform and (spans_space(by_rows[0]) or not (has_qform and by_turn)):
        steps, origin = by_rows
        if has_qform and (by_turn is None or _apart(by_rows, by_turn, size_xyz)):
            notes.append("sform and qform disagree; the sform was followed")
        elif not np.allclose(np.linalg.norm(steps, axis=0), _pixdim(header), rtol=0.01):
            notes.append("sform and pixdim disagree about the spacing; the sform was followed")
    elif by_turn is not None:
        steps, origin = by_turn
        if has_sform:
            notes.append("the sform has no right angles; the qform was followed")
    else:
        raise UnsupportedScanError(f"{path}: the qform holds no rotation; export it again")
    unit = int(header["xyzt_units"]) & _UNIT_BITS
    mm = _MM_PER_UNIT.get(unit, 1.0)
    return _RAS_TO_LPS @ steps * mm, _RAS_TO_LPS @ origin * mm, tuple(notes)


_Steps = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _pixdim(header: Any) -> npt.NDArray[np.float64]:
    return np.abs(np.asarray(header["pixdim"][1:4], np.float64))


def _sform(header: Any) -> _Steps:
    rows = np.asarray(header["srow"], np.float64)
    return rows[:, :3], rows[:, 3]


def _qform(header: Any) -> _Steps | None:
    """Turn the header's quaternion into steps in RAS; None if it is no rotation."""
    b, c, d = np.asarray(header["quatern"], np.float64).tolist()
    length = b * b + c * c + d * d
    if not length <= 1.001:  # written so that NaN fails too
        return None
    if length > 1:
        b, c, d = (value / np.sqrt(length) for value in (b, c, d))
    a = np.sqrt(max(0.0, 1 - length))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    spacing = _pixdim(header)
    if header["pixdim"][0] < 0:  # the third axis grows the other way
        spacing = spacing * (1, 1, -1)
    return turn * spacing, np.asarray(header["qoffset"], np.float64)


def _apart(one: _Steps, other: _Steps, size_xyz: tuple[int, int, int]) -> bool:
    """Tell whether two places of a grid differ by more than half a voxel at its far corner."""
    (steps, origin), (other_steps, other_origin) = one, other
    apart = np.abs(steps - other_steps) @ (np.asarray(size_xyz) - 1.0)
    least = np.linalg.norm(steps, axis=0).min() / 2
    return not bool((apart + np.abs(origin - other_origin) <= least).all())


def _header_for(
    dtype: np.dtype[Any], scan_header: bytes, path: Path
) -> tuple[bytes, np.dtype[Any]]:
    """Turn a scan's header into that of voxels of a type on the same grid, and what follows it.

    Gives the type in the header's byte order, too.
    """
    version, scan = _parse(scan_header, path)
    raw = bytearray(scan_header)
    header = np.frombuffer(raw, scan.dtype)  # what is set here is set in `raw`
    header["dim"] = (3, *scan["dim"][1:4], 1, 1, 1, 1)
    header["datatype"], header["bitpix"] = _CODES[dtype], 8 * dtype.itemsize
    header["vox_offset"] = version.data_offset
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_range"], header["intent_p"], header["intent_code"] = 0, 0, 0
    header["intent_name"] = header["aux_file"] = b""
    if version is _VERSIONS[0]:
        raw[140:148] = bytes(8)  # greatest and least value, which NIfTI-2 dropped
    return bytes(raw) + bytes(version.data_offset - version.header_bytes), _dtype(header[0], path)
