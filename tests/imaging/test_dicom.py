"""DICOM series: read right, or refused with what is wrong with them."""

import io
import os
import struct
import subprocess
import sys
import tempfile
import tracemalloc

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import (
    OFFSET,
    enhanced_dataset,
    save,
    series_datasets,
    slice_dataset,
    write_series,
)
from full_disk import room_for
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from scipy.spatial.transform import Rotation

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging import dicom_pixels
from app.imaging.dicom import stack_slices
from app.imaging.dicom_pixels import read_pixels
from app.imaging.dicom_series import find_series, series_of
from app.imaging.io import peek, read_scan, write_label_map

SHAPE = (5, 36, 40)
SPACING_MM = (3.0, 2.0, 1.5)


def hu():
    return np.random.default_rng(3).integers(-1000, 900, SHAPE).astype(np.int16)


def cosines_of(rotation):
    return tuple(float(value) for value in rotation.as_matrix()[:, :2].T.ravel())


def test_series_is_read_in_the_order_in_which_slices_lie(tmp_path):
    paths = write_series(tmp_path / "ct", hu(), SPACING_MM)
    scan, source = read_scan(tmp_path / "ct")
    assert np.array_equal(scan.array, hu())
    assert scan.geometry.spacing_mm == SPACING_MM
    assert scan.geometry.origin_mm == (30, 20, 10)
    assert source.notes == ()
    assert source.header.slice_files == tuple(paths)


def test_series_is_named_by_its_uids_and_by_no_other_text(tmp_path):
    named = {"FrameOfReferenceUID": "Doe^Jane", "StudyInstanceUID": "1.2.840.1"}
    write_series(tmp_path / "ct", hu(), SPACING_MM, uid="1.2.840.2", **named)
    found = peek(tmp_path / "ct").dicom_uids
    assert found == {"StudyInstanceUID": "1.2.840.1", "SeriesInstanceUID": "1.2.840.2"}


def test_series_lies_where_the_image_library_puts_it(tmp_path):
    turn = Rotation.from_euler("xyz", [10, -20, 30], degrees=True)
    write_series(tmp_path / "ct", hu(), SPACING_MM, cosines=cosines_of(turn))
    geometry = peek(tmp_path / "ct").geometry
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    image = reader.Execute()
    assert geometry.origin_mm[::-1] == pytest.approx(image.GetOrigin())
    assert geometry.spacing_mm[::-1] == pytest.approx(image.GetSpacing())
    direction_xyz = np.asarray(geometry.direction)[::-1, ::-1]
    assert direction_xyz.ravel() == pytest.approx(np.array(image.GetDirection()), abs=1e-6)


@pytest.mark.parametrize(
    ("cosines", "flips"),
    [
        ((1, 0, 0, 0, 1, 0), (1, 1, 1)),  # head first, supine
        ((-1, 0, 0, 0, -1, 0), (1, -1, -1)),  # head first, prone
        ((-1, 0, 0, 0, 1, 0), (-1, 1, -1)),  # feet first, supine
        ((1, 0, 0, 0, -1, 0), (-1, -1, 1)),  # feet first, prone
    ],
)
def test_patient_may_lie_any_way(tmp_path, cosines, flips):
    z, y, x = flips
    write_series(tmp_path / "ct", hu()[::z, ::y, ::x], SPACING_MM, cosines=cosines)
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, hu())


def test_coronal_series_is_turned(tmp_path):
    stored = np.transpose(hu()[::-1], (1, 0, 2))  # rows from the head down, slices to the back
    datasets = series_datasets(stored, (2.0, 3.0, 1.5), cosines=(1, 0, 0, 0, 0, -1))
    save(tmp_path / "ct", datasets)
    scan, _ = read_scan(tmp_path / "ct")
    assert np.array_equal(scan.array, hu())
    assert scan.geometry.spacing_mm == SPACING_MM


