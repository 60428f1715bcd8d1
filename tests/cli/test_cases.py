"""Which scans a folder holds, and what they are called."""

import json
import os

import numpy as np
import pydicom
import pytest
from dicom_files import save, series_datasets, write_series
from pydicom import uid
from pydicom.filebase import DicomFileLike

from app.cli.cases import find_cases, printable
from app.cli.main import main
from app.errors import UnsupportedScanError, UsageError
from app.imaging.io import read_scan

SPACING_MM = (3.0, 2.0, 1.5)


def hu(num_slices=4):
    return np.random.default_rng(3).integers(-1000, 900, (num_slices, 36, 40)).astype(np.int16)


def names(source):
    return [case.name for case in find_cases(source, source / "labels")]


def test_folder_that_is_a_series_is_one_case_of_its_name(tmp_path):
    write_series(tmp_path / "patient7", hu(), SPACING_MM)
    (case,) = find_cases(tmp_path / "patient7", tmp_path / "labels")
    assert case.name == "patient7"
    assert case.label_path == tmp_path / "labels" / "patient7.nii.gz"
    assert case.num_bytes > hu().nbytes


def test_files_and_series_of_a_folder_and_below_are_found(tmp_path):
    (tmp_path / "a_0000.nii.gz").touch()
    write_series(tmp_path / "p1" / "study" / "ct", hu(), SPACING_MM)
    write_series(tmp_path / "p2", hu(), SPACING_MM)
    (tmp_path / "p2" / "notes.txt").write_text("not a scan")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "empty").mkdir()
    assert names(tmp_path) == ["a", "p1_study_ct", "p2"]


