"""Files that lie about their size, and streams that were made to harm."""

import gzip
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from app.errors import UnreadableScanError
from app.imaging.geometry import Geometry
from app.imaging.layout import Layout
from app.imaging.voxels import Inflated, Oddities, read_voxels, to_int16

SHAPE = (3, 4, 5)
VOXELS = np.arange(60, dtype="<i2")


def layout(path, *, shape=SHAPE, dtype="<i2", **options):
    geometry = Geometry(shape=shape, spacing_mm=(3.0, 2.0, 1.5))
    return Layout(path=path, geometry=geometry, dtype=np.dtype(dtype), **options)


def peak_bytes(action):
    """Measure what Python and numpy allocate at most while something is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableScanError) as refused:
            action()
        return tracemalloc.get_traced_memory()[1], str(refused.value)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compressed", [False, True])
def test_file_too_small_for_its_header_is_refused_before_memory_is_taken(tmp_path, compressed):
    path = tmp_path / "voxels"
    path.write_bytes(gzip.compress(VOXELS.tobytes()) if compressed else VOXELS.tobytes())
    lying = layout(path, shape=(2000, 4000, 4000), compressed=compressed)
    peak, message = peak_bytes(lambda: read_voxels(lying))
    assert peak < 1 << 20
    assert "cut short" in message
    assert "64000000000 bytes are promised" in message


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_bomb_is_read_no_farther_than_its_header_says(tmp_path, pack):
    path = tmp_path / "voxels"
    path.write_bytes(pack(VOXELS.tobytes() + bytes(200 << 20)))
    peak, message = peak_bytes(lambda: read_voxels(layout(path, compressed=True)))
    assert peak < 8 << 20
    assert "far more than its header promises" in message


def test_little_padding_behind_the_voxels_does_no_harm(tmp_path):
    path = tmp_path / "voxels"
    path.write_bytes(gzip.compress(VOXELS.tobytes() + bytes(4096)))
    voxels, _ = read_voxels(layout(path, compressed=True))
    assert np.array_equal(voxels.ravel(), VOXELS)


def test_stream_may_pause_in_the_middle_of_a_voxel(tmp_path):
    path = tmp_path / "voxels"
    content = VOXELS.tobytes()
    path.write_bytes(gzip.compress(content[:33]) + gzip.compress(content[33:]))
    voxels, _ = read_voxels(layout(path, compressed=True))
    assert np.array_equal(voxels.ravel(), VOXELS)


@pytest.mark.parametrize("num_bytes", [1, 20, 60])
def test_stream_cut_short_is_refused(tmp_path, num_bytes):
    path = tmp_path / "voxels"
    path.write_bytes(gzip.compress(VOXELS.tobytes())[:-num_bytes])
    with pytest.raises(UnreadableScanError, match="voxels"):
        read_voxels(layout(path, compressed=True))


def test_start_and_skip_are_passed_over(tmp_path):
    path = tmp_path / "voxels"
    path.write_bytes(b"header" + gzip.compress(b"more" + VOXELS.tobytes()))
    voxels, _ = read_voxels(layout(path, compressed=True, start=6, skip=4))
    assert np.array_equal(voxels.ravel(), VOXELS)


def test_many_empty_members_take_time_that_grows_with_their_number_alone():
    member = gzip.compress(b"")

    class Counting(io.BytesIO):
        num_read = 0

        def read(self, size=-1):
            found = super().read(size)
            self.num_read += len(found)
            return found

    content = 50_000 * member + gzip.compress(b"end")
    file = Counting(content)
    stream = Inflated(file)
    tracemalloc.start()
    try:
        assert stream.read(100) == b"end"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file.num_read <= len(content)
    assert peak < 4 << 20  # at most one piece of the file is held
    assert stream.read(100) == b""


def test_stream_in_many_blocks_is_not_held_whole(tmp_path):
    blocks = np.random.default_rng(0).integers(-999, 999, (400, 1 << 15)).astype("<i2")
    path = tmp_path / "voxels"  # 25 MiB that pack badly, in members as bgzip makes them
    path.write_bytes(b"".join(gzip.compress(block.tobytes(), 1) for block in blocks))
    tracemalloc.start()
    try:
        voxels, _ = read_voxels(layout(path, shape=(400, 128, 256), compressed=True))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(voxels.ravel(), blocks.ravel())
    assert peak - voxels.nbytes < 8 << 20


@pytest.mark.parametrize("num_bytes", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, (1 << 20) + 9])
def test_member_may_begin_where_a_piece_of_the_file_ends(num_bytes):
    first = gzip.compress(np.random.default_rng(0).bytes(1 << 19), 0)
    # Stored members as long as wanted, so that the next one begins around 1 MiB.
    rest = num_bytes - len(first)
    size = 2 * rest - len(gzip.compress(bytes(rest), 0))
    filler = gzip.compress(bytes(size), 0)
    assert len(filler) == rest
    stream = Inflated(io.BytesIO(first + filler + gzip.compress(b"end")))
    assert b"".join(iter(lambda: stream.read(1 << 20), b"")).endswith(b"end")


def with_checked_header(content, extra):
    """Compress into a gzip member that holds further fields and a checksum of its header."""
    packed = gzip.compress(content)
    fields = 4 | 2  # FEXTRA, FHCRC
    header = packed[:3] + bytes([fields]) + packed[4:10] + struct.pack("<H", len(extra)) + extra
    return header + struct.pack("<H", zlib.crc32(header) & 0xFFFF) + packed[10:]


@pytest.mark.parametrize("num_before", [0, (1 << 20) - 1, (1 << 20) - 7])
@pytest.mark.parametrize("num_extra", [6, 5000, 65535])
def test_header_with_a_checksum_may_come_in_parts(num_before, num_extra):
    stored = gzip.compress(bytes(num_before), 0)
    before = gzip.compress(bytes(2 * num_before - len(stored)), 0) if num_before else b""
    assert len(before) == num_before
    member = with_checked_header(b"all", bytes(num_extra))
    stream = Inflated(io.BytesIO(before + 3 * member))
    assert b"".join(iter(lambda: stream.read(1 << 20), b"")).endswith(3 * b"all")


def test_damaged_checksum_of_a_header_is_refused(tmp_path):
    path = tmp_path / "voxels"
    member = bytearray(with_checked_header(VOXELS.tobytes(), b"dictzip"))
    member[12] ^= 1  # in the further field
    path.write_bytes(member)
    with pytest.raises(UnreadableScanError, match="damaged or cut short"):
        read_voxels(layout(path, compressed=True))


def test_what_follows_the_last_member_is_passed_over():
    stream = Inflated(io.BytesIO(gzip.compress(b"all") + bytes(5000)))
    assert b"".join(iter(lambda: stream.read(2), b"")) == b"all"


@given(content=st.binary(max_size=3000), level=st.integers(0, 9), pieces=st.integers(1, 4))
def test_inflating_undoes_deflating(content, level, pieces):
    cuts = np.linspace(0, len(content), pieces + 1).astype(int)
    parts = [content[start:stop] for start, stop in zip(cuts[:-1], cuts[1:], strict=True)]
    stream = Inflated(io.BytesIO(b"".join(gzip.compress(part, level) for part in parts)))
    assert b"".join(iter(lambda: stream.read(7), b"")) == content


DTYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">u2", ">f4"]


@given(
    stored=st.sampled_from(DTYPES).flatmap(lambda dtype: arrays.arrays(dtype, 8)),
    slope=st.sampled_from([1.0, 2.0, 0.5, -1.0]),
    intercept=st.sampled_from([0.0, -1024.0, 0.25, 1e300]),
)
@example(stored=np.array([-(2**40) + 32766], np.int64), slope=1.0, intercept=1e300)
def test_scaling_agrees_with_arithmetic_without_limits(stored, slope, intercept):
    oddities = Oddities()
    converted = to_int16(stored, slope, intercept, oddities)
    with np.errstate(all="ignore"):
        exact = np.rint(stored.astype(np.longdouble) * slope + intercept).astype(float)
    is_number = np.isfinite(exact)
    expected = np.where(is_number, np.clip(exact, -32768, 32767), -1024)
    # Doubles cannot tell numbers next to each other where 64 bits are all used.
    assert np.array_equal(converted, expected)
    assert oddities.num_not_finite == np.count_nonzero(~is_number)
    assert oddities.num_clipped == np.count_nonzero(is_number & (np.abs(exact + 0.5) > 32768))
