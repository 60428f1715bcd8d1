"""What `predict` computes and writes besides all organs as label maps."""

import argparse
import csv
import json
import os
import re
import shutil
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from dicom_files import enhanced_dataset, save
from dicom_series import write_series
from pydicom import dcmread
from stand_ins import BRIGHT_ORGAN, DARK_ORGAN, TISSUE_HU

from app.cli import extras
from app.cli.main import main
from app.errors import OutputError, UsageError
from app.outputs import formats
from app.report.page import PageCase, page_parts

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scans(tmp_path, body):
    """Give a folder with one scan."""
    hu, _, spacing_mm = body
    (tmp_path / "scans").mkdir()
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    sitk.WriteImage(image, tmp_path / "scans" / "a_0000.nii.gz")
    return tmp_path / "scans"


@pytest.fixture
def predict(tmp_path, stand_in_weights):
    def run(scans, *more):
        options = ["--threads", "1", "--precision", "f32", "--weights", str(stand_in_weights)]
        output = ["--output", str(tmp_path / "labels")]
        return main(["predict", "--input", str(scans), *output, *options, *more])

    return run


def labels_in(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(path))


def rows_of(path):
    with path.open(newline="") as file:
        return {(row["case"], row["organ"]): row for row in csv.DictReader(file)}


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def test_the_command_knows_the_rooms_formats():
    assert extras.FORMATS == formats.FORMATS


def test_label_tables_lie_beside_the_label_maps(scans, predict, tmp_path):
    assert predict(scans) == 0
    names = {path.name for path in (tmp_path / "labels").iterdir()}
    assert names == {"a.nii.gz", "run.json", "labels.json", "labels.ctbl"}


def test_statistics_are_measured_on_the_scan(scans, predict, tmp_path):
    assert predict(scans, "--statistics") == 0
    rows = rows_of(tmp_path / "labels" / "organs.csv")
    labels = labels_in(tmp_path / "labels" / "a.nii.gz")
    hu = labels_in(scans / "a_0000.nii.gz")
    for value, name in ((BRIGHT_ORGAN, "liver"), (DARK_ORGAN, "spleen")):
        row, mask = rows["a", name], labels == value
        assert float(row["mean_hu"]) == pytest.approx(hu[mask].mean(), abs=0.05)
        assert float(row["sd_hu"]) == pytest.approx(hu[mask].std(), abs=0.05)
        assert int(row["num_voxels"]) == mask.sum()
    # A ball of 137 ml is small for a liver: what the anatomy tells is in the table, too.
    assert rows["a", "liver"]["flags"] == "volume_low"
    assert rows["a", "spleen"]["flags"] == ""
    assert rows["a", "aorta"]["flags"] == "not_found"
    (case,) = record_of(tmp_path / "labels")["cases"]
    assert case["seconds"]["measure"] >= 0


def test_statistics_of_existing_label_maps_are_those_of_predict(scans, predict, tmp_path):
    predict(scans, "--statistics")
    options = ["--scans", str(scans), "--labels", str(tmp_path / "labels")]
    assert main(["statistics", *options, "--output", str(tmp_path / "again.csv")]) == 0
    expected, again = rows_of(tmp_path / "labels" / "organs.csv"), rows_of(tmp_path / "again.csv")
    assert again.keys() == expected.keys()
    for key, row in again.items():
        # Only predict compares organs with the anatomy.
        assert set(row.pop("flags").split(";")) - {""} <= set(expected[key].pop("flags").split(";"))
        assert row == expected[key]


def test_statistics_name_a_label_map_that_does_not_fit_its_scan(scans, predict, tmp_path, capsys):
    other = sitk.Image(4, 5, 6, sitk.sitkUInt8)
    sitk.WriteImage(other, tmp_path / "a.nii.gz")
    options = ["--scans", str(scans), "--labels", str(tmp_path / "a.nii.gz")]
    assert main(["statistics", *options, "--output", str(tmp_path / "organs.csv")]) == 1
    assert "a.nii.gz: not on the grid of its scan" in capsys.readouterr().err
    assert main(["statistics", "--scans", str(scans), "--labels", str(scans / "no")]) == 2


