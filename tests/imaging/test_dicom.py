"""DICOM series: read right, or refused with what is wrong with them."""

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
from pydicom import uid
from scipy.spatial.transform import Rotation

from app.errors import UnreadableScanError, UnsupportedScanError
from app.imaging import dicom_pixels
from app.imaging.dicom import find_series
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
    with pytest.raises(UnreadableScanError, match="no readable DICOM"):
        peek(tmp_path / "ct")


@pytest.mark.parametrize("encoding", [uid.RLELossless, uid.JPEG2000Lossless])
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
