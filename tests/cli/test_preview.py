import json
import os
import re
import tempfile

import numpy as np
import pytest
import SimpleITK as sitk

from app.cli.main import main
from app.manifest import sha256_of


# Voxels are large, for the smaller a scan the more it is enlarged, and the longer drawing takes.
def write(path, array, spacing_xyz=(15.0, 20.0, 30.0), origin_xyz=(0.0, 0.0, 0.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_xyz)
    image.SetOrigin(origin_xyz)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folders(tmp_path):
    scans, results = tmp_path / "scans", tmp_path / "results"
    scans.mkdir()
    results.mkdir()
    return scans, results


def preview(scans, results):
    return main(["preview", "--input", str(scans), "--output", str(results)])


def test_a_picture_is_drawn_for_each_result_and_both_are_named(folders, capsys):
    scans, results = folders
    for name in ("a_0000.nii.gz", "b.mha", "c.nii"):
        write(scans / name, np.zeros((4, 5, 6), np.int16))
    for name in ("a.nii.gz", "b.nii.gz"):
        write(results / name, np.ones((4, 5, 6), np.uint8))
    assert preview(scans, results) == 0
    assert {path.name for path in results.glob("*.png")} == {"a.png", "b.png"}
    told = capsys.readouterr().out
    assert str(results / "a.nii.gz") in told
    assert str(results / "b.png") in told
    assert str(results / "report.html") in told
    assert not list(results.glob(".partial*"))


def test_one_result_on_another_grid_does_not_stop_the_others(folders):
    scans, results = folders
    for name in ("a", "b"):
        write(scans / f"{name}.nii.gz", np.zeros((4, 5, 6), np.int16))
    write(results / "a.nii.gz", np.ones((4, 5, 7), np.uint8))
    write(results / "b.nii.gz", np.ones((4, 5, 6), np.uint8))
    assert preview(scans, results) == 1
    assert {path.name for path in results.glob("*.png")} == {"b.png"}
    assert "no picture: " in (results / "report.html").read_text()


def test_a_name_too_long_for_a_label_map_does_not_stop_the_others(folders):
    scans, results = folders
    write(scans / "a.nii", np.zeros((4, 5, 6), np.int16))
    (scans / f"{'L' * 250}.nii").symlink_to(scans / "a.nii")  # with .nii.gz, 257 letters
    write(results / "a.nii.gz", np.ones((4, 5, 6), np.uint8))
    assert preview(scans, results) == 0
    assert {path.name for path in results.glob("*.png")} == {"a.png"}


def test_a_folder_that_cannot_be_written_to_is_wrong_use(folders, capsys, monkeypatch):
    scans, results = folders
    write(scans / "a.nii", np.zeros((4, 5, 6), np.int16))
    write(results / "a.nii.gz", np.ones((4, 5, 6), np.uint8))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(results), "touch", refuse)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert preview(scans, results) == 2
    assert f"--output {results}: cannot be written to" in capsys.readouterr().err


def test_without_results_it_says_so(folders, capsys):
    scans, results = folders
    write(scans / "a.nii.gz", np.zeros((4, 5, 6), np.int16))
    assert preview(scans, results) == 2
    assert "no label map" in capsys.readouterr().err


def test_page_tells_what_predict_noted(folders):
    scans, results = folders
    for name in ("a", "b"):
        write(scans / f"{name}.nii.gz", np.zeros((4, 5, 6), np.int16))
    write(results / "a.nii.gz", np.ones((4, 5, 6), np.uint8))
    first = {"name": "a", "status": "ok", "total_seconds": 47.25, "warnings": ["look here"]}
    entries = [
        first | {"output_sha256": sha256_of(results / "a.nii.gz")},
        {"name": "b", "status": "failed", "error": "b.nii.gz: cut short"},
    ]
    facts = {"version": "1.2.3", "cpu": "a CPU", "threads": 2, "precision": "f32"}
    record = facts | {"started": "2026-01-02T03:04:05+00:00", "cases": entries}
    (results / "run.json").write_text(json.dumps(record))
    assert preview(scans, results) == 0
    page = (results / "report.html").read_text()
    for told in ("47.2", "look here", "b.nii.gz: cut short", "1 failed", "1.2.3", "03:04 UTC"):
        assert told in page