def test_statistics_of_a_case_that_fails_are_not_those_of_an_earlier_run(
    scans, predict, tmp_path, capsys
):
    predict(scans)
    shutil.copy(scans / "a_0000.nii.gz", scans / "b_0000.nii.gz")
    labels, table = tmp_path / "labels", tmp_path / "table.csv"
    shutil.copy(labels / "a.nii.gz", labels / "b.nii.gz")
    command = ["statistics", "--scans", str(scans), "--labels", str(labels), "--output", str(table)]
    assert main(command) == 0
    before = rows_of(table)
    assert {case for case, _ in before} == {"a", "b"}
    sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkUInt8), labels / "b.nii.gz")
    assert main(command) == 1
    assert "b.nii.gz: not on the grid of its scan" in capsys.readouterr().err
    assert rows_of(table) == {key: row for key, row in before.items() if key[0] == "a"}


def test_statistics_name_the_flag_of_the_scans(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for scans in (tmp_path / "empty", tmp_path / "nowhere"):
        assert main(["statistics", "--scans", str(scans), "--labels", str(tmp_path)]) == 2
        told = capsys.readouterr().err
        assert f"--scans {scans}: no s" in told  # no scans found, no such file
        assert "--input" not in told


def test_statistics_are_measured_from_within_the_folder_of_the_scans(
    scans, predict, tmp_path, monkeypatch, capsys
):
    predict(scans)
    (tmp_path / "labels").rename(scans / "labels")
    (scans / "a_0000.nii.gz").rename(scans / "a.nii.gz")
    monkeypatch.chdir(scans)
    capsys.readouterr()
    # Nothing is written that could replace a scan, and label maps are no scans passed over.
    assert main(["statistics", "--scans", ".", "--labels", "labels", "--output", "o.csv"]) == 0
    assert rows_of(scans / "o.csv")
    assert capsys.readouterr().err == ""


def test_statistics_of_two_label_maps_of_one_scan_are_wrong_use(scans, predict, tmp_path, capsys):
    predict(scans)
    labels, table = tmp_path / "labels", tmp_path / "organs.csv"
    options = ["--scans", str(scans), "--labels", str(labels), "--output", str(table)]
    # Of no scan here, so that nothing hangs on which of them is meant.
    for name in ("other.nii", "other.nii.gz"):
        shutil.copy(labels / "a.nii.gz", labels / name)
    assert main(["statistics", *options]) == 0
    table.unlink()
    sitk.WriteImage(0 * sitk.ReadImage(labels / "a.nii.gz"), labels / "a.mha")
    assert main(["statistics", *options]) == 2
    assert "a.mha and a.nii.gz are both named as the label map of a" in capsys.readouterr().err
    assert not table.exists()


def test_scans_that_are_their_own_label_maps_are_wrong_use(scans, capsys):
    assert main(["statistics", "--scans", str(scans), "--labels", str(scans)]) == 2
    assert "the folder of the scans" in capsys.readouterr().err


def test_slicer_segmentation_holds_what_the_label_map_holds(scans, predict, tmp_path):
    assert predict(scans, "--formats", "nifti,seg.nrrd") == 0
    found = slicerio.read_segmentation(str(tmp_path / "labels" / "a.seg.nrrd"))
    assert [segment["name"] for segment in found["segments"]] == ["Liver", "Spleen"]
    assert np.array_equal(found["voxels"].T, labels_in(tmp_path / "labels" / "a.nii.gz"))


def test_dicom_segmentation_refers_to_the_series_named(predict, tmp_path, body):
    hu, _, spacing_mm = body
    files = write_series(tmp_path / "dicom" / "a", hu, spacing_mm=spacing_mm)
    (tmp_path / "scans").mkdir()
    series = sitk.ReadImage([str(file) for file in files])
    sitk.WriteImage(series, tmp_path / "scans" / "a.nii.gz")
    options = ("--formats", "dicom-seg", "--dicom", str(tmp_path / "dicom"))
    assert predict(tmp_path / "scans", *options) == 0
    found = hd.seg.segread(tmp_path / "labels" / "a.seg.dcm")
    liver = labels_in(tmp_path / "labels" / "a.nii.gz") == BRIGHT_ORGAN
    volume = found.get_volume(segment_numbers=[BRIGHT_ORGAN], combine_segments=True)
    assert volume.array.sum() == BRIGHT_ORGAN * liver.sum()


def test_dicom_segmentation_of_a_series_refers_to_it(predict, tmp_path, body):
    hu, _, spacing_mm = body
    files = write_series(tmp_path / "scans" / "a", hu, spacing_mm=spacing_mm)
    (tmp_path / "scans" / "a" / "notes.txt").write_text("no image")
    assert predict(tmp_path / "scans", "--formats", "dicom-seg") == 0
    found = hd.seg.segread(tmp_path / "labels" / "a.seg.dcm")
    uids = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files}
    assert {uid for _, _, uid in found.get_source_image_uids()} <= uids
    liver = labels_in(tmp_path / "labels" / "a.nii.gz") == BRIGHT_ORGAN
    volume = found.get_volume(segment_numbers=[BRIGHT_ORGAN], combine_segments=True)
    assert volume.array.sum() == BRIGHT_ORGAN * liver.sum() > 0


