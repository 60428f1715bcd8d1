"""Label maps corrected elsewhere become DICOM SEG and Slicer segmentations."""

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series
from pydicom import DataElement, dcmread
from pydicom.config import IGNORE

from app.cli.main import main
from app.imaging.label_maps import read_label_map
from app.outputs.slicer import write_seg_nrrd

SPACING_MM = (2.5, 0.8, 1.1)
LIVER, SPLEEN, GALLBLADDER = 1, 3, 9


@pytest.fixture
def labels():
    array = np.zeros((4, 5, 6), np.uint8)
    array[1:3, 1:4, 2:5] = LIVER
    array[3, 0, 5] = SPLEEN
    return array


@pytest.fixture
def series(tmp_path):
    hu = np.zeros((4, 5, 6), np.int16)
    return write_series(tmp_path / "dicom" / "scan", hu, spacing_mm=SPACING_MM)


@pytest.fixture
def convert(tmp_path, series, capsys):
    """Give what converts `labels` with the series; it returns exit code and complaints."""

    def run(*options, source=tmp_path / "labels"):
        base = ["convert", "--labels", str(source), "--output", str(tmp_path / "out")]
        code = main([*base, "--dicom", str(tmp_path / "dicom"), *options])
        return code, capsys.readouterr().err

    (tmp_path / "labels").mkdir()
    return run


def save(path, array, series, orientation="LPS"):
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(sitk.ReadImage([str(file) for file in series]))
    sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(path))
    return path


def found_in(path, series):
    uids = [dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in series]
    return hd.seg.segread(path).get_pixels_by_source_instance(
        uids, combine_segments=True, relabel=False, assert_missing_frames_are_empty=True
    )


def test_corrected_label_map_comes_back_from_the_segmentation_and_says_who_made_it(
    tmp_path, labels, series, convert
):
    # As 3D Slicer stores what it exports.
    save(tmp_path / "labels" / "mine.nii.gz", labels.astype(np.int16), series, "RAS")
    assert convert("--formats", "dicom-seg,seg.nrrd") == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "mine.seg.dcm",
        "mine.seg.nrrd",
    }
    path = tmp_path / "out" / "mine.seg.dcm"
    assert np.array_equal(found_in(path, series), labels)
    segmentation = dcmread(path)
    assert {one.SegmentAlgorithmType for one in segmentation.SegmentSequence} == {"SEMIAUTOMATIC"}
    assert "corrected" in segmentation.ContentDescription
    assert segmentation.PatientID == "P1"


def test_value_of_the_series_that_cannot_be_repeated_is_told_once(
    tmp_path, labels, series, convert
):
    for file in series:
        image = dcmread(file)
        sex = DataElement("PatientSex", "CS", "Female", validation_mode=IGNORE)
        image["PatientSex"] = sex
        image.save_as(file)
    save(tmp_path / "labels" / "scan.nii.gz", labels, series)
    code, told = convert()
    assert code == 0
    assert told.count("PatientSex") == told.count("\n") == 1
    assert told.startswith(f"warning: {tmp_path / 'out' / 'scan.seg.dcm'}: left empty")
    assert np.array_equal(found_in(tmp_path / "out" / "scan.seg.dcm", series), labels)


@pytest.mark.parametrize(
    ("made_by", "word", "named"), [("hand", "MANUAL", False), ("network", "AUTOMATIC", True)]
)
def test_segmentation_drawn_by_hand_names_no_program(
    tmp_path, labels, series, convert, made_by, word, named
):
    save(tmp_path / "labels" / "scan.nii.gz", labels, series)
    assert convert("--made-by", made_by) == (0, "")
    segment = dcmread(tmp_path / "out" / "scan.seg.dcm").SegmentSequence[0]
    assert segment.SegmentAlgorithmType == word
    assert ("SegmentAlgorithmName" in segment) == named


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda array: np.where(array == SPLEEN, 14, array), "14 stand for no organ"),
        (lambda array: np.where(array == SPLEEN, 300, array.astype(np.int16)), "0 to 300"),
        (lambda array: array * 0.5, "whole numbers"),
        (lambda array: array[:3], "not on the grid of the DICOM series"),
        (lambda array: array * 0, "no organ in it"),
    ],
)
def test_what_is_no_label_map_of_the_series_is_refused_and_others_go_on(
    tmp_path, labels, series, convert, change, complaint
):
    array = change(labels)
    save(tmp_path / "labels" / "scan.nii.gz", array, series[: len(array)])
    save(tmp_path / "labels" / "two.nii.gz", labels, series)
    write_series(tmp_path / "dicom" / "two", np.zeros((4, 5, 6), np.int16), spacing_mm=SPACING_MM)
    code, told = convert("--formats", "seg.nrrd,dicom-seg")
    assert code == 1
    assert "scan.nii.gz" in told
    assert complaint in told
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"two.seg.nrrd", "two.seg.dcm"}


