import csv
import json
import os

import numpy as np
import pytest
from label_files import make_folders, write_labels

from app.cli import evaluate as command
from app.cli.main import main
from app.evaluation import pairs
from app.evaluation.protocols import PROTOCOLS
from app.labels import ORGANS
from app.report.page import PageCase, page_parts

LIVER, AORTA = 1, 5


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path)


def labels():
    array = np.zeros((6, 7, 8), np.uint8)
    array[1:4, 1:4, 1:5] = LIVER
    array[1:5, 4:6, 6:8] = AORTA
    return array


def evaluate(folders, output, *options):
    predictions, references = folders
    return main(
        ["evaluate", "--predictions", str(predictions), "--references", str(references),
         "--output", str(output), *options]
    )  # fmt: skip


def read_scores(output):
    with (output / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read_summary(output):
    return json.loads((output / "summary.json").read_text())


def test_the_command_knows_the_rooms_protocols():
    assert set(command.PROTOCOLS) == set(PROTOCOLS)


def test_two_folders_become_scores_summary_and_report(folders, tmp_path, capsys):
    predictions, references = folders
    for case in ("a", "b"):
        write_labels(references / f"{case}.nii.gz", labels())
    changed = labels()
    changed[1] = 0
    write_labels(predictions / "a.nii.gz", labels())
    write_labels(predictions / "b.nii.gz", changed)
    output = tmp_path / "new" / "results"
    assert evaluate(folders, output, "--protocol", "flare24") == 0
    rows = read_scores(output)
    assert list(rows[0]) == ["case", "organ", "dsc", "nsd", "volume_ref_ml", "volume_pred_ml"]
    assert [(row["case"], row["organ"]) for row in rows] == [
        (case, organ.name) for case in ("a", "b") for organ in ORGANS
    ]
    assert float(rows[13]["dsc"]) == 0.8  # liver of b: 2 * 24 / (36 + 24)
    summary = read_summary(output)
    liver = summary["organs"]["liver"]
    assert liver["mean_dsc"] == 0.9
    assert liver["dsc_interval_95"] == [0.8, 1.0]
    # Of the aorta slices 1 to 3 count, 4 voxels each: 2 * 8 / (12 + 8). Absent organs score 1.
    assert summary["organs"]["aorta"]["mean_dsc"] == 0.9
    assert summary["mean_dsc"] == pytest.approx((0.9 + 0.9 + 11) / 13, abs=1e-6)
    assert set(summary["organs"]) == {organ.name for organ in ORGANS}
    assert (output / "report.html").read_text().startswith("<!DOCTYPE html>")
    told = capsys.readouterr().out
    assert "DIFFER   b aorta: flare24 DSC 0.8000" in told
    assert "strict DSC 0.8571" in told


def test_the_summary_tells_phase_ones_boxes_where_predict_left_its_record(folders, tmp_path):
    predictions, references = folders
    for folder in folders:
        write_labels(folder / "a.nii.gz", labels())
    assert evaluate(folders, tmp_path / "without") == 0
    whole = {"start": [0, 0, 0], "stop": list(labels().shape)}
    record = {"cases": [{"name": "a", "status": "ok", "box": whole}]}
    (predictions / "run.json").write_text(json.dumps(record))
    assert evaluate(folders, tmp_path / "with") == 0

    assert read_summary(tmp_path / "without")["boxes"] is None
    boxes = read_summary(tmp_path / "with")["boxes"]
    assert (boxes["num_cases"], boxes["least_recall"]) == (1, 1.0)
    assert boxes["largest_volume_ratio"] >= 1.0


def test_each_label_map_is_read_once_though_boxes_are_scored_too(folders, tmp_path, monkeypatch):
    whole = {"start": [0, 0, 0], "stop": list(labels().shape)}
    record = {"cases": [{"name": "a", "status": "ok", "box": whole}]}
    (folders[0] / "run.json").write_text(json.dumps(record))
    paths = [write_labels(folder / "a.nii.gz", labels()) for folder in folders]
    read, read_label_map = [], pairs.read_label_map
    monkeypatch.setattr(
        pairs, "read_label_map", lambda path: read.append(path) or read_label_map(path)
    )

    assert evaluate(folders, tmp_path / "out") == 0

    assert read_summary(tmp_path / "out")["boxes"]["num_cases"] == 1
    assert sorted(read) == sorted(paths)


def test_another_tools_record_costs_the_boxes_alone(folders, tmp_path, capsys):
    for folder in folders:
        write_labels(folder / "a.nii.gz", labels())
    (folders[0] / "run.json").write_text('{"cases": [{"name": "a", "status": "ok"}]}')

    assert evaluate(folders, tmp_path / "out") == 0

    assert "no boxes are scored" in capsys.readouterr().err
    assert read_summary(tmp_path / "out")["boxes"] is None
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_protocols_print_where_they_differ(folders, tmp_path, capsys, protocol):
    for folder in folders:
        write_labels(folder / "a.nii.gz", labels())
    assert evaluate(folders, tmp_path / "out", "--protocol", protocol) == 0
    told = capsys.readouterr().out
    assert told.count("DIFFER") == 11  # the organs that neither holds
    assert "DIFFER   a spleen: flare24 DSC 1.0000 NSD 1.0000; strict DSC nan NSD nan" in told


def test_strict_summary_has_no_number_for_an_organ_never_scored(folders, tmp_path):
    for folder in folders:
        write_labels(folder / "a.nii.gz", labels())
    evaluate(folders, tmp_path / "out", "--protocol", "strict")
    summary = read_summary(tmp_path / "out")
    assert summary["protocol"] == "strict"
    assert summary["mean_dsc"] == 1.0
    assert summary["organs"]["spleen"]["mean_dsc"] is None
    assert read_scores(tmp_path / "out")[2]["dsc"] == "nan"


def test_missing_and_extra_files_are_reported(folders, tmp_path, capsys):
    predictions, references = folders
    for case in ("a", "b"):
        write_labels(references / f"{case}.nii.gz", labels())
    for case in ("a", "c"):
        write_labels(predictions / f"{case}.nii.gz", labels())
    assert evaluate(folders, tmp_path / "out", "--protocol", "strict") == 1
    told = capsys.readouterr().out
    assert "MISSING  b: no prediction" in told
    assert f"EXTRA    {predictions / 'c.nii.gz'}" in told
    assert "b liver: strict DSC 0.0000 NSD 0.0000; flare24 leaves it out" in told
    summary = read_summary(tmp_path / "out")
    assert summary["mean_dsc"] == pytest.approx((2 * 0.5 + 11 * 0) / 13, abs=1e-6)
    assert summary["missing_predictions"] == ["b"]
    assert summary["extra_predictions"] == ["c.nii.gz"]


def test_names_that_are_no_text_are_written_out(folders, tmp_path):
    predictions, references = folders
    names = ["é", os.fsdecode(b"\xff")]
    for name in names:
        write_labels(references / "a.nii.gz", labels()).rename(references / f"{name}.nii.gz")
        changed = labels()
        changed[1] = 0
        write_labels(predictions / "a.nii.gz", changed).rename(predictions / f"{name}.nii.gz")
    whole = {"start": [0, 0, 0], "stop": list(labels().shape)}
    cases = [{"name": name, "status": "ok", "box": whole} for name in names]
    (predictions / "run.json").write_text(json.dumps({"cases": cases}))
    output = tmp_path / "out"
    assert evaluate(folders, output) == 0
    for table in ("scores.csv", "boxes.csv"):
        rows = csv.DictReader((output / table).read_text(encoding="utf-8").splitlines())
        assert {row["case"] for row in rows} == {"é", r"\udcff"}
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "<figcaption>é, liver" in page
    assert r"<figcaption>\udcff, liver" in page


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_missing_prediction_alone_shows_in_the_exit_code(folders, tmp_path, protocol):
    predictions, references = folders
    for case in ("a", "b"):
        write_labels(references / f"{case}.nii.gz", labels())
        write_labels(predictions / f"{case}.nii.gz", labels())
    assert evaluate(folders, tmp_path / "out", "--protocol", protocol) == 0
    (predictions / "b.nii.gz").unlink()
    assert evaluate(folders, tmp_path / "out", "--protocol", protocol) == 1


def test_a_scan_on_another_grid_is_an_error_and_the_pictures_go_without_it(
    folders, tmp_path, capsys
):
    predictions, references = folders
    write_labels(references / "a.nii.gz", labels())
    write_labels(predictions / "a.nii.gz", np.roll(labels(), 1, axis=2))
    scans = tmp_path / "scans"
    scans.mkdir()
    hu = np.zeros(labels().shape, np.int16)
    write_labels(scans / "a_0000.nii.gz", hu)
    assert evaluate(folders, tmp_path / "out", "--scans", str(scans)) == 0
    write_labels(scans / "a_0000.nii.gz", hu, spacing_xyz=(1.0, 2.0, 2.5))
    assert evaluate(folders, tmp_path / "out", "--scans", str(scans)) == 1
    assert str(scans / "a_0000.nii.gz") in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").read_text().count("<figure>") == 2


def test_a_prediction_on_another_grid_is_an_error_that_names_both_files(folders, tmp_path, capsys):
    predictions, references = folders
    for case in ("a", "b"):
        write_labels(references / f"{case}.nii.gz", labels())
    write_labels(predictions / "a.nii.gz", labels(), spacing_xyz=(1.0, 2.0, 3.5))
    write_labels(predictions / "b.nii.gz", labels())
    assert evaluate(folders, tmp_path / "out", "--protocol", "strict") == 1
    told = capsys.readouterr().err
    assert str(predictions / "a.nii.gz") in told
    assert str(references / "a.nii.gz") in told
    scores = {(row["case"], row["organ"]): row["dsc"] for row in read_scores(tmp_path / "out")}
    assert scores["a", "liver"] == "0.000000"
    assert scores["b", "liver"] == "1.000000"
    # The challenge's script looks at the voxels alone.
    assert evaluate(folders, tmp_path / "out", "--protocol", "flare24") == 0


def test_wrong_use_is_exit_code_2(folders, tmp_path, capsys):
    assert evaluate(folders, tmp_path / "out") == 2
    assert "no label map in it" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        evaluate(folders, tmp_path / "out", "--protocol", "flare25")
    assert stopped.value.code == 2


def test_the_page_of_predict_is_never_replaced(folders, capsys):
    for folder in folders:
        write_labels(folder / "a.nii.gz", labels())
    predictions, references = folders
    page = predictions / "report.html"
    page.write_text("".join(page_parts({}, [PageCase(entry={"name": "a", "status": "ok"})])))
    before = page.read_bytes()
    assert evaluate(folders, predictions) == 2
    assert "report.html: shows results of predict" in capsys.readouterr().err
    assert page.read_bytes() == before
    # A page of its own is.
    assert evaluate(folders, references) == 0
    assert evaluate(folders, references) == 0


def test_an_output_that_is_a_file_is_exit_code_2(folders, tmp_path, capsys):
    for folder in folders:
        write_labels(folder / "a.nii.gz", labels())
    (tmp_path / "out").write_text("in the way")
    assert evaluate(folders, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "--output" in told
    assert "give a folder that" in told