def test_record_names_study_and_series_and_nothing_of_the_patient(predict, scans, tmp_path, body):
    hu, _, spacing_mm = body
    first, *_ = write_series(scans / "ct", hu, spacing_mm=spacing_mm, patient="MRN-4711")
    assert predict(scans) == 0
    record = record_of(tmp_path / "labels")
    cases = {case["name"]: case for case in record["cases"]}
    source = dcmread(first, stop_before_pixels=True)
    names = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    assert cases["ct"]["dicom"] == {name: source[name].value for name in names}
    assert cases["a"]["dicom"] is None
    text = (tmp_path / "labels" / "run.json").read_text()
    for name in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate"):
        assert str(source[name].value) not in text
    page = (ROOT / "docs" / "site" / "outputs.md").read_text(encoding="utf-8")
    assert [field for field in {*record, *cases["ct"]} if f"`{field}`" not in page] == []


def test_dicom_segmentation_without_a_series_is_refused_before_any_work_and_others_go_on(
    scans, predict, tmp_path, body
):
    hu, _, spacing_mm = body
    assert predict(scans) == 0
    written = (tmp_path / "labels" / "a.nii.gz").stat().st_mtime_ns
    write_series(scans / "b", hu, spacing_mm=spacing_mm)
    assert predict(scans, "--formats", "dicom-seg") == 1
    nifti, series = record_of(tmp_path / "labels")["cases"]
    assert "a_0000.nii.gz: a DICOM SEG needs its series; name it with --dicom, or" in nifti["error"]
    assert nifti["seconds"] == {}
    assert (tmp_path / "labels" / "a.nii.gz").stat().st_mtime_ns == written
    assert series["status"] == "ok"
    assert (tmp_path / "labels" / "b.seg.dcm").exists()


def frames_in_files(folder, hu, spacing_mm):
    """Write each half of a scan as an enhanced file of one series."""
    for name, part in (("a", range(20)), ("b", range(20, len(hu)))):
        save(folder, [enhanced_dataset(hu, spacing_mm, order=list(part))], prefix=name)


def other_grid(folder, hu, spacing_mm):
    write_series(folder, hu[:-1], spacing_mm=spacing_mm)


def without_study(folder, hu, spacing_mm):
    for path in write_series(folder, hu, spacing_mm=spacing_mm):
        header = dcmread(path)
        del header.StudyInstanceUID
        header.save_as(path)


@pytest.mark.parametrize(
    ("write", "is_scan", "told"),
    [
        (frames_in_files, True, "an enhanced series of 2 files"),
        (other_grid, False, "a_0000.nii.gz: not on the grid of the DICOM series"),
        (without_study, True, "lacks what a segmentation must repeat .*StudyInstanceUID"),
    ],
)
def test_series_of_which_no_segmentation_can_be_made_is_refused_before_any_work(
    scans, predict, tmp_path, body, write, is_scan, told
):
    hu, _, spacing_mm = body
    write(tmp_path / "series", hu, spacing_mm)
    source = tmp_path / "series" if is_scan else scans
    series = [] if is_scan else ["--dicom", str(tmp_path / "series")]
    assert predict(source, "--formats", "dicom-seg", *series) == 1
    (case,) = record_of(tmp_path / "labels")["cases"]
    assert re.search(told, case["error"])
    assert case["seconds"] == {}
    assert not list((tmp_path / "labels").glob("*.nii.gz"))


TOO_LONG = 300 * "x"  # for the system, which then tells as little as of a folder not to be entered


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--dicom", TOO_LONG], f"--dicom {TOO_LONG}: cannot be read (File name too long)"),
        (["--output", TOO_LONG, "--statistics"], f"--output {TOO_LONG}: cannot be read (File name"),
        (["--output", TOO_LONG, "--boxes-only"], f"--output {TOO_LONG}: cannot be read (File name"),
        (["--output", TOO_LONG], f"--output {TOO_LONG}: cannot be read (File name too long)"),
    ],
)
def test_folder_that_cannot_be_reached_is_told_before_any_work(
    scans, predict, capsys, options, told
):
    assert predict(scans, *options) == 2
    assert told in capsys.readouterr().err