@pytest.mark.parametrize(
    "encoding",
    [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless],
    ids=lambda encoding: encoding.keyword,
)
def test_compressed_pixels_are_decoded(tmp_path, encoding):
    write_series(tmp_path / "ct", hu(), SPACING_MM, compress=encoding)
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, hu())


def test_lossless_jpeg_is_decoded(tmp_path):
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.SetFileName(str(tmp_path / "packed.dcm"))
    writer.Execute(sitk.GetImageFromArray(hu()[0]))
    packed = pydicom.dcmread(tmp_path / "packed.dcm")
    assert packed.file_meta.TransferSyntaxUID == uid.JPEGLosslessSV1
    dataset = slice_dataset(hu()[0], (0, 0, 0), SPACING_MM, RescaleIntercept=0)
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        dataset[name] = packed[name]
    dataset.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    save(tmp_path / "ct", [dataset])
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, hu()[:1])


def jpeg_of(shown):
    packed = io.BytesIO()
    Image.fromarray(shown).save(packed, "JPEG", quality=95)
    return packed.getvalue()


def save_jpeg(folder, stream):
    """Write a lossy JPEG of 8 bits as a series of one slice, HU being 100 less."""
    dataset = slice_dataset(hu()[0], (0, 0, 0), SPACING_MM, RescaleIntercept=-100)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    save(folder, [dataset])


def test_lossy_jpeg_is_decoded(tmp_path):
    y, x = np.mgrid[:36, :40]
    shown = (3 * y + 2 * x + 20).astype(np.uint8)
    save_jpeg(tmp_path / "ct", jpeg_of(shown))
    (plane,) = read_scan(tmp_path / "ct")[0].array
    assert np.abs(plane - (shown.astype(int) - 100)).max() <= 4


@pytest.mark.parametrize("damage", ["cut short, and ended", "a hole"])
def test_jpeg_that_is_decoded_in_part_alone_is_refused(tmp_path, damage):
    stream = jpeg_of(np.random.default_rng(4).integers(0, 255, (36, 40)).astype(np.uint8))
    half = len(stream) // 2
    rest = b"\xff\xd9" if damage.startswith("cut") else bytes(100) + stream[half + 100 :]
    save_jpeg(tmp_path / "ct", stream[:half] + rest)
    with pytest.raises(UnreadableScanError, match="cannot be decoded; copy the file again"):
        read_scan(tmp_path / "ct")


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_other_uncompressed_encodings_are_read(tmp_path, syntax):
    datasets = series_datasets(hu(), SPACING_MM)
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = syntax
        if syntax == uid.ExplicitVRBigEndian:
            stored = np.frombuffer(dataset.PixelData, "<u2")
            dataset.PixelData = stored.astype(">u2").tobytes()
    save(tmp_path / "ct", datasets)
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, hu())


@pytest.mark.parametrize("encoding", [None, uid.JPEG2000Lossless])
def test_enhanced_file_is_read_whatever_the_order_of_its_frames(tmp_path, encoding):
    dataset = enhanced_dataset(hu(), SPACING_MM, order=[3, 1, 0, 2, 4])
    (path,) = save(tmp_path / "ct", [dataset], compress=encoding)
    scan, source = read_scan(path)
    assert np.array_equal(scan.array, hu())
    assert source.header.slice_files == (path,) * 5


def test_signed_pixels_and_scale_give_hu(tmp_path):
    stored = (hu() // 2).astype(np.int16)
    datasets = series_datasets(hu(), SPACING_MM, PixelRepresentation=1, RescaleSlope=2)
    for dataset, plane in zip(datasets, stored, strict=True):
        dataset.RescaleIntercept = 1
        dataset.PixelData = (plane & 0x0FFF).astype(np.uint16).tobytes()  # 12 bits of 16
    save(tmp_path / "ct", datasets)
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, stored * 2 + 1)


