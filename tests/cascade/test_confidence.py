import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.special import softmax
from stand_ins import DARK_ORGAN, TISSUE_HU, source_of

from app.cascade.confidence import confidence_map
from app.cascade.patches import STEPS_PER_LOGIT, PatchScores
from app.cascade.pipeline import segment_scan
from app.cascade.segment import ClassScores, Region, best_class
from app.imaging.geometry import Box, Geometry

SPACING_MM = (2.5, 0.8, 1.1)


def straight(shape, spacing_mm=SPACING_MM):
    return source_of(Geometry(shape=shape, spacing_mm=spacing_mm))


def class_scores(logits, grid_shape=None, window=None, box=None, spacing_mm=SPACING_MM):
    """Give scores of all of a window of the scan's own grid, or of a coarser one."""
    grid_shape = grid_shape or logits.shape[1:]
    window = window or Box(start=(0, 0, 0), stop=grid_shape)
    region = Region(
        grid_shape=grid_shape,
        spacing_mm=spacing_mm,
        window=window,
        located=window,
        box=box or window,
    )
    steps = np.rint(logits * STEPS_PER_LOGIT).astype(np.int16)
    patches = PatchScores(steps, np.ones(steps.shape[1:], np.float16))
    return ClassScores(region=region, patches=patches, labels=best_class(steps))


def test_on_the_networks_own_grid_it_is_the_greatest_softmax():
    logits = np.random.default_rng(3).integers(-1000, 1000, (14, 5, 7, 6)) / STEPS_PER_LOGIT
    box = Box(start=(2, 3, 1), stop=(7, 10, 7))
    percent = confidence_map(class_scores(logits, (9, 12, 10), box), straight((9, 12, 10)))
    expected = 100 * softmax(logits, axis=0).max(axis=0)
    assert np.abs(percent[box.slices] - expected).max() <= 0.51
    percent[box.slices] = 0
    assert not percent.any()


def test_between_two_of_the_networks_slices_it_lies_between_theirs():
    logits = np.full((14, 2, 3, 4), -30)
    logits[0] = 0  # certain of background in the lower slice
    logits[4, 1] = 0  # torn between background and an organ in the upper one
    whole = Box(start=(0, 0, 0), stop=(8, 3, 4))
    spacing_mm = (4 * SPACING_MM[0], *SPACING_MM[1:])
    scores = class_scores(logits, box=whole, spacing_mm=spacing_mm)
    percent = confidence_map(scores, straight((8, 3, 4)))
    # The two slices lie at 1.5 and 5.5 of the eight: a step of 12.5 for each in between.
    assert percent[:, 1, 2] == pytest.approx([100, 100, 94, 81, 69, 56, 50, 50], abs=0.6)


def test_where_phase_two_did_not_look_nothing_is_known():
    logits = np.zeros((14, 6, 7, 8))
    logits[0] = 20
    seen = np.zeros((6, 7, 8), bool)
    seen[1:4, 2:6, 3:] = True
    seen[1:3, 2:4, 3:5] = False  # between two patches, inside the box
    scores = class_scores(logits)
    scores.patches.weights[~seen] = 0
    percent = confidence_map(scores, straight((6, 7, 8)))
    assert np.array_equal(percent, np.where(seen, 100, 0))


def test_it_takes_little_more_memory_than_the_image_itself():
    logits = np.zeros((14, 10, 20, 24))
    shape = (60, 200, 240)
    spacing_mm = tuple(np.multiply(SPACING_MM, np.divide((10, 20, 24), shape)).tolist())
    network_mm = tuple(np.multiply(spacing_mm, np.divide(shape, (10, 20, 24))).tolist())
    scores = class_scores(logits, box=Box(start=(0, 0, 0), stop=shape), spacing_mm=network_mm)
    tracemalloc.start()
    confidence_map(scores, straight(shape, spacing_mm))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    image, plane = 60 * 200 * 240, 4 * 200 * 240
    assert peak < image + 6 * plane


@pytest.mark.parametrize("direction", [np.eye(3), [[0, 0, 1], [0, -1, 0], [1, 0, 0]]])
def test_the_file_lies_as_the_scan_does_and_doubts_its_borders(tmp_path, cascade, body, direction):
    hu, _, spacing_mm = body
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    image.SetDirection(np.ravel(direction).astype(float))
    scan_path, label_path, path = (tmp_path / f"{name}.nii.gz" for name in ("scan", "a", "b"))
    sitk.WriteImage(image, scan_path)
    report = segment_scan(scan_path, label_path, cascade, confidence_path=path)
    assert list(report.seconds)[-1] == "confidence"
    found, labels = sitk.ReadImage(path), sitk.ReadImage(label_path)
    assert found.GetPixelID() == sitk.sitkUInt8
    assert found.GetDirection() == pytest.approx(labels.GetDirection())
    percent, organ = (sitk.GetArrayFromImage(one) for one in (found, labels))
    organ = organ == DARK_ORGAN
    core = np.roll(organ, 3, axis=2) & np.roll(organ, -3, axis=2)
    assert percent.max() == 100
    assert percent[core].mean() > 99
    assert percent[organ & ~core].mean() < percent[core].mean()


def test_a_scan_without_an_abdomen_was_not_looked_at(tmp_path, cascade):
    image = sitk.GetImageFromArray(np.full((9, 10, 11), TISSUE_HU, np.int16))
    scan_path, path = tmp_path / "scan.nii", tmp_path / "confidence.nii"
    sitk.WriteImage(image, scan_path)
    segment_scan(scan_path, tmp_path / "labels.nii", cascade, confidence_path=path)
    assert not sitk.GetArrayFromImage(sitk.ReadImage(path)).any()