def volumes_of(page, name):
    """Give what the page's program knows of a case."""
    data = json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)[1])
    return next(case["volumes"] for case in data["cases"] if case["name"] == name)


@pytest.mark.parametrize(
    "other", [{"spacing_xyz": (15.0, 20.0, 40.0)}, {"origin_xyz": (0.0, 0.0, 90.0)}]
)
def test_a_label_map_of_the_same_size_in_another_place_is_not_drawn(folders, capsys, other):
    scans, results = folders
    write(scans / "a.nii.gz", np.zeros((4, 5, 6), np.int16))
    write(results / "a.nii.gz", np.ones((4, 5, 6), np.uint8), **other)
    assert preview(scans, results) == 1
    assert not (results / "a.png").exists()
    page = (results / "report.html").read_text()
    assert "not on the grid of its scan" in page


def test_a_scan_in_place_of_a_label_map_is_not_drawn(folders):
    scans, results = folders
    write(scans / "a.nii.gz", np.zeros((4, 5, 6), np.int16))
    write(results / "a.nii.gz", np.full((4, 5, 6), -1000, np.int16))
    assert preview(scans, results) == 1
    assert "is this the scan?" in (results / "report.html").read_text()


def test_a_label_map_corrected_since_is_measured_anew(folders):
    scans, results = folders
    write(scans / "a.nii.gz", np.zeros((4, 5, 6), np.int16))
    write(results / "a.nii.gz", np.ones((4, 5, 6), np.uint8))
    entry = {
        "name": "a",
        "status": "ok",
        "output_sha256": sha256_of(results / "a.nii.gz"),
        "volumes_ml": {"liver": 1234.0},
        "warnings": ["look here"],
        "flags": [],
    }
    (results / "run.json").write_text(json.dumps({"organs": ["liver"], "cases": [entry]}))
    assert preview(scans, results) == 0
    page = (results / "report.html").read_text()
    assert "look here" in page
    assert volumes_of(page, "a") == {"liver": 1234.0}
    write(results / "a.nii.gz", np.full((4, 5, 6), 3, np.uint8))
    assert preview(scans, results) == 0
    page = (results / "report.html").read_text()
    assert "look here" not in page
    assert "measured anew" in page
    # The liver was asked for; the spleen has been drawn in.
    assert volumes_of(page, "a") == pytest.approx({"liver": 0.0, "spleen": 120 * 9.0})


@pytest.mark.parametrize(
    "record",
    [
        [],
        "text",
        {},
        {"cases": None},
        {"cases": []},
        {"cases": [3, {"name": "a"}, {"status": "ok"}]},
    ],
)
def test_a_record_that_is_none_is_no_crash(folders, record):
    scans, results = folders
    write(scans / "a.nii.gz", np.zeros((4, 5, 6), np.int16))
    write(results / "a.nii.gz", np.ones((4, 5, 6), np.uint8))
    (results / "run.json").write_text(json.dumps(record))
    assert preview(scans, results) == 0
    assert volumes_of((results / "report.html").read_text(), "a")["liver"] > 0


def test_names_that_are_no_text_are_drawn_and_printed(folders, capsys):
    scans, results = folders
    name = os.fsdecode(b"\xff.nii.gz")
    write(scans / "a.nii.gz", np.zeros((4, 5, 6), np.int16))
    write(results / "a.nii.gz", np.ones((4, 5, 6), np.uint8))
    (scans / "a.nii.gz").rename(scans / name)
    (results / "a.nii.gz").rename(results / name)
    assert preview(scans, results) == 0
    assert "\\udcff.png" in capsys.readouterr().out