def test_overlay_in_the_bits_that_do_not_count_is_ignored(tmp_path):
    datasets = series_datasets(hu(), SPACING_MM)
    for dataset in datasets:
        stored = np.frombuffer(dataset.PixelData, "<u2") | 0xF000
        dataset.PixelData = stored.tobytes()
    save(tmp_path / "ct", datasets)
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, hu())


def test_monochrome1_is_taken_as_it_is_and_told(tmp_path):
    write_series(tmp_path / "ct", hu(), SPACING_MM, PhotometricInterpretation="MONOCHROME1")
    scan, source = read_scan(tmp_path / "ct")
    assert np.array_equal(scan.array, hu())
    assert "MONOCHROME1" in source.notes[0]


def test_missing_intercept_is_told(tmp_path):
    write_series(tmp_path / "ct", hu(), SPACING_MM, RescaleIntercept=None)
    scan, source = read_scan(tmp_path / "ct")
    assert np.array_equal(scan.array, hu() + OFFSET)
    assert source.notes == ("no rescale intercept; the numbers were taken for HU",)


@pytest.mark.parametrize("name", ["RescaleIntercept", "RescaleSlope"])
def test_empty_element_counts_as_missing(tmp_path, name):
    datasets = series_datasets(hu(), SPACING_MM)
    for dataset in datasets:
        dataset[name].value = None
    save(tmp_path / "ct", datasets)
    scan, source = read_scan(tmp_path / "ct")
    is_intercept = name == "RescaleIntercept"
    assert np.array_equal(scan.array, hu() + OFFSET * is_intercept)
    told = ("no rescale intercept; the numbers were taken for HU",)
    assert source.notes == (told if is_intercept else ())


def test_missing_intercept_of_an_enhanced_file_is_told(tmp_path):
    dataset = enhanced_dataset(hu(), SPACING_MM)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    del shared.PixelValueTransformationSequence[0].RescaleIntercept
    save(tmp_path / "ct", [dataset])
    _, source = read_scan(tmp_path / "ct")
    assert source.notes == ("no rescale intercept; the numbers were taken for HU",)


@pytest.mark.parametrize("rescale_type", ["HU", "US", "", "hu "])
def test_numbers_that_are_hu_or_may_be_are_read(tmp_path, rescale_type):
    write_series(tmp_path / "ct", hu(), SPACING_MM, RescaleType=rescale_type)
    scan, source = read_scan(tmp_path / "ct")
    assert np.array_equal(scan.array, hu())
    assert source.notes == ()


def test_changed_hu_are_read_and_told(tmp_path):
    write_series(tmp_path / "ct", hu(), SPACING_MM, RescaleType="HU_MOD")
    scan, source = read_scan(tmp_path / "ct")
    assert np.array_equal(scan.array, hu())
    (note,) = source.notes
    assert note == "the header calls the numbers 'HU_MOD', not HU; they were taken for HU"


@pytest.mark.parametrize("rescale_type", ["MGML", "Z_EFF", "ED", "PCT", "100ug/cc"])
def test_images_of_iodine_and_the_like_are_refused(tmp_path, rescale_type):
    write_series(tmp_path / "ct", hu(), SPACING_MM, RescaleType=rescale_type)
    message = f"rescale type '{rescale_type.upper()}', 'HU' expected; give a CT series"
    with pytest.raises(UnsupportedScanError, match=message):
        peek(tmp_path / "ct")


def test_enhanced_images_of_iodine_are_refused(tmp_path):
    dataset = enhanced_dataset(hu(), SPACING_MM)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelValueTransformationSequence[0].RescaleType = "MGML"
    (path,) = save(tmp_path / "ct", [dataset])
    with pytest.raises(UnsupportedScanError, match=f"{path.name}: rescale type 'MGML'"):
        peek(tmp_path / "ct")


def test_slice_that_is_there_twice_counts_once(tmp_path):
    write_series(tmp_path / "ct", hu(), SPACING_MM)
    save(tmp_path / "ct", series_datasets(hu(), SPACING_MM)[2:4], prefix="COPY")
    scan, source = read_scan(tmp_path / "ct")
    assert np.array_equal(scan.array, hu())
    assert source.notes == ("2 slice(s) were there twice",)


