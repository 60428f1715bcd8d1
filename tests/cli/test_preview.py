import json

import numpy as np
import pytest
import SimpleITK as sitk

from app.cli.main import main


def write(path, array, spacing_xyz=(1.5, 2.0, 3.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing_xyz)
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
    entries = [
        {"name": "a", "status": "ok", "total_seconds": 47.25, "warnings": ["look here"]},
        {"name": "b", "status": "failed", "error": "b.nii.gz: cut short"},
    ]
    facts = {"version": "1.2.3", "cpu": "a CPU", "threads": 2, "precision": "f32"}
    record = facts | {"started": "2026-01-02T03:04:05+00:00", "cases": entries}
    (results / "run.json").write_text(json.dumps(record))
    assert preview(scans, results) == 0
    page = (results / "report.html").read_text()
    for told in ("47.2", "look here", "b.nii.gz: cut short", "1 failed", "1.2.3", "03:04 UTC"):
        assert told in page
