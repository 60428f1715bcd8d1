import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
from stand_ins import BRIGHT_ORGAN, DARK_ORGAN, TISSUE_HU

import app
from app import api
from app.cascade.pipeline import segment_scan
from app.errors import CascadeError, MemoryLimitError, UnsupportedScanError, UsageError


@pytest.fixture(scope="module")
def segmenter(stand_in_weights):
    return app.Segmenter(weights=stand_in_weights, threads=1, precision="f32")


@pytest.fixture(scope="module")
def image(body):
    """Give the scan as an image that lies obliquely to LPS."""
    hu, _, spacing_mm = body
    scan = sitk.GetImageFromArray(hu)
    scan.SetSpacing(spacing_mm[::-1])
    scan.SetOrigin((-40.0, 25.0, 310.0))
    return sitk.DICOMOrient(scan, "ASR")


def test_image_gives_the_labels_that_its_file_gives(segmenter, image, cascade, tmp_path):
    sitk.WriteImage(image, tmp_path / "scan.nrrd")
    expected = segment_scan(
        tmp_path / "scan.nrrd", tmp_path / "labels.nrrd", cascade, statistics=True
    )
    labels, report = segmenter.segment(image, statistics=True)
    written = sitk.ReadImage(tmp_path / "labels.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(written))
    assert labels.GetDirection() == image.GetDirection()
    assert labels.GetOrigin() == image.GetOrigin()
    assert report.volumes_ml == expected.volumes_ml
    assert report.organs == expected.organs
    assert report.box == expected.box
    assert set(report.seconds) == {"locate", "segment", "restore", "check", "measure"}


def test_array_with_its_grid_gives_what_the_image_gives(segmenter, image):
    expected, expected_report = segmenter.segment(image)
    direction_xyz = np.reshape(image.GetDirection(), (3, 3))
    found = segmenter.segment(
        sitk.GetArrayFromImage(image).astype(np.float32),
        spacing_mm=image.GetSpacing()[::-1],
        origin_mm=image.GetOrigin()[::-1],
        direction=direction_xyz[::-1, ::-1],
    )
    assert isinstance(found.labels, np.ndarray)
    assert found.labels.dtype == np.uint8
    assert np.array_equal(found.labels, sitk.GetArrayFromImage(expected))
    assert found.report.volumes_ml == expected_report.volumes_ml


def test_only_the_organs_asked_for_come_back_where_they_were(segmenter, image):
    everything = sitk.GetArrayFromImage(segmenter.segment(image).labels)
    assert {BRIGHT_ORGAN, DARK_ORGAN} <= set(np.unique(everything))
    labels, report = segmenter.segment(image, organs=["spleen"])
    only_spleen = np.where(everything == DARK_ORGAN, DARK_ORGAN, 0)
    assert np.array_equal(sitk.GetArrayFromImage(labels), only_spleen)
    assert set(report.volumes_ml) == {"spleen"}


def test_fast_runs_no_more_patches(segmenter, image):
    slow, fast = segmenter.segment(image), segmenter.segment(image, fast=True)
    assert 0 < fast.report.num_patches <= slow.report.num_patches


def test_confidence_is_that_of_the_file_and_unpacking_stays_as_it_is(
    segmenter, image, cascade, tmp_path
):
    sitk.WriteImage(image, tmp_path / "scan.nrrd")
    segment_scan(
        tmp_path / "scan.nrrd",
        tmp_path / "labels.nrrd",
        cascade,
        confidence_path=tmp_path / "confidence.nrrd",
    )
    found = segmenter.segment(image, confidence=True)
    labels, report = found
    assert labels is found.labels
    assert list(report.seconds)[-1] == "confidence"
    written = sitk.ReadImage(tmp_path / "confidence.nrrd")
    percent = sitk.GetArrayFromImage(found.confidence)
    assert np.array_equal(percent, sitk.GetArrayFromImage(written))
    assert percent.max() == 100
    assert found.confidence.GetDirection() == image.GetDirection()


def test_confidence_of_an_array_is_an_array_and_only_made_when_asked_for(segmenter, body):
    hu, _, spacing_mm = body
    found = segmenter.segment(hu, spacing_mm=spacing_mm, confidence=True)
    assert found.confidence.shape == hu.shape
    assert found.confidence.dtype == np.uint8
    assert segmenter.segment(hu, spacing_mm=spacing_mm).confidence is None


def test_confidence_where_no_abdomen_was_found_is_zero(segmenter):
    tissue = np.full((9, 10, 11), TISSUE_HU, np.int16)
    found = segmenter.segment(tissue, spacing_mm=(3.0, 2.0, 2.5), confidence=True)
    assert not found.confidence.any()


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (np.zeros((4, 5, 6)), {}, UsageError, "spacing_mm"),
        (np.zeros((5, 6)), {"spacing_mm": (1, 1, 1)}, UsageError, r"\(5, 6\)"),
        (np.zeros((4, 5, 6)), {"spacing_mm": (1, -1, 1)}, UnsupportedScanError, "positive"),
        (
            np.zeros((4, 5, 6)),
            {"spacing_mm": (1, 1, 1), "organs": ["heart"]},
            UsageError,
            "heart.*liver",
        ),
        (sitk.Image(4, 5, sitk.sitkInt16), {}, UnsupportedScanError, "2 dimensions"),
        (np.zeros((4, 5, 6)), {"spacing_mm": 3.0}, UsageError, "spacing_mm: 3.0 found"),
        (np.zeros((4, 5, 6)), {"spacing_mm": (1, 1)}, UsageError, r"spacing_mm: \(1, 1\) found"),
        (np.zeros((4, 5, 6)), {"spacing_mm": "1 mm"}, UsageError, "spacing_mm: '1 mm' found"),
        (
            np.zeros((4, 5, 6)),
            {"spacing_mm": (1, 1, 1), "origin_mm": 0},
            UsageError,
            "origin_mm: 0 found",
        ),
        (
            np.zeros((4, 5, 6)),
            {"spacing_mm": (1, 1, 1), "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)},
            UsageError,
            "direction: .* found; give 3 rows",
        ),
        (
            np.zeros((4, 5, 6)),
            {"spacing_mm": (2, 2, 2), "direction": 2 * np.eye(3)},
            UsageError,
            "unit vectors",
        ),
        (
            np.zeros((4, 5, 6)),
            {"spacing_mm": (1, 1, 1), "direction": [[1, 0, 0], [0, 0.8, 0], [0, 0.6, 1]]},
            UnsupportedScanError,
            "degrees away from right angles",
        ),
    ],
)
def test_wrong_use_is_told(segmenter, image, options, error, message):
    with pytest.raises(error, match=message) as raised:
        segmenter.segment(image, **options)
    assert isinstance(raised.value, CascadeError)