def test_two_scans_in_one_series_are_refused(tmp_path):
    write_series(tmp_path / "ct", hu(), SPACING_MM)
    save(tmp_path / "ct", series_datasets(hu() + 1, SPACING_MM), prefix="LATER")
    with pytest.raises(UnsupportedScanError, match="shows something else.*folder of its own"):
        read_scan(tmp_path / "ct")


def test_missing_slice_is_refused_and_its_neighbors_named(tmp_path):
    datasets = series_datasets(hu(), SPACING_MM)
    del datasets[2]
    paths = save(tmp_path / "ct", datasets)
    message = rf"1 slice\(s\) missing \(1 between {paths[1].name} and {paths[2].name}\)"
    with pytest.raises(UnsupportedScanError, match=message):
        peek(tmp_path / "ct")


def test_uneven_distances_are_refused(tmp_path):
    datasets = series_datasets(hu(), SPACING_MM)
    datasets[4].ImagePositionPatient = [10, 20, 43.4]  # 42 would be even
    save(tmp_path / "ct", datasets)
    with pytest.raises(UnsupportedScanError, match=r"3\.00 to 4\.40 mm apart"):
        peek(tmp_path / "ct")


def test_rounded_positions_are_even_enough(tmp_path):
    datasets = series_datasets(hu(), (1.25, 2.0, 1.5))
    for dataset in datasets:
        dataset.ImagePositionPatient[2] = round(float(dataset.ImagePositionPatient[2]), 1)
    save(tmp_path / "ct", datasets)
    assert peek(tmp_path / "ct").geometry.spacing_mm == pytest.approx((1.25, 2, 1.5), abs=0.02)


def at_heights(heights):
    datasets = series_datasets(np.concatenate([hu()] * 9)[: len(heights)], SPACING_MM)
    for dataset, height in zip(datasets, heights, strict=True):
        dataset.ImagePositionPatient[2] = height
    return datasets


def test_distances_that_differ_by_a_few_percent_are_read_and_told(tmp_path):
    heights = np.cumsum([1.0] * 20 + [1.05] * 20)
    save(tmp_path / "ct", at_heights(heights))
    scan, source = read_scan(tmp_path / "ct")
    assert scan.geometry.spacing_mm[0] == pytest.approx((19 + 20 * 1.05) / 39)
    (note,) = source.notes
    assert note.startswith("slices lie 1.00 to 1.05 mm apart; 1.026 mm was taken for all, so that")
    assert "up to 0.5 mm from where" in note


@pytest.mark.parametrize("later", [1.08, 1.4])
def test_distances_that_differ_by_more_are_refused_and_nothing_is_called_missing(tmp_path, later):
    save(tmp_path / "ct", at_heights(np.cumsum([1.0] * 20 + [later] * 20)))
    message = rf"slices lie 1\.00 to {later:.2f} mm apart; export or resample"
    with pytest.raises(UnsupportedScanError, match=message):
        peek(tmp_path / "ct")


def test_slice_next_to_another_is_uneven_and_not_missing(tmp_path):
    save(tmp_path / "ct", at_heights([0, 1, 1.03, 2, 3, 4]))
    with pytest.raises(UnsupportedScanError, match=r"slices lie 0\.03 to 1\.00 mm apart"):
        peek(tmp_path / "ct")


def test_tilted_gantry_is_refused_with_its_angle(tmp_path):
    turn = Rotation.from_euler("x", 15, degrees=True)
    datasets = series_datasets(hu(), SPACING_MM, cosines=cosines_of(turn))
    for index, dataset in enumerate(datasets):
        dataset.ImagePositionPatient = [10, 20, 30 + 3 * index]  # the table moves along z
    save(tmp_path / "ct", datasets)
    with pytest.raises(UnsupportedScanError, match=r"tilted by 15\.0 degrees.*dcm2niix"):
        peek(tmp_path / "ct")