def test_statistics_whose_folder_cannot_be_reached_are_refused_before_any_work(
    scans, tmp_path, capsys
):
    (tmp_path / "labels").mkdir()
    shutil.copy(scans / "a_0000.nii.gz", tmp_path / "labels" / "a.nii.gz")
    options = ["--scans", str(scans), "--labels", str(tmp_path / "labels")]
    assert main(["statistics", *options, "--output", f"{TOO_LONG}/organs.csv"]) == 2
    assert f"--output {TOO_LONG}: cannot be written to (File name" in capsys.readouterr().err


def test_dicom_folder_that_may_not_be_entered_is_told_before_any_work(
    scans, predict, tmp_path, capsys, monkeypatch
):
    (tmp_path / "series").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    options = ("--formats", "dicom-seg", "--dicom", str(tmp_path / "series"))
    assert predict(scans, *options) == 2
    told = f"--dicom {tmp_path / 'series'}: cannot be read (Permission denied)"
    assert told in capsys.readouterr().err
    assert main(["convert", "--labels", str(scans), "--output", "out", *options]) == 2
    assert told in capsys.readouterr().err


def test_empty_label_map_becomes_no_dicom_segmentation_but_a_warning(predict, tmp_path):
    hu = np.full((20, 30, 40), TISSUE_HU, np.int16)
    hu[::4, ::8, ::8] = -1
    files = write_series(tmp_path / "dicom", hu, spacing_mm=(5.0, 3.0, 4.0))
    (tmp_path / "scans").mkdir()
    series = sitk.ReadImage([str(file) for file in files])
    sitk.WriteImage(series, tmp_path / "scans" / "a.nii.gz")
    options = ("--formats", "dicom-seg,seg.nrrd", "--dicom", str(tmp_path / "dicom"))
    assert predict(tmp_path / "scans", *options) == 0
    (case,) = record_of(tmp_path / "labels")["cases"]
    assert any("no DICOM SEG" in warning for warning in case["warnings"])
    assert (tmp_path / "labels" / "a.seg.nrrd").exists()
    assert not (tmp_path / "labels" / "a.seg.dcm").exists()


def test_only_the_organs_asked_for_are_in_the_results(scans, predict, tmp_path):
    predict(scans)
    everything = labels_in(tmp_path / "labels" / "a.nii.gz")
    assert predict(scans, "--organs", "spleen, left_kidney", "--statistics") == 0
    labels = labels_in(tmp_path / "labels" / "a.nii.gz")
    assert np.array_equal(labels, np.where(everything == DARK_ORGAN, DARK_ORGAN, 0))
    rows = rows_of(tmp_path / "labels" / "organs.csv")
    assert [organ for _, organ in rows] == ["spleen", "left_kidney"]
    assert record_of(tmp_path / "labels")["organs"] == ["spleen", "left_kidney"]


def test_confidence_lies_in_a_folder_of_its_own_that_refine_takes(scans, predict, tmp_path):
    assert predict(scans, "--confidence") == 0
    labels, confidence = tmp_path / "labels", tmp_path / "labels" / "confidence"
    percent = labels_in(confidence / "a.nii.gz")
    assert percent.shape == labels_in(labels / "a.nii.gz").shape
    assert (percent[0, 0, 0], percent.max()) == (0, 100)
    assert record_of(labels)["confidence"] is True
    given = tmp_path / "given"
    given.mkdir()
    sitk.WriteImage(sitk.ReadImage(labels / "a.nii.gz") * 0, given / "a.nii.gz")
    options = ["--labels", str(given), "--predictions", str(labels), "--rule", "plausible"]
    options += ["--confidence", str(confidence), "--output", str(tmp_path / "refined")]
    assert main(["refine", *options]) == 0
    refined = labels_in(tmp_path / "refined" / "a.nii.gz")
    assert (refined == BRIGHT_ORGAN).any()


def test_an_image_of_confidence_begun_and_not_finished_is_removed(scans, predict, tmp_path):
    assert predict(scans, "--confidence") == 0
    begun = tmp_path / "labels" / "confidence" / ".partial-1-00000000.nii.gz"
    begun.write_bytes(b"half")
    assert predict(scans, "--confidence", "--resume") == 0
    assert [path.name for path in begun.parent.iterdir()] == ["a.nii.gz"]