def test_spacing_beside_an_image_is_wrong_use(segmenter, image):
    with pytest.raises(UsageError, match="has its own"):
        segmenter.segment(image, spacing_mm=(1.0, 1.0, 1.0))


def test_scans_of_several_threads_give_what_they_give_one_by_one(segmenter, body):
    hu, _, spacing_mm = body
    scans = [hu, hu[:, ::-1], hu[:, :, ::-1], hu[2:]]
    segment = partial(segmenter.segment, spacing_mm=spacing_mm)
    expected = [segment(scan).labels for scan in scans]
    with ThreadPoolExecutor(len(scans)) as threads:
        found = list(threads.map(segment, scans))
    for (labels, _), alone in zip(found, expected, strict=True):
        assert np.array_equal(labels, alone)


def test_networks_are_opened_once_by_first_calls_at_the_same_time(monkeypatch):
    opened = []

    class Opening:
        def __init__(self):
            opened.append(self)
            time.sleep(0.1)  # what opening takes, for the others to come meanwhile

        def segment(self, image):
            return self

    monkeypatch.setattr(api, "Segmenter", Opening)
    api._only_segmenter.cache_clear()
    try:
        with ThreadPoolExecutor(4) as threads:
            used = list(threads.map(app.segment, range(4)))
    finally:
        api._only_segmenter.cache_clear()
    assert used == opened * 4


def test_scan_that_waits_for_others_is_not_read_before_its_turn(segmenter, image, monkeypatch):
    events = []

    class Turn:
        def __enter__(self):
            events.append("turn")

        def __exit__(self, *_):
            events.append("end")

    def adopt(image):
        events.append("read")
        return adopt_image(image)

    adopt_image = api.adopt_image
    monkeypatch.setattr(api, "adopt_image", adopt)
    monkeypatch.setattr(segmenter, "_one_scan_at_a_time", Turn())
    segmenter.segment(image)
    assert events == ["turn", "read", "end"]


def test_memory_limit_holds_in_memory_too_and_says_how_it_is_raised(stand_in_weights, image):
    small = app.Segmenter(weights=stand_in_weights, threads=1, memory="64MiB")
    with pytest.raises(MemoryLimitError, match="image in memory.*--memory-limit or memory="):
        small.segment(image)


def test_precision_that_there_is_not_is_refused_when_the_networks_are_opened(stand_in_weights):
    with pytest.raises(UsageError, match="precision must be auto, f32 or bf16, got 'fp16'"):
        app.Segmenter(weights=stand_in_weights, precision="fp16")


def test_the_package_offers_the_api_by_name_only():
    assert app.segment.__module__ == "app.api"
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = app.nothing_here


def odd_scans(body):
    """Give scans of which a reader has something to tell."""
    hu, _, spacing_mm = body
    around = np.full_like(hu, -1000)
    around[:, 6:58, 6:50] = hu[:, 6:58, 6:50]
    yield "stored as HU +", around + np.int16(1024), spacing_mm
    yield "unusual voxel spacing", hu, (11.0, *spacing_mm[1:])
    broken = hu.astype(np.float32)
    broken[0, 0, :4] = (np.inf, -np.inf, np.nan, 1e9)
    yield "hold no number", broken, spacing_mm


@pytest.mark.parametrize("index", range(3))
def test_what_a_file_is_told_of_an_image_and_an_array_are_told_of_too(
    segmenter, body, cascade, tmp_path, index
):
    told, voxels, spacing_mm = list(odd_scans(body))[index]
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing_mm[::-1])
    before = voxels.copy()
    sitk.WriteImage(image, tmp_path / "scan.nrrd")
    expected = segment_scan(tmp_path / "scan.nrrd", tmp_path / "labels.nrrd", cascade)
    assert told in expected.warnings[0]
    written = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "labels.nrrd"))
    labels, report = segmenter.segment(image)
    assert report.warnings == expected.warnings
    assert np.array_equal(sitk.GetArrayFromImage(labels), written)
    labels, report = segmenter.segment(voxels, spacing_mm=spacing_mm)
    assert report.warnings == expected.warnings
    assert np.array_equal(labels, written)
    assert np.array_equal(voxels, before, equal_nan=True)