def test_slice_shifted_sideways_is_refused(tmp_path):
    datasets = series_datasets(hu(), SPACING_MM)
    datasets[2].ImagePositionPatient[0] += 7
    paths = save(tmp_path / "ct", datasets)
    with pytest.raises(UnsupportedScanError, match=rf"{paths[2].name}: is shifted .* 7\.0 mm"):
        peek(tmp_path / "ct")


def test_single_slice_is_read_and_told(tmp_path):
    write_series(tmp_path / "ct", hu()[:1], SPACING_MM)
    scan, source = read_scan(tmp_path / "ct")
    assert scan.geometry.spacing_mm == SPACING_MM
    assert source.notes == ("the series is a single slice",)


def test_frames_of_which_nobody_knows_where_they_lie_are_refused(tmp_path):
    (dataset,) = series_datasets(hu()[:1], SPACING_MM, NumberOfFrames=len(hu()))
    dataset.PixelData = hu().tobytes()
    save(tmp_path, [dataset])
    with pytest.raises(UnsupportedScanError, match=r"IM0000.* frames found.*one file a slice"):
        peek(tmp_path)


@pytest.mark.parametrize(
    "name", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"]
)
def test_missing_element_is_refused_by_name(tmp_path, name):
    write_series(tmp_path / "ct", hu(), SPACING_MM, **{name: None})
    with pytest.raises(UnsupportedScanError, match=f"{name} is missing"):
        peek(tmp_path / "ct")


@pytest.mark.parametrize(
    ("elements", "finding"),
    [
        ({"Modality": "MR"}, "modality 'MR', 'CT' expected"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, "Secondary Capture"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "color images"),
        ({"HighBit": 15}, "12 of 16 bits"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 of 32 bits"),
        ({"Columns": 41}, "cut short"),
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels"),
        ({"PixelSpacing": [0, 2]}, "must be positive"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "right angles"),
    ],
)
def test_what_is_no_ct_series_is_refused_with_its_reason(tmp_path, elements, finding):
    write_series(tmp_path / "ct", hu(), SPACING_MM, **elements)
    with pytest.raises((UnsupportedScanError, UnreadableScanError), match=finding) as refused:
        read_scan(tmp_path / "ct")
    assert str(tmp_path / "ct") in str(refused.value)


def test_slices_of_different_size_are_refused(tmp_path):
    datasets = series_datasets(hu(), SPACING_MM)[:3]
    datasets += series_datasets(hu()[:, :30], SPACING_MM)[3:]
    save(tmp_path / "ct", datasets)
    with pytest.raises(UnsupportedScanError, match="differs in size"):
        peek(tmp_path / "ct")


def test_truncated_slice_is_refused(tmp_path):
    paths = write_series(tmp_path / "ct", hu(), SPACING_MM)
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(UnreadableScanError, match=paths[1].name):
        read_scan(tmp_path / "ct")


def test_damaged_header_of_an_outer_slice_is_told(tmp_path):
    paths = write_series(tmp_path / "ct", hu(), SPACING_MM)
    paths[-1].write_bytes(paths[-1].read_bytes()[:150] + bytes(50))
    scan, source = read_scan(tmp_path / "ct")
    assert np.array_equal(scan.array, hu()[:-1])
    assert source.notes == ("1 DICOM file(s) of the folder are damaged and left out",)


def test_deflated_files_are_refused_before_they_are_inflated(tmp_path):
    datasets = series_datasets(hu(), SPACING_MM)
    for dataset in datasets:
        dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    save(tmp_path / "ct", datasets)
    assert find_series(tmp_path / "ct") == []
    message = "IM0000: deflated DICOM is not read; export it with another transfer syntax"
    with pytest.raises(UnreadableScanError, match=message):
        peek(tmp_path / "ct")


@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.MPEG4HP41])
def test_pixels_packed_in_an_unknown_way_are_refused(tmp_path, syntax):
    datasets = series_datasets(hu(), SPACING_MM)
    for dataset in datasets:
        dataset.compress(uid.RLELossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = syntax
    save(tmp_path / "ct", datasets)
    with pytest.raises(UnsupportedScanError, match="not read; export the series uncompressed"):
        read_scan(tmp_path / "ct")


def test_damaged_header_of_an_inner_slice_leaves_a_hole(tmp_path):
    paths = write_series(tmp_path / "ct", hu(), SPACING_MM)
    paths[2].write_bytes(paths[2].read_bytes()[:150] + bytes(50))
    with pytest.raises(UnsupportedScanError, match=r"1 slice\(s\) missing"):
        peek(tmp_path / "ct")


@pytest.mark.parametrize("encoding", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_damaged_stream_never_brings_the_program_down(tmp_path, encoding):
    paths = write_series(tmp_path / "ct", hu(), SPACING_MM, compress=encoding)
    path = paths[0]
    content = path.read_bytes()
    path.write_bytes(content[:-1500] + bytes(1500))
    with pytest.raises(UnreadableScanError, match=path.name):
        read_scan(tmp_path / "ct")


def test_slice_without_any_compressed_byte_is_refused(tmp_path):
    paths = write_series(tmp_path / "ct", hu(), SPACING_MM, compress=uid.JPEG2000Lossless)
    dataset = pydicom.dcmread(paths[0])
    empty_item = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    dataset.PixelData = 2 * empty_item  # no offsets, and nothing where the slice should be
    dataset.save_as(paths[0])
    with pytest.raises(UnreadableScanError, match=f"{paths[0].name}: its compressed pixels"):
        read_scan(tmp_path / "ct")


def test_image_type_that_is_a_number_says_nothing_about_the_image(tmp_path):
    datasets = series_datasets(hu(), SPACING_MM)
    for dataset in datasets:
        dataset.add_new("ImageType", "IS", 7)
    save(tmp_path / "ct", datasets)
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, hu())


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Give an empty folder for temporary files, of this process and those it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_decoder_leaves_no_pixels_behind(tmp_path, temporary):
    write_series(tmp_path / "ct", hu(), SPACING_MM, compress=uid.JPEG2000Lossless)
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, hu())
    assert list(temporary.rglob("*")) == []


