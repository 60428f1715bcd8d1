"""A scan that changes or goes away fails by name, or has the right result with its record."""

import json
import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import write_series

from app.cli.main import main
from app.cli.record import state_and_content
from app.manifest import sha256_of

SHAPE, SPACING_MM = (20, 30, 26), (9.0, 6.0, 7.0)
CHANGED = "changed while it was being read, or was removed; run again"


def hu_of(brightness):
    """Give a bright ball in tissue."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    distance_mm = np.sqrt((9 * (z - 9)) ** 2 + (6 * (y - 14)) ** 2 + (7 * (x - 12.0)) ** 2)
    return np.where(distance_mm < 45, brightness, 50).astype(np.int16)


def write_nifti(path, brightness=350):
    image = sitk.GetImageFromArray(hu_of(brightness))
    image.SetSpacing(SPACING_MM[::-1])
    sitk.WriteImage(image, path)


def predict(scans, output, weights, *more):
    fixed = ["predict", "--input", str(scans), "--output", str(output), "--weights", str(weights)]
    return main([*fixed, "--threads", "1", "--precision", "f32", *more])


def cases_of(output):
    return {case["name"]: case for case in json.loads((output / "run.json").read_text())["cases"]}


def grow(path):
    with path.open("ab") as stream:
        stream.write(b"more")


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def write_other(path):
    """Write other voxels into a file, and set back its time."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[-100:] = bytes(100)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def last_slice(folder):
    return max(folder.iterdir(), key=lambda path: sitk.ReadImage(str(path)).GetOrigin()[2])


AFTER_READING = {
    "grown": grow,
    "removed": lambda path: path.unlink(),
    "cut": cut,
    "replaced": write_other,
    "slice_removed": lambda folder: last_slice(folder).unlink(),
    "slice_replaced": lambda folder: write_other(last_slice(folder)),
    "folder_removed": shutil.rmtree,
}
BEFORE_VOXELS = {
    "early_removed": lambda path: path.unlink(),
    "early_cut": cut,
    "early_slice_removed": lambda folder: last_slice(folder).unlink(),
}


def happens(monkeypatch, name, path_of, faults):
    """Have each scan meet its fault when its turn comes at one function of the pipeline."""
    from app.cascade import pipeline

    original = getattr(pipeline, name)

    def at_this_moment(*arguments, **options):
        path = path_of(arguments)
        faults.get(path.name.removesuffix(".nii"), lambda path: None)(path)
        return original(*arguments, **options)

    monkeypatch.setattr(pipeline, name, at_this_moment)


def test_scan_that_changes_while_it_is_worked_on_fails_and_costs_nothing_earlier(
    tmp_path, stand_in_weights, monkeypatch
):
    scans, output = tmp_path / "scans", tmp_path / "labels"
    names = ["whole", *AFTER_READING, *BEFORE_VOXELS]
    earlier = [output / f"{name}{end}" for name in names for end in (".nii.gz", ".seg.nrrd")]
    for path in earlier:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"of an earlier run")
    scans.mkdir()
    for name in names:
        if "slice" in name or "folder" in name:
            write_series(scans / name, hu_of(350), SPACING_MM)
        else:
            write_nifti(scans / f"{name}.nii")
    happens(monkeypatch, "score_scan", lambda given: given[1].header.path, AFTER_READING)
    happens(monkeypatch, "read_scan", lambda given: given[0], BEFORE_VOXELS)
    assert predict(scans, output, stand_in_weights, "--confidence") == 1
    cases = cases_of(output)
    assert cases.keys() == set(names)
    assert cases.pop("whole")["status"] == "ok"
    assert {name for name, case in cases.items() if case["status"] == "failed"} == cases.keys()
    assert all(CHANGED in cases[name]["error"] for name in AFTER_READING), cases
    assert all(str(scans) in cases[name]["error"] for name in BEFORE_VOXELS), cases
    assert not any("unexpected" in case["error"] for case in cases.values()), cases
    assert [path.name for path in (output / "confidence").iterdir()] == ["whole.nii.gz"]
    left = [path for path in earlier if path.exists() and path.read_bytes() == b"of an earlier run"]
    assert left == earlier[2:]


def test_scan_that_is_gone_when_its_turn_comes_fails_by_name(
    tmp_path, stand_in_weights, monkeypatch
):
    for name in "ab":
        write_nifti(tmp_path / f"{name}.nii")
    happens(
        monkeypatch,
        "score_scan",
        lambda given: given[1].header.path,
        {"a": lambda path: path.with_name("b.nii").unlink()},
    )
    assert predict(tmp_path, tmp_path / "labels", stand_in_weights) == 1
    gone = cases_of(tmp_path / "labels")["b"]
    assert gone["error"] == (
        f"{tmp_path / 'b.nii'}: cannot be read (No such file or directory); copy it again"
    )


