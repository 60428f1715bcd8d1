import csv
import json

import numpy as np
import pytest
from label_files import make_folders, write_labels

from app.errors import UnreadableScanError
from app.evaluation.boxes import read_boxes, score_box, summarize_boxes, write_boxes
from app.evaluation.score import evaluate
from app.imaging.geometry import Box, Geometry
from app.imaging.io import write_volume
from app.imaging.volume import Volume

SHAPE = (8, 10, 12)


def score_boxes(predictions, references):
    boxes = read_boxes(predictions)
    return evaluate(predictions, references, protocol="strict", boxes=boxes).boxes


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path)


@pytest.fixture
def organs():
    """Two organs whose smallest box is 4 x 5 x 6 voxels."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 3:8, 4:7] = 1
    labels[2:4, 3:8, 7:10] = 5
    return labels


def test_a_box_is_measured_against_the_smallest_one(organs):
    whole = score_box("a", Box.between((1, 3, 4), (7, 8, 10)), organs)
    cut = score_box("b", Box.between((2, 3, 4), (6, 8, 7)), organs)

    assert (whole.recall, whole.volume_ratio) == (1.0, pytest.approx(6 / 4))
    # 60 of 90 organ voxels, half the box.
    assert (cut.recall, cut.volume_ratio) == (pytest.approx(60 / 90), pytest.approx(0.5))


def test_no_box_holds_nothing_and_is_right_where_nothing_is(organs):
    missed = score_box("a", None, organs)
    right = score_box("b", None, np.zeros(SHAPE, np.uint8))
    false = score_box("c", Box.between((0, 0, 0), (2, 2, 2)), np.zeros(SHAPE, np.uint8))

    assert (missed.recall, missed.found, missed.has_organs) == (0.0, False, True)
    assert (right.recall, right.found, right.has_organs) == (1.0, False, False)
    assert (false.found, false.has_organs, false.volume_ratio) == (True, False, None)


def test_the_worst_box_sums_up_many(organs):
    empty = np.zeros(SHAPE, np.uint8)
    scores = [
        score_box("a", Box.between((1, 3, 4), (7, 8, 10)), organs),
        score_box("b", Box.between((2, 3, 4), (6, 8, 7)), organs),
        score_box("c", Box.between((0, 0, 0), (2, 2, 2)), empty),
    ]
    summary = summarize_boxes(scores)

    assert (summary.num_cases, summary.num_without_organs_boxed) == (3, 1)
    assert summary.least_recall == pytest.approx(60 / 90)
    assert summary.largest_volume_ratio == pytest.approx(1.5)
    assert summary.mean_volume_ratio == pytest.approx(1.0)
    nothing = summarize_boxes(scores[2:])
    assert (nothing.least_recall, nothing.largest_volume_ratio) == (None, None)


def test_boxes_come_from_the_record_and_organs_from_any_orientation(organs, tmp_path):
    predictions, references = tmp_path / "out", tmp_path / "truth"
    predictions.mkdir()
    references.mkdir()
    # Stored from the head down: the first stored slice is the last canonical one.
    spacing_mm = (3.0, 1.0, 2.0)
    turned = Geometry(
        shape=SHAPE,
        spacing_mm=spacing_mm,
        origin_mm=(0.0, 0.0, 0.0),
        direction=((-1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)),
    )
    for folder in (predictions, references):
        write_volume(Volume(organs[::-1].copy(), turned), folder / "a.nii.gz")
    box = {"start": [2, 3, 4], "stop": [6, 8, 10]}
    cases = [{"name": "a", "status": "ok", "box": box}, {"name": "b", "status": "failed"}]
    (predictions / "run.json").write_text(json.dumps({"cases": cases}))

    scores = score_boxes(predictions, references)
    write_boxes(tmp_path / "boxes.csv", scores)

    assert [(score.case, score.recall, score.volume_ratio) for score in scores] == [("a", 1.0, 1.0)]
    with (tmp_path / "boxes.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["case"], float(row["organ_recall"]), float(row["volume_ratio"])) == ("a", 1, 1)


def test_a_reference_that_is_broken_or_on_another_grid_has_no_box_score(folders, organs):
    predictions, references = folders
    for name in ("a", "b", "c"):
        write_labels(predictions / f"{name}.nii.gz", organs)
    write_labels(references / "a.nii.gz", organs)
    write_labels(references / "b.nii.gz", organs[1:])
    (references / "c.nii.gz").write_bytes(b"broken")
    box = {"start": [2, 3, 4], "stop": [6, 8, 10]}
    cases = [{"name": name, "status": "ok", "box": box} for name in ("a", "b", "c")]
    (predictions / "run.json").write_text(json.dumps({"cases": cases}))

    assert [score.case for score in score_boxes(predictions, references)] == ["a"]


def test_label_maps_from_elsewhere_have_no_boxes_and_a_broken_record_is_named(tmp_path):
    assert read_boxes(tmp_path) == {}

    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UnreadableScanError, match=r"run\.json"):
        read_boxes(tmp_path)