def test_boxes_only_runs_phase_one_alone(scans, predict, tmp_path, body):
    _, labels, _ = body
    assert predict(scans, "--boxes-only") == 0
    assert {path.name for path in (tmp_path / "labels").iterdir()} == {"boxes.json", "run.json"}
    box = json.loads((tmp_path / "labels" / "boxes.json").read_text())["a"]["voxels"]
    inside = labels[
        tuple(slice(*edges) for edges in zip(box["start"], box["stop"], strict=True))[::-1]
    ]
    assert (inside > 0).sum() == (labels > 0).sum()
    assert inside.size < labels.size
    (case,) = record_of(tmp_path / "labels")["cases"]
    assert set(case["seconds"]) == {"read", "locate"}


def test_boxes_only_needs_no_memory_for_phase_two(scans, predict, tmp_path):
    assert predict(scans, "--memory-limit", "600MiB") == 1
    assert predict(scans, "--boxes-only", "--memory-limit", "600MiB") == 0
    (case,) = record_of(tmp_path / "labels")["cases"]
    assert case["planned_mib"] < 600


def test_fast_is_told_in_the_record(scans, predict, tmp_path):
    assert predict(scans, "--fast") == 0
    assert record_of(tmp_path / "labels")["fast"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--organs", "liver,heart"), "heart"),
        (("--organs", ""), "known are liver"),
        (("--formats", "rtstruct"), "rtstruct: known are nifti, seg.nrrd, dicom-seg"),
        (("--dicom", "/nowhere"), "/nowhere: no such folder"),
        (("--boxes-only", "--statistics"), "--boxes-only"),
        (("--boxes-only", "--preview"), "--boxes-only"),
        (("--boxes-only", "--confidence"), "--boxes-only"),
    ],
)
def test_wrong_use_is_said_before_any_work(scans, predict, tmp_path, capsys, options, message):
    assert predict(scans, *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "labels").exists()


def test_a_table_that_cannot_be_gone_on_with_is_told_before_any_work(
    scans, predict, tmp_path, capsys
):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "organs.csv").write_text("my own table")
    assert predict(scans, "--statistics") == 2
    assert "organs.csv" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["organs.csv"]


