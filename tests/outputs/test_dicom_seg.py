import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_files import enhanced_dataset
from dicom_series import write_series
from pydicom import DataElement, dcmread
from pydicom.config import IGNORE
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

from app.cascade.memory import MIB, OUTPUTS_BYTES
from app.errors import InputError, UnreadableScanError, UnsupportedScanError
from app.imaging.io import peek
from app.imaging.label_maps import read_label_map
from app.labels import ORGANS
from app.outputs.dicom_seg import (
    check_series,
    read_series,
    series_geometry,
    write_dicom_seg,
)
from app.outputs.made_by import MadeBy
from app.terminology import ANATOMICAL_STRUCTURE, LEFT, RIGHT, TERMS

SPACING_MM = (2.5, 0.8, 1.1)
LIVER, RIGHT_KIDNEY, LEFT_KIDNEY = 1, 2, 13
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
TILTED = (0.96592583, 0.25881905, 0.0, -0.25881905, 0.96592583, 0.0)
ROOT = Path(__file__).resolve().parents[2]
DCIODVFY = Path(sys.executable).with_name("dciodvfy")


def labels():
    array = np.zeros((6, 20, 24), np.uint8)
    array[1:4, 3:9, 2:12] = LIVER
    array[2:5, 10:14, 15:19] = RIGHT_KIDNEY
    array[4, 15:18, 20:23] = LEFT_KIDNEY
    return array


def headers_in(folder):
    return read_series(path for path in folder.rglob("*") if path.is_file())


def label_map_of(files, array, path):
    """Write a label map on the grid that SimpleITK reads a series on."""
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(sitk.ReadImage([str(file) for file in files]))
    sitk.WriteImage(image, str(path))
    return read_label_map(path)


def frames_on(files, path):
    """Read a segmentation as a label map, slice by slice of the source's files."""
    uids = [dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files]
    return hd.seg.segread(path).get_pixels_by_source_instance(
        uids, combine_segments=True, relabel=False, assert_missing_frames_are_empty=True
    )


def errors_in(path):
    """Ask the DICOM validator of the package dicom3tools."""
    told = subprocess.run([DCIODVFY, path], capture_output=True, text=True).stderr.splitlines()
    assert "Segmentation" in told  # what it took the file for; warnings may come before
    return [line for line in told if line.startswith("Error")]


@pytest.fixture
def series(tmp_path):
    hu = np.random.default_rng(1).integers(-1000, 1000, (6, 20, 24)).astype(np.int16)
    return write_series(tmp_path / "series", hu, spacing_mm=SPACING_MM)


@pytest.mark.parametrize("orientation", [(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), CORONAL, TILTED])
def test_segmentation_read_back_equals_the_label_map_voxel_by_voxel(tmp_path, orientation):
    hu = np.zeros((6, 20, 24), np.int16)
    files = write_series(tmp_path / "series", hu, spacing_mm=SPACING_MM, orientation=orientation)
    label_map = label_map_of(files, labels(), tmp_path / "labels.nii.gz")
    write_dicom_seg(label_map, headers_in(tmp_path / "series"), tmp_path / "x.seg.dcm")
    assert np.array_equal(frames_on(files, tmp_path / "x.seg.dcm"), labels())


def test_label_map_that_lies_another_way_than_the_series_lands_on_the_right_slices(
    tmp_path, series
):
    turned = sitk.DICOMOrient(sitk.ReadImage([str(file) for file in series]), "ASR")
    straight = sitk.GetImageFromArray(labels())
    straight.CopyInformation(sitk.ReadImage([str(file) for file in series]))
    sitk.WriteImage(sitk.DICOMOrient(straight, "ASR"), str(tmp_path / "labels.nii.gz"))
    assert turned.GetSize() != straight.GetSize()
    write_dicom_seg(
        read_label_map(tmp_path / "labels.nii.gz"),
        headers_in(tmp_path / "series"),
        tmp_path / "x.seg.dcm",
    )
    assert np.array_equal(frames_on(series, tmp_path / "x.seg.dcm"), labels())