def test_slice_lies_in_a_file_only_while_it_is_decoded(tmp_path, temporary):
    write_series(tmp_path / "ct", hu(), SPACING_MM, compress=uid.JPEG2000Lossless)
    stack = stack_slices(series_of(tmp_path / "ct"))
    places = [(piece.path, piece.frame, piece.pixels) for piece in stack.slices]
    for _ in read_pixels(places):
        assert [path for path in temporary.rglob("*") if path.is_file()] == []
    assert list(temporary.rglob("*")) == []


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "time.sleep(600)", "sys.exit(1)"])
def test_decoder_that_fails_leaves_no_pixels_behind(tmp_path, temporary, monkeypatch, end):
    (tmp_path / "failing.py").write_text(
        "import os, sys, tempfile, time\n"
        "from pathlib import Path\n"
        "folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()\n"
        f"(Path(folder) / 'slice.dcm').write_text('pixels')\n{end}\n"
    )
    monkeypatch.setattr(dicom_pixels, "DECODER", tmp_path / "failing.py")
    monkeypatch.setattr(dicom_pixels, "SECONDS_PER_SLICE", 1.0)
    write_series(tmp_path / "ct", hu(), SPACING_MM, compress=uid.RLELossless)
    with pytest.raises(UnreadableScanError, match="cannot be decoded"):
        read_scan(tmp_path / "ct")
    assert list(temporary.rglob("*")) == []