def test_dicom_segmentation_where_the_library_is_missing_is_wrong_use(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    arguments = argparse.Namespace(
        output=Path("labels"),
        organs=None,
        formats=["dicom-seg"],
        dicom=None,
        statistics=False,
        confidence=False,
        fast=False,
        boxes_only=False,
        preview=False,
    )
    with pytest.raises(UsageError, match="highdicom, which is not installed"):
        extras.Extras(arguments)


def test_statistics_of_a_scan_whose_name_is_no_text(scans, predict, tmp_path):
    content = (scans / "a_0000.nii.gz").read_bytes()
    (scans / os.fsdecode(b"\xff.nii.gz")).write_bytes(content)
    assert predict(scans, "--statistics") == 0
    cases = {case for case, _ in rows_of(tmp_path / "labels" / "organs.csv")}
    assert cases == {"a", "\\udcff"}
    assert predict(scans, "--statistics", "--resume") == 0
    assert {case["status"] for case in record_of(tmp_path / "labels")["cases"]} == {"ok"}


def test_an_organ_asked_for_and_not_there_is_no_empty_label_map(scans, predict, tmp_path):
    assert predict(scans, "--organs", "gallbladder", "--preview") == 0
    (case,) = record_of(tmp_path / "labels")["cases"]
    assert not labels_in(tmp_path / "labels" / "a.nii.gz").any()
    assert case["volumes_ml"] == {"gallbladder": 0}
    assert "no_organs" not in {flag["code"] for flag in case["flags"]}


EVERYTHING = ("--formats", "seg.nrrd", "--statistics", "--confidence", "--preview")


def beside(folder):
    """Name all that belongs to the case and is no label map."""
    names = ("a.seg.nrrd", "a.png", "confidence/a.nii.gz", "report.html")
    found = {name for name in names if (folder / name).exists()}
    if ("a", "liver") in rows_of(folder / "organs.csv"):
        found.add("rows")
    boxes = folder / "boxes.json"
    if boxes.exists() and "a" in json.loads(boxes.read_text()):
        found.add("box")
    return found


def disk_is_full(*_):
    raise OutputError("cannot be written")


def test_what_belongs_to_an_earlier_label_map_goes_with_it(
    scans, predict, tmp_path, capsys, monkeypatch
):
    labels = tmp_path / "labels"
    everything = {"a.seg.nrrd", "a.png", "confidence/a.nii.gz", "report.html", "rows"}
    (labels / "another").mkdir(parents=True)
    (labels / "ab.png").write_bytes(b"of another case")
    assert predict(scans, "--boxes-only") == 0
    assert predict(scans, *EVERYTHING) == 0
    assert beside(labels) == everything
    # A case that fails before its label map is written loses nothing: all still belong together.
    before = (labels / "a.nii.gz").read_bytes()
    assert predict(scans, "--memory-limit", "64MiB") == 1
    assert (labels / "a.nii.gz").read_bytes() == before
    assert beside(labels) == everything
    assert predict(scans, "--formats", "dicom-seg") == 1
    assert beside(labels) == everything
    # One that fails afterwards leaves none of what there was.
    monkeypatch.setattr("app.outputs.slicer.write_seg_nrrd", disk_is_full)
    assert predict(scans, "--formats", "seg.nrrd") == 1
    assert (labels / "a.nii.gz").exists()
    assert beside(labels) == set()
    assert "report.html: of an earlier run, removed, as it showed a " in capsys.readouterr().err
    assert (labels / "ab.png").exists()


def test_tables_of_another_program_and_a_page_of_other_cases_are_left_alone(
    scans, predict, tmp_path
):
    others = PageCase(entry={"name": "ab", "status": "ok"})
    mine = {
        "organs.csv": "my own table",
        "boxes.json": "my own table",
        "report.html": "".join(page_parts({}, [others])),
    }
    (tmp_path / "labels").mkdir()
    for name, text in mine.items():
        (tmp_path / "labels" / name).write_text(text)
    assert predict(scans) == 0
    assert {name: (tmp_path / "labels" / name).read_text() for name in mine} == mine


def test_what_cannot_be_removed_fails_the_case(scans, predict, tmp_path):
    (tmp_path / "labels" / "a.png").mkdir(parents=True)
    assert predict(scans) == 1
    (case,) = record_of(tmp_path / "labels")["cases"]
    assert "a.png: of an earlier run, cannot be removed" in case["error"]


@pytest.mark.parametrize("lost", ["a.seg.nrrd", "confidence/a.nii.gz", "organs.csv"])
def test_resume_does_a_case_again_that_lacks_a_file(scans, predict, tmp_path, lost):
    options = ("--formats", "seg.nrrd", "--statistics", "--confidence")
    assert predict(scans, *options) == 0
    (tmp_path / "labels" / lost).unlink()
    assert predict(scans, *options, "--resume") == 0
    assert (tmp_path / "labels" / lost).exists()


def test_names_of_labels_written_by_another_are_told_before_any_work(
    scans, predict, tmp_path, capsys
):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "labels.json").write_text('{"labels": {"tumor": 1}}')
    assert predict(scans) == 2
    assert "labels.json: not written here" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["labels.json"]


@pytest.mark.parametrize(
    ("options", "folder", "names", "replaced"),
    [
        (("--formats", "seg.nrrd"), ".", ("a_0000.nii.gz", "a.seg.nrrd"), "a.seg.nrrd"),
        (("--confidence",), "confidence", ("a.nii.gz",), "a.nii.gz"),
    ],
)
def test_no_result_replaces_a_scan(
    scans, predict, tmp_path, capsys, options, folder, names, replaced
):
    among = tmp_path / "labels" / folder
    among.mkdir(parents=True)
    for name in names:
        sitk.WriteImage(sitk.ReadImage(scans / "a_0000.nii.gz"), among / name)
    before = (among / replaced).read_bytes()
    assert predict(among, *options) == 2
    assert f"{replaced} would be replaced by a result of" in capsys.readouterr().err
    assert (among / replaced).read_bytes() == before
    assert {path.name for path in among.iterdir()} == set(names)


def test_files_among_the_scans_are_never_removed(scans, tmp_path, stand_in_weights):
    (scans / "a.png").write_bytes(b"a picture of mine")
    options = ["--threads", "1", "--precision", "f32", "--weights", str(stand_in_weights)]
    assert main(["predict", "--input", str(scans), "--output", str(scans), *options]) == 0
    assert (scans / "a.nii.gz").exists()
    assert (scans / "a.png").read_bytes() == b"a picture of mine"
