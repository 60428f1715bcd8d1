import re
from html.parser import HTMLParser

import numpy as np
import pytest
import SimpleITK as sitk
from label_files import SPACING_XYZ, make_folders, write_labels

from app.evaluation.box_plot import LABEL_PIXELS, PLOT_PIXELS, box_plot
from app.evaluation.protocols import Score
from app.evaluation.report import write_report
from app.evaluation.score import evaluate
from app.evaluation.summary import summarize
from app.evaluation.worst import (
    ADDED_COLOR,
    BOTH_COLOR,
    MISSED_COLOR,
    NUM_WORST,
    OUTLINE_COLOR,
    WorstResults,
    draw_disagreement,
)

NAN = float("nan")


def report(tmp_path, reference, prediction, case="a"):
    predictions, references = make_folders(tmp_path)
    write_labels(references / f"{case}.nii.gz", reference)
    write_labels(predictions / f"{case}.nii.gz", prediction)
    evaluation = evaluate(predictions, references, protocol="strict")
    path = tmp_path / "report.html"
    write_report(path, evaluation, summarize(evaluation.results["strict"]), "strict")
    return path.read_text(encoding="utf-8")


class TagCounter(HTMLParser):
    """Checks that every tag is closed in turn, and counts them."""

    VOID = frozenset({"meta", "img", "line", "rect", "circle"})

    def __init__(self):
        super().__init__()
        self.open, self.counts = [], {}

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_reaches_for_nothing_outside_itself(tmp_path):
    reference = np.zeros((6, 7, 8), np.uint8)
    reference[1:4, 1:4, 1:5], reference[5, 6, 7] = 1, 3
    prediction = np.roll(reference, 1, axis=2)
    text = report(tmp_path, reference, prediction, case="a <b> & c")
    page = TagCounter()
    page.feed(text)
    assert page.open == []
    assert page.counts["svg"] == 2
    assert page.counts["img"] == 2
    assert "a &lt;b&gt; &amp; c" in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "http" not in text


def test_a_page_without_faults_says_so(tmp_path):
    reference = np.ones((3, 4, 5), np.uint8)
    assert "all that was scored is perfect" in report(tmp_path, reference, reference)


def x_of(value):
    return f"{LABEL_PIXELS + PLOT_PIXELS * value}"


def test_box_plot_shows_quartiles_and_marks_what_lies_beyond_the_whiskers():
    # Quartiles of the six values: 0.5, 0.6, 0.7; whiskers reach 0.2 to 1.0.
    drawn = box_plot("DSC", [("liver", "red", [0.1, 0.5, 0.5, 0.7, 0.7, 0.7, NAN])])
    assert "liver" in drawn
    box = re.search(r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)"', drawn)
    assert float(box[1]) == pytest.approx(float(x_of(0.5)))
    assert float(box[2]) == pytest.approx(PLOT_PIXELS * 0.2)
    assert re.findall(r"<title>([\d.]+)</title>", drawn) == ["0.100"]


def test_box_plot_of_one_value_and_of_none():
    assert "<rect" in box_plot("NSD", [("liver", "red", [0.5])])
    assert "not scored" in box_plot("NSD", [("liver", "red", [NAN])])


def test_shared_missed_and_added_voxels_have_their_colors():
    mask_gt, mask_pred = np.zeros((2, 3, 1, 6), bool)
    mask_gt[:, :, :4], mask_pred[:, :, 2:] = True, True
    picture = np.asarray(draw_disagreement(mask_gt, mask_pred, (3.0, 2.0, 1.0)))
    colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    assert colors == {
        (0, 0, 0), MISSED_COLOR, ADDED_COLOR, BOTH_COLOR, OUTLINE_COLOR
    }  # fmt: skip
    # The patient's right, x = 0, is on the left.
    columns = [np.argwhere((picture == color).all(axis=2))[:, 1] for color in
               (MISSED_COLOR, ADDED_COLOR)]  # fmt: skip
    assert columns[0].min() < columns[1].min()


def test_the_scan_shows_where_both_agree_and_where_there_is_no_organ():
    mask_gt, mask_pred = np.zeros((2, 3, 9, 12), bool)
    mask_gt[:, 2:7, 2:8], mask_pred[:, 2:7, 4:10] = True, True
    hu = np.full(mask_gt.shape, 41, np.int16)  # 201 of the window's 400 HU: a gray of 128
    picture = np.asarray(draw_disagreement(mask_gt, mask_pred, (3.0, 2.0, 1.0), hu))
    seen = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    # 0.55 * 128 + 0.45 * color
    missed, added = (
        tuple(round(0.55 * 128 + 0.45 * channel) for channel in color)
        for color in (MISSED_COLOR, ADDED_COLOR)
    )
    assert seen == {(0, 0, 0), (128, 128, 128), missed, added, OUTLINE_COLOR}


def test_a_scan_in_another_orientation_lies_under_its_reference(tmp_path):
    reference = np.zeros((6, 9, 12), np.uint8)
    reference[1:5, 2:7, 3:8] = 1
    hu = np.full(reference.shape, -1000, np.int16)
    hu[reference > 0] = 1000
    predictions, references = make_folders(tmp_path)
    scans = tmp_path / "scans"
    scans.mkdir()
    write_labels(references / "a.nii.gz", reference)
    write_labels(predictions / "a.nii.gz", np.roll(reference, 1, axis=2))
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(SPACING_XYZ)
    pictures = []
    for orientation in ("LPS", "SAR"):
        sitk.WriteImage(sitk.DICOMOrient(image, orientation), str(scans / "a_0000.nii.gz"))
        evaluation = evaluate(predictions, references, protocol="strict", scans=scans)
        assert evaluation.problems["strict"] == []
        pictures.append(np.asarray(evaluation.worst.results[0].picture))
    assert (pictures[0] == pictures[1]).all()
    # The bright organ, besides its outline.
    assert (pictures[0] == 255).all(axis=2).mean() > 0.05


def test_only_the_ten_worst_are_kept_and_what_is_not_scored_is_not_among_them():
    worst = WorstResults()
    mask = np.ones((2, 3, 4), bool)
    for number in range(15):
        dsc = (number * 7 % 15) / 15  # 0, 7/15, 14/15, 6/15 ...
        worst.offer(f"case{number}", "liver", Score(dsc, dsc), mask, ~mask, (3.0, 2.0, 1.0))
    worst.offer("none", "liver", Score(NAN, NAN), mask, mask, (3.0, 2.0, 1.0))
    assert [round(result.rank * 15) for result in worst.results] == list(range(NUM_WORST))