def rename_segments(path, changes):
    """Change the header of a segmentation as 3D Slicer would."""
    content = path.read_bytes()
    for old, new in changes.items():
        assert old.encode() in content
        content = content.replace(old.encode(), new.encode())
    path.write_bytes(content)


def slicer_file(folder, array, series):
    label_map = read_label_map(save(folder / "plain.nrrd", array, series))
    (folder / "plain.nrrd").unlink()
    write_seg_nrrd(label_map, folder / "scan.seg.nrrd")
    return folder / "scan.seg.nrrd"


def test_segments_of_slicer_are_organs_by_their_names_whatever_their_values(
    tmp_path, labels, series, convert
):
    path = slicer_file(tmp_path / "labels", labels, series)
    rename_segments(path, {"Segment1_Name:=Spleen": "Segment1_Name:=gallbladder"})
    assert convert() == (0, "")
    expected = np.where(labels == SPLEEN, GALLBLADDER, labels)
    assert np.array_equal(found_in(tmp_path / "out" / "scan.seg.dcm", series), expected)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"Segment1_Name:=Spleen": "Segment1_Name:=Segment_1"}, "'Segment_1' is none of"),
        ({"Segment1_LabelValue:=3": "Segment1_LabelValue:=1"}, "'Spleen' has the value '1'"),
        ({"Segment1_LabelValue:=3": "Segment1_LabelValue:=x"}, "'Spleen' has the value 'x'"),
        ({"Segment1_LabelValue:=3": "Segment1_LabelValue:=4"}, "3 stand for no organ"),
    ],
)
def test_segments_that_tell_no_organ_are_refused(
    tmp_path, labels, series, convert, changes, complaint
):
    rename_segments(slicer_file(tmp_path / "labels", labels, series), changes)
    code, told = convert()
    assert code == 1
    assert complaint in told
    assert list((tmp_path / "out").iterdir()) == []


def test_label_maps_find_their_series_by_name(tmp_path, labels, series, convert):
    write_series(
        tmp_path / "dicom" / "p" / "ct", np.zeros((4, 5, 6), np.int16), spacing_mm=(3, 2, 1)
    )
    save(tmp_path / "labels" / "scan.nii.gz", labels, series)
    save(tmp_path / "labels" / "other.nii.gz", labels, series)
    code, told = convert()
    assert code == 1
    assert "other.nii.gz: no DICOM series of this name found (but p_ct, scan)" in told
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"scan.seg.dcm"}


def test_wrong_use_is_told_before_anything_is_read(tmp_path, labels, series, convert, capsys):
    assert "no label map in it" in convert()[1]
    path = save(tmp_path / "labels" / "scan.nii.gz", labels, series)
    assert main(["convert", "--labels", str(path), "--output", str(tmp_path / "out")]) == 2
    assert "name it with --dicom" in capsys.readouterr().err
    code, told = convert("--formats", "nifti")
    assert code == 2
    assert "known are dicom-seg, seg.nrrd" in told
    slicer_file(tmp_path / "labels", labels, series)
    assert "would both become scan.seg.dcm" in convert()[1]
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_told_with_a_remedy(tmp_path, labels, series, convert):
    save(tmp_path / "labels" / "scan.nii.gz", labels, series)
    (tmp_path / "out").touch()
    code, told = convert()
    assert code == 2
    assert f"--output {tmp_path / 'out'}" in told
    assert "give a folder that" in told


def test_segmentation_that_is_read_is_not_written_over(tmp_path, labels, series, convert):
    path = slicer_file(tmp_path / "labels", labels, series)
    content = path.read_bytes()
    code, told = convert("--output", str(tmp_path / "labels"), "--formats", "seg.nrrd")
    assert code == 1
    assert "would be replaced" in told
    assert path.read_bytes() == content