@pytest.mark.parametrize("change", [write_other, lambda path: path.unlink()])
def test_scan_that_changes_after_its_label_map_was_written_gets_no_picture_of_another(
    tmp_path, stand_in_weights, monkeypatch, change
):
    from app.cascade import pipeline

    segment_scan = pipeline.segment_scan

    def changing(scan_path, label_path, cascade, **options):
        report = segment_scan(scan_path, label_path, cascade, **options)
        change(scan_path)
        return report

    monkeypatch.setattr(pipeline, "segment_scan", changing)
    write_nifti(tmp_path / "a.nii")
    output = tmp_path / "labels"
    assert predict(tmp_path, output, stand_in_weights, "--preview") == 0
    case = cases_of(output)["a"]
    assert (case["status"], case["output_sha256"]) == ("ok", sha256_of(output / "a.nii.gz"))
    assert case["warnings"][-1].startswith("no picture: the scan changed")
    assert not (output / "a.png").exists()


def test_box_of_a_scan_that_changes_is_not_told(tmp_path, stand_in_weights, monkeypatch):
    write_nifti(tmp_path / "a.nii")
    happens(monkeypatch, "locate", lambda given: tmp_path / "a.nii", {"a": write_other})
    assert predict(tmp_path, tmp_path / "boxes", stand_in_weights, "--boxes-only") == 1
    assert CHANGED in cases_of(tmp_path / "boxes")["a"]["error"]
    assert not (tmp_path / "boxes" / "boxes.json").exists()


def test_resume_goes_by_what_a_scan_holds_not_by_its_times(tmp_path, stand_in_weights):
    scans, output = tmp_path / "scans", tmp_path / "labels"
    scans.mkdir()
    for name in ("same", "touched", "copied", "other"):
        write_nifti(scans / f"{name}.nii")
    write_series(scans / "series", hu_of(350), SPACING_MM)
    write_series(scans / "series_other", hu_of(350), SPACING_MM)
    assert predict(scans, output, stand_in_weights) == 0
    recorded = cases_of(output)
    assert recorded["other"]["input_sha256"] == sha256_of(scans / "other.nii")
    before = {name: (output / f"{name}.nii.gz").stat().st_ino for name in recorded}

    os.utime(scans / "touched.nii")
    shutil.copy(scans / "copied.nii", tmp_path / "copy.nii")
    (tmp_path / "copy.nii").replace(scans / "copied.nii")
    write_other(scans / "other.nii")
    for path in (scans / "series").iterdir():
        os.utime(path)
    write_other(last_slice(scans / "series_other"))
    assert predict(scans, output, stand_in_weights, "--resume") == 0
    after = {name: (output / f"{name}.nii.gz").stat().st_ino for name in recorded}
    assert {name for name in after if after[name] != before[name]} == {"other", "series_other"}
    assert cases_of(output)["other"]["input_sha256"] == sha256_of(scans / "other.nii")


def test_resume_does_again_what_a_record_without_contents_tells_of(tmp_path, stand_in_weights):
    write_nifti(tmp_path / "a.nii")
    output = tmp_path / "labels"
    assert predict(tmp_path, output, stand_in_weights) == 0
    before = (output / "a.nii.gz").stat().st_ino
    record = json.loads((output / "run.json").read_text())
    del record["cases"][0]["input_sha256"]
    del record["cases"][0]["input_state"]["changed_ns"]
    (output / "run.json").write_text(json.dumps(record))
    assert predict(tmp_path, output, stand_in_weights, "--resume") == 0
    assert (output / "a.nii.gz").stat().st_ino != before


def test_file_of_many_gigabytes_is_not_read_for_its_contents(tmp_path, stand_in_weights):
    write_series(tmp_path / "series", hu_of(350), SPACING_MM)
    large = last_slice(tmp_path / "series")
    os.truncate(large, 1 << 40)  # takes no room on the disk
    output = tmp_path / "labels"
    assert predict(tmp_path, output, stand_in_weights) == 0
    assert cases_of(output)["series"]["input_sha256"] is None
    os.utime(large)
    before = (output / "series.nii.gz").stat().st_ino
    assert predict(tmp_path, output, stand_in_weights, "--resume") == 0
    assert (output / "series.nii.gz").stat().st_ino != before  # nobody can tell


def test_contents_are_of_all_files_and_no_other(tmp_path):
    image = sitk.GetImageFromArray(hu_of(350))
    sitk.WriteImage(image, tmp_path / "a.mhd")
    (tmp_path / "b.raw").write_bytes(b"not of it")
    _, before = state_and_content(tmp_path / "a.mhd")
    (tmp_path / "b.raw").write_bytes(b"changed")
    assert state_and_content(tmp_path / "a.mhd")[1] == before
    write_other(tmp_path / "a.raw")
    assert state_and_content(tmp_path / "a.mhd")[1] != before
