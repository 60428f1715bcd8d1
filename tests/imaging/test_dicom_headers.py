"""Headers of DICOM files: no memory for what they promise, and none of what is no scan is lost."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
from dicom_files import enhanced_dataset, save, series_datasets, slice_dataset
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from app.cascade.memory import SLICE_HEADER_BYTES
from app.errors import UnreadableScanError
from app.imaging import dicom_header
from app.imaging.io import peek, read_scan

SHAPE = (5, 36, 40)
SPACING_MM = (3.0, 2.0, 1.5)
ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"
FRAMES, CONTOURS = b"\x00\x52\x30\x92SQ\0\0", b"\x06\x30\x39\x00SQ\0\0"


def hu():
    return np.random.default_rng(3).integers(-1000, 900, SHAPE).astype(np.int16)


def list_items(path, tag, num_items):
    """Replace what a sequence holds by empty items that end where a mark says so."""
    content = path.read_bytes()
    place = content.index(tag) + len(tag)
    (length,) = struct.unpack("<I", content[place : place + 4])
    items = b"\xff\xff\xff\xff" + num_items * ITEM + b"\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(content[:place] + items + content[place + 4 + length :])


def refusal_of(folder, finding):
    """Give the most memory that is taken until a folder is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableScanError, match=finding):
            peek(folder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_header_of_very_many_items_is_refused_before_each_becomes_an_object(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_header, "MAX_HEADER_ITEMS", 200)
    (path,) = save(tmp_path / "ct", [enhanced_dataset(hu(), SPACING_MM)])
    assert peek(tmp_path / "ct").geometry.shape == SHAPE
    list_items(path, FRAMES, num_items=2000)
    finding = "IM0000: its header lists more than 200 items"
    assert refusal_of(tmp_path / "ct", finding) < 1 << 20  # 1.3 KiB an item would be 2.6 MiB


def test_value_as_long_as_a_scan_is_refused_unread(tmp_path):
    (dataset,) = series_datasets(hu()[:1], SPACING_MM)
    dataset.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
    (path,) = save(tmp_path / "ct", [dataset])
    content = path.read_bytes()
    place = content.index(b"\x08\x00\x08\x00") + 4  # ImageType
    path.write_bytes(content[:place] + struct.pack("<I", 1 << 30))
    os.truncate(path, 1 << 31)  # takes no room on the disk
    assert refusal_of(tmp_path / "ct", "IM0000: its header takes more than 8 MiB") < 1 << 20


def test_what_is_skipped_may_be_long(tmp_path):
    (dataset,) = series_datasets(hu()[:1], SPACING_MM)
    dataset.private_block(0x0009, "a vendor", create=True).add_new(1, "OB", bytes(9 << 20))
    save(tmp_path / "ct", [dataset])
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, hu()[:1])


def test_long_contours_beside_a_scan_are_no_damaged_slice(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_header, "MAX_HEADER_ITEMS", 200)
    contours = slice_dataset(
        hu()[0], (0, 0, 0), SPACING_MM, series=2, Modality="RTSTRUCT", PixelData=None
    )
    contours.SOPClassUID = uid.RTStructureSetStorage
    contours.ROIContourSequence = Sequence([Dataset()])
    (path,) = save(tmp_path / "ct", [contours], prefix="RS")
    list_items(path, CONTOURS, num_items=300)
    save(tmp_path / "ct", series_datasets(hu(), SPACING_MM))
    scan, source = read_scan(tmp_path / "ct")
    assert np.array_equal(scan.array, hu())
    assert source.notes == ()


def test_headers_of_a_series_take_what_is_planned_for_them(tmp_path):
    few, many = (tmp_path / name for name in ("few", "many"))
    save(few, series_datasets(np.zeros((2, 4, 5), np.int16), SPACING_MM))
    save(many, series_datasets(np.zeros((40, 4, 5), np.int16), SPACING_MM))
    peek(few)  # what is loaded once is no part of it
    tracemalloc.start()
    try:
        peek(many)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.7 * SLICE_HEADER_BYTES < held / 40 < SLICE_HEADER_BYTES