def test_system_without_a_folder_for_temporary_files_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    write_series(tmp_path / "ct", hu(), SPACING_MM, compress=uid.RLELossless)
    told = r"IM.*: .* folder for temporary files .* \(No such file or directory\); .* TMPDIR"
    with pytest.raises(UnreadableScanError, match=told):
        read_scan(tmp_path / "ct")


def test_folder_for_temporary_files_without_room_is_told_with_a_remedy(tmp_path, temporary):
    write_series(tmp_path / "ct", hu(), SPACING_MM, compress=uid.RLELossless)
    told = rf"IM.*: .* do not fit into {temporary} \(File too large\); .* TMPDIR"
    with room_for(50), pytest.raises(UnreadableScanError, match=told):
        read_scan(tmp_path / "ct")
    assert list(temporary.rglob("*")) == []


def test_decoder_that_does_not_end_by_itself_is_killed(tmp_path, temporary, monkeypatch):
    decoder = dicom_pixels.DECODER.read_text()
    (tmp_path / "lingering.py").write_text(decoder + "    import time; time.sleep(600)\n")
    monkeypatch.setattr(dicom_pixels, "DECODER", tmp_path / "lingering.py")
    monkeypatch.setattr(dicom_pixels, "SECONDS_TO_END", 0.1)
    write_series(tmp_path / "ct", hu(), SPACING_MM, compress=uid.RLELossless)
    assert np.array_equal(read_scan(tmp_path / "ct")[0].array, hu())
    assert list(temporary.rglob("*")) == []


def test_files_without_preamble_are_not_taken_for_dicom(tmp_path):
    paths = write_series(tmp_path / "ct", hu(), SPACING_MM)
    for path in paths:
        path.write_bytes(path.read_bytes()[132:])
    assert find_series(tmp_path / "ct") == []
    with pytest.raises(UnreadableScanError, match="no readable DICOM image; .* export it again"):
        peek(tmp_path / "ct")
    with pytest.raises(UnsupportedScanError, match="file type not known"):
        peek(paths[0])