def test_each_ct_series_of_a_folder_is_a_case(tmp_path):
    folder = tmp_path / "p1"
    write_series(folder, hu(), SPACING_MM, series=2)
    save(folder, series_datasets(hu() // 2, SPACING_MM, series=5), prefix="B")
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    save(folder, series_datasets(hu(1), SPACING_MM, series=1, **scout), prefix="C")
    report = {"SOPClassUID": uid.XRayRadiationDoseSRStorage, "Modality": "SR"}
    save(folder, series_datasets(hu(1), SPACING_MM, series=999, **report), prefix="D")
    cases = find_cases(tmp_path, tmp_path / "labels")
    assert [case.name for case in cases] == ["p1_series2", "p1_series5"]
    arrays = [read_scan(case.scan_path)[0].array for case in cases]
    assert np.array_equal(arrays[0], hu())
    assert np.array_equal(arrays[1], hu() // 2)


def test_series_in_several_folders_is_told_with_each_of_its_parts(tmp_path, body, stand_in_weights):
    slices = series_datasets(body[0], body[2], uid="1.2.3.9")
    save(tmp_path / "scans" / "a" / "first", slices[:20])
    save(tmp_path / "scans" / "a" / "second", slices[20:])
    write_series(tmp_path / "scans" / "b", body[0], body[2], uid="1.2.3.10")
    output = tmp_path / "labels"
    arguments = ["predict", "--input", str(tmp_path / "scans"), "--output", str(output)]
    assert main([*arguments, "--threads", "1", "--weights", str(stand_in_weights)]) == 0
    told = {
        case["name"]: [one for one in case["warnings"] if "files of the same DICOM series" in one]
        for case in json.loads((output / "run.json").read_text())["cases"]
    }
    assert "became a_second: " in told["a_first"][0]
    assert "became a_first: " in told["a_second"][0]
    assert told["b"] == []


def test_what_was_left_out_is_logged_with_its_reason(tmp_path, caplog):
    write_series(tmp_path / "p1" / "ct", hu(), SPACING_MM)
    write_series(tmp_path / "p1" / "pet", hu(), SPACING_MM, Modality="PT")
    assert names(tmp_path) == ["p1_ct"]
    assert "modality 'PT', 'CT' expected" in caplog.text


def test_folder_without_any_ct_series_fails_with_the_reason_and_not_in_silence(tmp_path):
    write_series(tmp_path / "p1", hu(), SPACING_MM)
    write_series(tmp_path / "p2" / "mr", hu(), SPACING_MM, Modality="MR")
    cases = find_cases(tmp_path, tmp_path / "labels")
    assert [case.name for case in cases] == ["p1", "p2_mr"]
    with pytest.raises(UnsupportedScanError, match="modality 'MR'"):
        read_scan(cases[1].scan_path)


def test_name_is_never_empty_so_that_no_label_map_is_hidden(tmp_path):
    (tmp_path / "_0000.nii.gz").touch()
    (tmp_path / "b_0000.nii").touch()
    cases = find_cases(tmp_path, tmp_path / "labels")
    assert [case.label_path.name for case in cases] == ["_0000.nii.gz", "b.nii.gz"]


def test_directory_file_is_no_series(tmp_path):
    write_series(tmp_path / "p1", hu(), SPACING_MM)
    (path,) = write_series(tmp_path, hu(1), SPACING_MM)
    path.rename(tmp_path / "DICOMDIR")
    assert names(tmp_path) == ["p1"]


def test_links_to_folders_below_are_not_followed(tmp_path):
    write_series(tmp_path / "secret", hu(), SPACING_MM)
    write_series(tmp_path / "in" / "p1" / "ct", hu(), SPACING_MM)
    (tmp_path / "in" / "p1" / "loop").symlink_to(tmp_path / "in")
    assert names(tmp_path / "in") == ["p1_ct"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plain é 肝", "plain é 肝"),
        ("two\nlines", r"two\nlines"),
        ("\x1b[31mred", r"\x1b[31mred"),
        (os.fsdecode(b"\xff"), r"\udcff"),
    ],
)
def test_what_is_printed_holds_no_control_codes(text, told):
    assert printable(text) == told


ODD_NAMES = [
    b"new\nline_0000.nii.gz",
    "肝臟 é.nii.gz".encode(),
    b"\xff\xfe.nii.gz",
    b"a...nii.gz",
    b"-rf $(touch owned);.nii.gz",
    b"x" * 248 + b".nii.gz",
]


def test_odd_names_of_files_neither_stop_a_batch_nor_leave_the_output_folder(
    tmp_path, body, stand_in_weights, capsys
):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(body[0])
    image.SetSpacing(body[2][::-1])
    sitk.WriteImage(image, tmp_path / "good.nii.gz")
    scans, output = tmp_path / "scans", tmp_path / "deep" / "labels"
    scans.mkdir()
    for name in ODD_NAMES:
        path = os.path.join(os.fsencode(scans), name)  # noqa: PTH118  bytes that are no text
        with open(path, "wb") as file:  # noqa: PTH123
            file.write((tmp_path / "good.nii.gz").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    arguments = ["predict", "--input", str(scans), "--output", str(output), "--threads", "1"]
    assert main([*arguments, "--precision", "f32", "--weights", str(stand_in_weights)]) == 0
    appeared = {path for path in tmp_path.rglob("*") if path not in before}
    assert {path.parent for path in appeared} == {tmp_path, tmp_path / "deep", output}
    tables = {"run.json", "labels.json", "labels.ctbl"}
    written = {path.name for path in output.iterdir()}
    assert tables < written
    assert len(written - tables) == len(ODD_NAMES)
    # A line for the batch, one for each scan, one that says where to look.
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(ODD_NAMES) + 1
    assert len(json.loads((output / "run.json").read_text())["cases"]) == len(ODD_NAMES)
    assert not (tmp_path / "owned").exists()


def test_label_map_replaces_a_link_and_never_what_it_points_to(tmp_path, body, stand_in_weights):
    import SimpleITK as sitk

    (tmp_path / "scans").mkdir()
    image = sitk.GetImageFromArray(body[0])
    image.SetSpacing(body[2][::-1])
    sitk.WriteImage(image, tmp_path / "scans" / "a.nii.gz")
    (tmp_path / "labels").mkdir()
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "labels" / "a.nii.gz").symlink_to(tmp_path / "precious")
    arguments = ["predict", "--input", str(tmp_path / "scans"), "--threads", "1"]
    arguments += ["--output", str(tmp_path / "labels"), "--weights", str(stand_in_weights)]
    assert main([*arguments, "--precision", "f32"]) == 0
    assert (tmp_path / "precious").read_text() == "keep me"
    assert not (tmp_path / "labels" / "a.nii.gz").is_symlink()


def left_out(source, caplog, output=None):
    """Give the names of the cases, and what is told of each path that is passed over."""
    found = [case.name for case in find_cases(source, output or source / "labels")]
    lines = [record.getMessage() for record in caplog.records]
    return found, [line.removeprefix(f"{source}/") for line in lines]


@pytest.mark.parametrize(
    ("name", "finding", "remedy"),
    [
        ("p1/ct.nii.gz", "taken from the input folder itself", "move it there"),
        ("p1/study/ct.mha", "taken from the input folder itself", "move it there"),
        ("ct.img", "in two files", "save it as .nii.gz"),
        ("p1/ct.hdr", "in two files", "save it as .nii.gz"),
        ("p1.zip", "an archive", "unpack it"),
        ("p1/series.tar.gz", "an archive", "unpack it"),
        ("brain.mgz", "not read", "save it as .nii.gz"),
    ],
)
def test_path_that_is_passed_over_is_told_with_what_to_do(tmp_path, caplog, name, finding, remedy):
    (tmp_path / "a.nii.gz").touch()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"x" * 400)
    cases, (line,) = left_out(tmp_path, caplog)
    assert cases == ["a"]
    assert line.startswith(f"{name}: left out: ")
    assert finding in line
    assert remedy in line


def test_pair_of_header_and_voxels_is_told_once(tmp_path, caplog):
    for name in ("a.nii.gz", "old.hdr", "old.img"):
        (tmp_path / name).touch()
    _, (line,) = left_out(tmp_path, caplog)
    assert line.startswith("old.hdr: left out: ")


def test_files_that_hold_no_scan_are_passed_over_in_silence(tmp_path, caplog):
    (tmp_path / "p1").mkdir()
    for name in ("a.mhd", "a.raw", "notes.txt", "p1/report.pdf", ".hidden.nii.gz"):
        (tmp_path / name).touch()
    assert left_out(tmp_path, caplog) == (["a"], [])


def test_label_maps_of_an_earlier_run_are_not_told(tmp_path, caplog):
    (tmp_path / "a.nii.gz").touch()
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.nii.gz").touch()
    assert left_out(tmp_path, caplog) == (["a"], [])


@pytest.mark.parametrize("output", ["labels", "results/labels"])
def test_segmentations_of_an_earlier_run_are_no_case(tmp_path, caplog, output):
    write_series(tmp_path / "p1", hu(), SPACING_MM)
    seg = {"SOPClassUID": uid.SegmentationStorage, "Modality": "SEG"}
    save(tmp_path / output, series_datasets(hu(1), SPACING_MM, series=300, **seg))
    assert [case.name for case in find_cases(tmp_path, tmp_path / output)] == ["p1"]
    assert caplog.messages == []
    # Of another folder they are told, as the only files of a folder that was to be segmented.
    assert [case.name for case in find_cases(tmp_path, tmp_path / "new")][1:] != []
    # A scan is one wherever results go.
    save(tmp_path / output, series_datasets(hu(), SPACING_MM, series=3), prefix="B")
    assert len(find_cases(tmp_path, tmp_path / output)) == 2


@pytest.mark.parametrize("name", ["p1", "p1/study"])
def test_folder_that_cannot_be_looked_into_is_told(tmp_path, caplog, monkeypatch, name):
    (tmp_path / "a.nii.gz").touch()
    (tmp_path / name).mkdir(parents=True)
    look = os.scandir

    def refuse(path="."):  # root may look everywhere
        if os.fspath(path) == str(tmp_path / name):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    cases, (line,) = left_out(tmp_path, caplog)
    assert cases == ["a"]
    assert line.startswith(f"{name}: left out: cannot be looked into (Permission denied); allow")


def test_dicom_files_without_preamble_are_told_once_a_folder(tmp_path, caplog):
    (tmp_path / "a.nii.gz").touch()
    for path in write_series(tmp_path / "p1" / "ct", hu(), SPACING_MM):
        path.write_bytes(path.read_bytes()[132:])
    for path in write_series(tmp_path / "p2", hu(), SPACING_MM):
        dataset = pydicom.dcmread(path)
        with path.open("wb") as file:  # implicit, and without the elements about the file
            target = DicomFileLike(file)
            target.is_implicit_VR = target.is_little_endian = True
            pydicom.filewriter.write_dataset(target, dataset)
    cases, lines = left_out(tmp_path, caplog)
    assert cases == ["a"]
    assert [line.partition(" (IM")[0] for line in lines] == [
        f"{folder}: left out: 4 DICOM file(s) without the preamble that begins such a file"
        for folder in ("p1/ct", "p2")
    ]


def test_links_that_lead_nowhere_or_are_not_followed_are_told(tmp_path, caplog):
    write_series(tmp_path / "elsewhere", hu(), SPACING_MM)
    source = tmp_path / "in"
    write_series(source / "p1" / "ct", hu(), SPACING_MM)
    (source / "b.nii.gz").symlink_to(tmp_path / "gone.nii.gz")
    (source / "p1" / "more").symlink_to(tmp_path / "elsewhere")
    cases, lines = left_out(source, caplog)
    assert cases == ["p1_ct"]
    assert [line.partition(";")[0] for line in lines] == [
        "b.nii.gz: left out: a link to nothing",
        "p1/more: left out: a link to a folder, which is not followed",
    ]


@pytest.mark.parametrize("name", ["b.nii.gz", "study", "IM0001"])
def test_link_whose_target_cannot_be_reached_is_told(tmp_path, caplog, name):
    (tmp_path / "a.nii.gz").touch()
    # Root may go everywhere, but not to this name; others are told "Permission denied".
    (tmp_path / name).symlink_to(tmp_path / ("x" * 300))
    cases, (line,) = left_out(tmp_path, caplog)
    assert cases == ["a"]
    assert line.startswith(f"{name}: left out: cannot be reached (File name too long); allow it")


def test_input_that_cannot_be_reached_is_wrong_use(tmp_path):
    (tmp_path / "in").symlink_to(tmp_path / ("x" * 300))
    with pytest.raises(UsageError, match=r"--input .*in: cannot be read \(File name too long\)"):
        find_cases(tmp_path / "in", tmp_path / "labels")


def test_input_that_cannot_be_looked_into_is_wrong_use(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    with pytest.raises(UsageError, match="cannot be read"):
        find_cases(tmp_path, tmp_path / "labels")


def test_label_map_of_one_case_never_replaces_the_scan_of_another(tmp_path):
    (tmp_path / "x_0000.nii.gz").touch()
    write_series(tmp_path / "x_0000", hu(), SPACING_MM)
    with pytest.raises(UsageError, match=r"x_0000\.nii\.gz would be replaced by the label map of"):
        find_cases(tmp_path, tmp_path)
    assert len(find_cases(tmp_path, tmp_path / "labels")) == 2