def enhanced_file(path, order, **elements):
    """Write an enhanced CT whose frames lie in some order; give its header."""
    hu = np.zeros((6, 20, 24), np.int16)
    image = enhanced_dataset(hu, SPACING_MM, order=order)
    image.PatientName, image.PatientID = "Phantom^Two", "P2"
    image.PatientBirthDate, image.PatientSex = "19700101", "O"
    image.StudyDate, image.StudyTime, image.StudyID = "20200102", "101112", "1"
    image.AccessionNumber, image.ReferringPhysicianName = "A2", ""
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = "1.2.9", ""
    for name, value in elements.items():
        setattr(image, name, value)
    path.parent.mkdir(exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return image


def test_segmentation_of_an_enhanced_series_lands_on_the_right_frames(tmp_path):
    order = [3, 0, 5, 1, 4, 2]
    source = enhanced_file(tmp_path / "series" / "all.dcm", order)
    image = sitk.GetImageFromArray(labels())
    image.SetSpacing(SPACING_MM[::-1])
    image.SetOrigin((10.0, 20.0, 30.0))
    sitk.WriteImage(image, tmp_path / "labels.nii.gz")
    path = tmp_path / "x.seg.dcm"
    label_map = read_label_map(tmp_path / "labels.nii.gz")
    write_dicom_seg(label_map, headers_in(tmp_path / "series"), path)
    found = hd.seg.segread(path)
    frames = found.get_pixels_by_source_frame(
        source.SOPInstanceUID,
        range(1, 7),
        combine_segments=True,
        relabel=False,
        assert_missing_frames_are_empty=True,
    )
    assert np.array_equal(frames, labels()[order])
    assert (found.PatientID, found.StudyInstanceUID) == ("P2", source.StudyInstanceUID)
    assert errors_in(path) == []


def test_enhanced_series_passes_the_check_before_segmenting_and_stays_as_it_is(tmp_path):
    enhanced_file(tmp_path / "series" / "all.dcm", [3, 0, 5, 1, 4, 2])
    (header,) = headers_in(tmp_path / "series")
    check_series([header], peek(tmp_path / "series"))
    assert header.NumberOfFrames == 6
    assert len(header.PerFrameFunctionalGroupsSequence) == 6


def test_enhanced_series_that_cannot_be_taken_says_why(tmp_path):
    # Segmentations of an earlier run may lie there, too: they are no images of the series.
    enhanced_file(tmp_path / "series" / "x.seg.dcm", [0, 1], SOPClassUID=SegmentationStorage)
    with pytest.raises(UnreadableScanError, match="no slice of a series"):
        headers_in(tmp_path / "series")
    enhanced_file(tmp_path / "series" / "a.dcm", [0, 1])
    bare = enhanced_file(tmp_path / "series" / "b.dcm", [2, 3])
    with pytest.raises(UnsupportedScanError, match="enhanced series of 2 files"):
        headers_in(tmp_path / "series")
    del bare.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    sitk.WriteImage(sitk.GetImageFromArray(labels()[:2]), tmp_path / "labels.nii.gz")
    with pytest.raises(InputError, match=r"lacks what .*PixelMeasuresSequence"):
        write_dicom_seg(read_label_map(tmp_path / "labels.nii.gz"), [bare], tmp_path / "x.seg.dcm")


def test_segments_carry_number_name_codes_and_side(tmp_path, series):
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    write_dicom_seg(label_map, headers_in(tmp_path / "series"), tmp_path / "x.seg.dcm")
    found = hd.seg.segread(tmp_path / "x.seg.dcm")
    assert found.number_of_segments == 13
    kidney = found.get_segment_description(LEFT_KIDNEY)
    assert kidney.segment_label == "Left kidney"
    assert kidney.segmented_property_type == codes.SCT.Kidney
    assert kidney.segmented_property_category == codes.SCT.AnatomicalStructure
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == LEFT.value
    assert kidney.SegmentAlgorithmType == "AUTOMATIC"


def test_segmentation_belongs_to_the_patient_study_and_space_of_its_source(tmp_path, series):
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    write_dicom_seg(label_map, headers_in(tmp_path / "series"), tmp_path / "x.seg.dcm")
    found, source = dcmread(tmp_path / "x.seg.dcm"), dcmread(series[0])
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert found[name].value == source[name].value
    assert found.SeriesInstanceUID != source.SeriesInstanceUID
    (referenced,) = found.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    uids = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert uids == {dcmread(file).SOPInstanceUID for file in series}


@pytest.mark.parametrize(
    ("character_set", "patient"),
    [
        # An empty first value, which is what the standard has for letters of ASCII.
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "王^小东"),
        ("ISO_IR 6", "Doe^Jane"),  # no defined term, but written by many
        ("", "Doe^Jane"),
    ],
)
def test_segmentation_names_its_patient_in_the_letters_of_its_source(
    tmp_path, series, character_set, patient
):
    for file in series:
        image = dcmread(file)
        image.SpecificCharacterSet, image.PatientName = character_set, patient
        image.save_as(file)
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    headers = headers_in(tmp_path / "series")
    check_series(headers, peek(tmp_path / "series"))
    write_dicom_seg(label_map, headers, tmp_path / "x.seg.dcm")
    found, source = dcmread(tmp_path / "x.seg.dcm"), dcmread(series[0])
    assert found.PatientName == source.PatientName == patient
    assert found.SpecificCharacterSet == source.SpecificCharacterSet