def peak_bytes(action):
    """Measure what Python and numpy allocate at most."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", [None, uid.JPEG2000Lossless])
def test_enhanced_file_is_not_held_beside_its_voxels(tmp_path, encoding):
    scan = np.random.default_rng(3).integers(-1000, 900, (60, 256, 256)).astype(np.int16)
    (path,) = save(tmp_path / "ct", [enhanced_dataset(scan, SPACING_MM)], compress=encoding)
    peek(path)  # what is loaded once is no part of it
    peak = peak_bytes(lambda: read_scan(path))
    assert peak - scan.nbytes < 4 << 20
    assert scan.nbytes > 7 << 20


def test_large_slice_grows_to_wide_numbers_piece_by_piece(tmp_path):
    scan = np.random.default_rng(3).integers(-1000, 900, (1, 2048, 2048)).astype(np.int16)
    write_series(tmp_path / "ct", scan, SPACING_MM)
    peek(tmp_path / "ct")
    found = []
    peak = peak_bytes(lambda: found.append(read_scan(tmp_path / "ct")[0].array))
    assert np.array_equal(found[0], scan)
    assert peak < 9 * scan.nbytes


@pytest.mark.parametrize(
    ("syntax", "encoding"),
    [
        (uid.ExplicitVRLittleEndian, None),
        (uid.ImplicitVRLittleEndian, None),
        (uid.ExplicitVRLittleEndian, uid.RLELossless),
    ],
)
def test_slice_with_far_more_pixels_than_its_size_says_is_refused_unread(
    tmp_path, encoding, syntax
):
    (dataset,) = series_datasets(hu()[:1, :16, :16], SPACING_MM)
    dataset.file_meta.TransferSyntaxUID = syntax
    (path,) = save(tmp_path / "ct", [dataset], compress=encoding)
    content = path.read_bytes()
    start = content.rindex(b"\xe0\x7f\x10\x00")
    length = struct.pack("<I", 0xFFFFFFFE)
    if encoding is not None:  # in the first fragment, behind the element's header and its table
        start += 12 + 8 + 4
    else:
        start += 4 if syntax == uid.ImplicitVRLittleEndian else 8
    path.write_bytes(content[:start] + length if encoding is None else content)
    if encoding is not None:
        fragment = content.index(b"\xfe\xff\x00\xe0", start)
        path.write_bytes(content[: fragment + 4] + length)
    os.truncate(path, 1 << 32)  # takes no room on the disk
    peek(path)

    def read():
        with pytest.raises(UnreadableScanError, match=f"{path.name}: .* bytes of pixels found"):
            read_scan(path)

    assert peak_bytes(read) < 4 << 20


def test_compressed_pixels_under_the_name_of_uncompressed_ones_are_refused(tmp_path):
    paths = write_series(tmp_path / "ct", hu(), SPACING_MM, compress=uid.RLELossless)
    content = paths[0].read_bytes()
    syntaxes = [str(one).encode() for one in (uid.RLELossless, uid.ExplicitVRLittleEndian)]
    paths[0].write_bytes(content.replace(*syntaxes, 1))
    with pytest.raises(UnreadableScanError, match=f"{paths[0].name}: compressed pixels found"):
        read_scan(tmp_path / "ct")


def test_decoder_that_hangs_is_ended(tmp_path, monkeypatch):
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(dicom_pixels, "DECODER", tmp_path / "sleeper.py")
    monkeypatch.setattr(dicom_pixels, "SECONDS_PER_SLICE", 0.2)
    write_series(tmp_path / "ct", hu(), SPACING_MM, compress=uid.RLELossless)
    with pytest.raises(UnreadableScanError, match="cannot be decoded"):
        read_scan(tmp_path / "ct")


def test_several_series_in_a_folder_are_told_apart(tmp_path):
    write_series(tmp_path / "ct", hu(), SPACING_MM)
    later = save(tmp_path / "ct", series_datasets(hu() // 2, SPACING_MM, series=4), prefix="LATER")
    with pytest.raises(UnsupportedScanError, match="2 CT series found"):
        peek(tmp_path / "ct")
    assert np.array_equal(read_scan(later[3])[0].array, hu() // 2)


def test_headers_that_are_held_beside_those_of_the_slices_are_counted(tmp_path):
    (first, *_) = write_series(tmp_path / "ct", hu(), SPACING_MM)
    assert peek(first).num_other_headers == 0
    save(tmp_path / "ct", series_datasets(hu()[:3], SPACING_MM, series=4), prefix="LATER")
    assert peek(first).num_other_headers == 3


def test_changed_folder_is_looked_at_again(tmp_path):
    datasets = series_datasets(hu(), SPACING_MM)
    save(tmp_path / "ct", datasets[:4])
    assert peek(tmp_path / "ct").geometry.shape[0] == 4
    save(tmp_path / "ct", datasets[4:], prefix="LAST")
    assert peek(tmp_path / "ct").geometry.shape[0] == 5


def test_label_map_of_a_series_lies_on_its_grid(tmp_path):
    turn = Rotation.from_euler("xyz", [5, -4, 3], degrees=True)
    write_series(tmp_path / "ct", hu(), SPACING_MM, cosines=cosines_of(turn))
    scan, source = read_scan(tmp_path / "ct")
    write_label_map((scan.array > 0).astype(np.uint8), source, tmp_path / "labels.nii.gz")
    labels, labels_source = read_scan(tmp_path / "labels.nii.gz")
    assert np.array_equal(labels.array, hu() > 0)
    ours, theirs = labels_source.geometry, source.geometry
    assert ours.origin_mm == pytest.approx(theirs.origin_mm, abs=1e-4)
    assert np.asarray(ours.direction) == pytest.approx(np.asarray(theirs.direction), abs=1e-6)


def test_what_reads_dicom_leaves_native_decoders_to_a_process_of_their_own():
    loaded = "import sys, app.imaging.dicom; sys.exit('SimpleITK' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False).returncode == 0
