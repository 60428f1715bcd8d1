"""Compressed frames are found whatever fragments they come in, and in one pass over the file."""

import cProfile
import pstats
import struct

import numpy as np
import pydicom
import pytest
from dicom_files import enhanced_dataset, save, series_datasets
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from app.errors import UnreadableScanError
from app.imaging.dicom import stack_slices
from app.imaging.dicom_frames import MAX_FRAGMENTS_PER_FRAME, find_frames, read_frame
from app.imaging.dicom_series import series_of
from app.imaging.io import read_scan

SPACING_MM = (3.0, 2.0, 1.5)
START = 100
EMPTY = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"


def scan_of(num_slices):
    hu = np.random.default_rng(7).integers(-1000, 900, (num_slices, 40, 36))
    return hu.astype(np.int16)


def written(tmp_path, pixels):
    path = tmp_path / "pixels"
    path.write_bytes(bytes(START) + pixels)
    return path


def frames_in(path, num_frames):
    places = find_frames(path, START, num_frames)
    with path.open("rb") as file:
        return [read_frame(file, path, place) for place in places]


@pytest.mark.parametrize("has_table", [True, False])
@pytest.mark.parametrize("fragments_per_frame", [1, 3])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_frames_are_those_that_were_packed(tmp_path, num_frames, fragments_per_frame, has_table):
    rng = np.random.default_rng(num_frames)
    packed = [
        bytes(rng.integers(0, 200, 40 + 2 * index, np.uint8)) + b"\xff\xd9"
        for index in range(num_frames)
    ]
    pixels = encapsulate(packed, fragments_per_frame=fragments_per_frame, has_bot=has_table)
    path = written(tmp_path, pixels)
    assert frames_in(path, num_frames) == list(generate_frames(pixels, number_of_frames=num_frames))
    found = zip(frames_in(path, num_frames), packed, strict=True)
    assert all(frame.startswith(one) for frame, one in found)


@pytest.mark.parametrize("encoding", [uid.JPEG2000Lossless, uid.RLELossless])
def test_enhanced_file_is_read_with_and_without_a_table_of_its_frames(tmp_path, encoding):
    scan = scan_of(6)
    dataset = enhanced_dataset(scan, SPACING_MM, order=[3, 0, 5, 1, 4, 2])
    (path,) = save(tmp_path / "ct", [dataset], compress=encoding)
    assert np.array_equal(read_scan(path)[0].array, scan)
    packed = pydicom.dcmread(path)
    frames = generate_frames(packed.PixelData, number_of_frames=6)
    packed.PixelData = encapsulate(list(frames), has_bot=False)
    packed.save_as(path)
    assert np.array_equal(read_scan(path)[0].array, scan)


def reads_of(path, num_frames):
    """Count the calls that read a file while all of its frames are fetched."""
    profile = cProfile.Profile()
    with profile:
        frames = frames_in(path, num_frames)
    assert len(frames) == num_frames
    calls = pstats.Stats(profile).stats.items()
    return sum(count for (_, _, name), (count, *_) in calls if "'read' of" in name)


@pytest.mark.parametrize("has_table", [True, False])
def test_work_grows_with_the_number_of_fragments_and_not_with_its_square(tmp_path, has_table):
    counts = []
    for num_frames in (30, 60):
        frames = [bytes(38) + b"\xff\xd9" for _ in range(num_frames)]
        pixels = encapsulate(frames, fragments_per_frame=10, has_bot=has_table)
        counts.append(reads_of(written(tmp_path, pixels), num_frames))
    assert counts[0] > 30
    assert counts[1] < 2.1 * counts[0]  # four times as many, were each frame looked for anew


@pytest.mark.parametrize("has_table", [True, False])
@pytest.mark.parametrize("num_frames", [1, 2])
def test_file_of_very_many_fragments_is_refused_before_they_are_gone_through(
    tmp_path, num_frames, has_table
):
    table = struct.pack(
        f"<HHI{num_frames}I", 0xFFFE, 0xE000, 4 * num_frames, *range(0, 8 * num_frames, 8)
    )
    pixels = (table if has_table else EMPTY) + 5000 * EMPTY
    path = written(tmp_path, pixels)
    profile = cProfile.Profile()
    with profile, pytest.raises(UnreadableScanError, match="pixels: more than 1000 pieces a slice"):
        frames_in(path, num_frames)
    calls = pstats.Stats(profile).stats.items()
    num_reads = sum(count for (_, _, name), (count, *_) in calls if "'read' of" in name)
    assert num_reads < 2.1 * MAX_FRAGMENTS_PER_FRAME


def test_scan_of_very_many_fragments_is_refused_by_name(tmp_path):
    datasets = series_datasets(scan_of(4), SPACING_MM)
    paths = save(tmp_path / "ct", datasets, compress=uid.RLELossless)
    hostile = pydicom.dcmread(paths[1])
    hostile.PixelData = EMPTY + 1500 * EMPTY
    hostile.save_as(paths[1])
    with pytest.raises(UnreadableScanError, match=f"{paths[1].name}: more than 1000 pieces"):
        read_scan(tmp_path / "ct")
    assert len(stack_slices(series_of(tmp_path / "ct")).slices) == 4


@pytest.mark.parametrize(
    "pixels",
    [
        b"",
        EMPTY,
        EMPTY + EMPTY,  # one fragment for two frames
        b"\xfe\xff\x00\xe0\x0c\x00\x00\x00" + bytes(12) + EMPTY,  # a table of three frames
        b"\xfe\xff\x00\xe0\x08\x00\x00\x00" + struct.pack("<II", 8, 0) + 3 * EMPTY,  # falling
        EMPTY + b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
        EMPTY + b"something else at all",
    ],
)
def test_what_cannot_be_frames_is_an_error(tmp_path, pixels):
    with pytest.raises((ValueError, struct.error)):
        frames_in(written(tmp_path, pixels), 2)


def test_frame_larger_than_any_encoding_makes_is_refused_unread(tmp_path):
    (path,) = save(
        tmp_path / "ct", [enhanced_dataset(scan_of(3), SPACING_MM)], compress=uid.RLELossless
    )
    dataset = pydicom.dcmread(path)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=3))
    frames[1] = frames[1].ljust((1 << 20) + 8000, b"\0")  # not too much for three
    dataset.PixelData = encapsulate(frames)
    dataset.save_as(path)
    with pytest.raises(UnreadableScanError, match="where 5760 at most are promised"):
        read_scan(path)