@pytest.mark.parametrize("made_by", MadeBy)
def test_segmentation_passes_the_dicom_validator(tmp_path, series, made_by):
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    headers = headers_in(tmp_path / "series")
    write_dicom_seg(label_map, headers, tmp_path / "x.seg.dcm", made_by=made_by)
    assert errors_in(tmp_path / "x.seg.dcm") == []


def test_codes_are_those_of_the_standards_context_groups():
    for organ in ORGANS:
        term = TERMS[organ.value]
        known = getattr(codes.cid7192, term.organ.meaning.title().replace(" ", ""))
        assert (known.value, known.scheme_designator) == (term.organ.value, "SCT")
        assert known.meaning == term.organ.meaning
        assert (term.side is not None) == organ.name.startswith(("left_", "right_"))
        assert term.label.lower().replace(" ", "_") == organ.name
    assert (codes.cid244.Left.value, codes.cid244.Right.value) == (LEFT.value, RIGHT.value)
    assert codes.cid7150.AnatomicalStructure.value == ANATOMICAL_STRUCTURE.value


def test_geometry_of_a_series_is_that_of_the_reading_library(tmp_path):
    files = write_series(
        tmp_path / "series",
        np.zeros((4, 5, 6), np.int16),
        spacing_mm=SPACING_MM,
        orientation=TILTED,
    )
    geometry = series_geometry(headers_in(tmp_path / "series"))
    image = sitk.ReadImage([str(file) for file in files])
    assert geometry.shape == image.GetSize()[::-1]
    assert geometry.spacing_mm == pytest.approx(image.GetSpacing()[::-1])
    assert geometry.origin_mm == pytest.approx(image.GetOrigin()[::-1])
    direction_xyz = np.reshape(image.GetDirection(), (3, 3))
    assert np.asarray(geometry.direction)[::-1, ::-1] == pytest.approx(direction_xyz, abs=1e-6)


def test_a_label_map_on_another_grid_is_refused(tmp_path, series):
    label_map = label_map_of(series[:-1], labels()[:-1], tmp_path / "labels.nii.gz")
    with pytest.raises(InputError, match=r"labels\.nii\.gz.*5, 20, 24.*not \(6, 20, 24\)"):
        write_dicom_seg(label_map, headers_in(tmp_path / "series"), tmp_path / "x.seg.dcm")
    assert not (tmp_path / "x.seg.dcm").exists()


def test_an_empty_label_map_is_refused(tmp_path, series):
    label_map = label_map_of(series, 0 * labels(), tmp_path / "labels.nii.gz")
    with pytest.raises(InputError, match="no organ"):
        write_dicom_seg(label_map, headers_in(tmp_path / "series"), tmp_path / "x.seg.dcm")


def test_two_series_in_a_folder_are_refused_and_other_files_passed_over(tmp_path, series):
    (tmp_path / "series" / "notes.txt").write_text("no image")
    assert len(headers_in(tmp_path / "series")) == 6
    write_series(tmp_path / "series" / "b", np.zeros((2, 3, 4), np.int16), spacing_mm=SPACING_MM)
    with pytest.raises(UnsupportedScanError, match="2 series"):
        headers_in(tmp_path / "series")
    shutil.rmtree(tmp_path / "series")
    (tmp_path / "series").mkdir()
    with pytest.raises(UnreadableScanError, match="no slice of a series"):
        headers_in(tmp_path / "series")


@pytest.mark.realdata
def test_real_scan_as_a_series_gives_a_valid_segmentation_equal_to_its_labels(tmp_path):
    path = ROOT / ".." / "shared" / "data" / "ct" / "torso_3mm_0000.nii.gz"
    if not path.exists():
        pytest.skip(f"no real scan at {path}")
    scan, labels = (
        sitk.DICOMOrient(sitk.ReadImage(path.with_name(name)), "LPS")[:, :, 60:84]
        for name in (path.name, "torso_3mm_labels.nii.gz")
    )
    files = write_series(
        tmp_path / "series",
        sitk.GetArrayFromImage(scan),
        spacing_mm=scan.GetSpacing()[::-1],
        origin_xyz=scan.GetOrigin(),
    )
    # Stored as archives of NIfTI files often are: x to the right, y to the front.
    sitk.WriteImage(sitk.DICOMOrient(labels, "RAS"), tmp_path / "labels.nii.gz")
    label_map = read_label_map(tmp_path / "labels.nii.gz")
    write_dicom_seg(label_map, headers_in(tmp_path / "series"), tmp_path / "x.seg.dcm")
    assert errors_in(tmp_path / "x.seg.dcm") == []
    found = frames_on(files, tmp_path / "x.seg.dcm")
    assert np.unique(found).size == 10  # nine organs cross these slices
    assert np.array_equal(found, sitk.GetArrayFromImage(labels))


def test_same_label_map_and_series_give_the_same_bytes(tmp_path, series):
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    write_dicom_seg(label_map, read_series(series), tmp_path / "a.seg.dcm")
    write_dicom_seg(label_map, read_series(reversed(series)), tmp_path / "b.seg.dcm")
    assert (tmp_path / "a.seg.dcm").read_bytes() == (tmp_path / "b.seg.dcm").read_bytes()
    assert errors_in(tmp_path / "a.seg.dcm") == []
    found = dcmread(tmp_path / "a.seg.dcm")
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID
    assert (found.ContentDate, found.ContentTime) == ("20200102", "101112")  # of the series
    assert "InstanceCreationDate" not in found


def test_another_content_is_another_object(tmp_path, series):
    array = labels()
    found = []
    for patient in ("Phantom^One", "Phantom^Two"):
        for value in (0, LIVER):
            array[0, 0, 0] = value
            headers = read_series(series)
            for header in headers:
                header.PatientName = patient
            label_map = label_map_of(series, array, tmp_path / "labels.nii.gz")
            write_dicom_seg(label_map, headers, tmp_path / "x.seg.dcm")
            found.append(dcmread(tmp_path / "x.seg.dcm"))
    assert len({one.SOPInstanceUID for one in found}) == 4
    assert len({one.SeriesInstanceUID for one in found}) == 4


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ({"ContentDate": "", "AcquisitionDate": "20210304", "AcquisitionTime": "10"}, "20210304"),
        ({"ContentDate": "nonsense", "StudyDate": "2021.03.04"}, "20210304"),
        ({"ContentDate": "", "StudyDate": ""}, "19000101"),
    ],
)
def test_date_is_that_of_the_series_as_far_as_it_has_one(tmp_path, series, dates, expected):
    headers = read_series(series)
    for header in headers:
        for name, value in dates.items():
            vr = "TM" if "Time" in name else "DA"
            header[name] = DataElement(name, vr, value, validation_mode=IGNORE)
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    write_dicom_seg(label_map, headers, tmp_path / "x.seg.dcm")
    assert dcmread(tmp_path / "x.seg.dcm").ContentDate == expected


@pytest.mark.parametrize(
    ("name", "vr", "value"),
    [
        ("PatientSex", "CS", "Female"),
        ("PatientSex", "CS", "f"),
        ("PatientSex", "CS", ["M", "F"]),
        ("PatientBirthDate", "DA", "1970-01-01"),
        ("PatientBirthDate", "DA", "00000000"),
        ("StudyDate", "DA", "unknown"),
        ("StudyTime", "TM", "10:11:12"),
        ("PatientName", "PN", ["Phantom^One", "Phantom^Two"]),
    ],
)
def test_value_that_no_segmentation_may_repeat_is_left_empty_and_told(
    tmp_path, series, name, vr, value
):
    headers = read_series(series)
    headers[0][name] = DataElement(name, vr, value, validation_mode=IGNORE)
    check_series(headers, peek(tmp_path / "series"))
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    (told,) = write_dicom_seg(label_map, headers, tmp_path / "x.seg.dcm")
    assert f"x.seg.dcm: left empty, as the DICOM series has no valid value of {name}" in told
    found = dcmread(tmp_path / "x.seg.dcm")
    assert not found[name].value
    assert (found.PatientID, found.AccessionNumber) == ("P1", "A1")
    assert headers[0][name].value == value  # the series stays as it is
    assert errors_in(tmp_path / "x.seg.dcm") == []


@pytest.mark.parametrize("absent", [
    ("PatientID",), ("PatientName", "PatientBirthDate", "PatientSex"),
    ("PatientID", "PatientName", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
])  # fmt: skip
def test_what_an_anonymized_series_leaves_out_is_empty(tmp_path, series, absent):
    headers = read_series(series)
    for header in headers:
        for name in absent:
            del header[name]
    check_series(headers, peek(tmp_path / "series"))
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    assert write_dicom_seg(label_map, headers, tmp_path / "x.seg.dcm") == []
    found = dcmread(tmp_path / "x.seg.dcm")
    assert not any(found[name].value for name in absent)
    assert found.StudyInstanceUID == headers[0].StudyInstanceUID
    assert errors_in(tmp_path / "x.seg.dcm") == []
    assert not any(name in headers[0] for name in absent)  # the series stays as it is


@pytest.mark.parametrize("name", ["ANON-1234", "Phantom^One"])
def test_a_patient_name_is_repeated_and_told_to_nobody(tmp_path, series, name, caplog):
    headers = read_series(series)
    headers[0].PatientName = name
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_dicom_seg(label_map, headers, tmp_path / "x.seg.dcm")
    assert dcmread(tmp_path / "x.seg.dcm").PatientName == name
    assert not any(name in str(warning.message) for warning in caught)
    assert name not in caplog.text


def test_values_that_are_only_longer_than_they_may_be_are_repeated(tmp_path, series, monkeypatch):
    # Whoever reads them back need not be warned.
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", IGNORE)
    headers = read_series(series)
    number = "one of an archive that numbers longer"
    headers[0]["AccessionNumber"] = DataElement(
        "AccessionNumber", "SH", number, validation_mode=IGNORE
    )
    label_map = label_map_of(series, labels(), tmp_path / "labels.nii.gz")
    assert write_dicom_seg(label_map, headers, tmp_path / "x.seg.dcm") == []
    assert dcmread(tmp_path / "x.seg.dcm").AccessionNumber == number


GROWTH_OF_A_SEGMENTATION = """
import sys
import warnings
from pathlib import Path
from app.cascade.memory import MIB, process_peak, reset_process_peak
from app.outputs.formats import write_formats

reset_process_peak()
before = process_peak()
write_formats(Path(sys.argv[1]), "a", ["dicom-seg"], Path(sys.argv[2]).iterdir())
print((process_peak() - before) / MIB)
"""


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not reset peaks"
)
def test_memory_is_what_outputs_are_planned_with(tmp_path):
    shape = (30, 512, 512)  # every organ in every slice, which takes the most
    array = np.broadcast_to(np.arange(512, dtype=np.uint8) // 40, shape).copy()
    files = write_series(tmp_path / "series", np.zeros(shape, np.int16), spacing_mm=SPACING_MM)
    label_map_of(files, array, tmp_path / "a.nii.gz")
    command = [sys.executable, "-c", GROWTH_OF_A_SEGMENTATION]
    finished = subprocess.run(
        [*command, str(tmp_path / "a.nii.gz"), str(tmp_path / "series")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert (tmp_path / "a.seg.dcm").stat().st_size > 1_000_000
    assert 0 < float(finished.stdout) * MIB < OUTPUTS_BYTES + 3 * array.size
