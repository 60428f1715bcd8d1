import tracemalloc

import numpy as np
import pytest

from app.labels import ORGANS
from app.report.front_view import front_view

LIVER, SPLEEN, ADRENAL = 1, 3, 7
SPACING_MM = (3.0, 2.0, 2.5)
SHAPE = (40, 50, 44)


def rendered(labels):
    return front_view(labels, SPACING_MM, pixels_per_mm=0.5)


def closest_organ(pixel):
    """Name the organ whose hue a shaded pixel has."""
    hue = pixel[:3] / np.linalg.norm(pixel[:3])
    hues = {organ.value: np.divide(organ.color, np.linalg.norm(organ.color)) for organ in ORGANS}
    return max(hues, key=lambda value: float(hues[value] @ hue))


def test_nothing_is_drawn_of_an_empty_label_map():
    image = rendered(np.zeros(SHAPE, np.uint8))
    assert image.shape == (60, 55, 4)
    assert not image.any()


def test_head_is_up_and_the_patients_right_is_left():
    labels = np.zeros(SHAPE, np.uint8)
    labels[28:38, 20:30, 4:14] = LIVER  # towards the head, on the right: small x in LPS
    alpha = rendered(labels)[..., 3]
    assert alpha[10, 11] == 255
    assert not alpha[35:].any()
    assert not alpha[:, 30:].any()


def test_a_header_with_far_too_large_voxels_takes_no_more_memory(monkeypatch):
    monkeypatch.setattr("app.report.front_view.MOST_MM", 150.0, raising=False)
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:36, 10:40, 4:40] = LIVER
    images, peaks = [], []
    # 96 x 60 x 90 mm, and 960 x 600 x 900 mm: 65 million voxels of 2 mm.
    for times in (1, 10):
        tracemalloc.start()
        spacing_mm = (3.0 * times, 2.0 * times, 2.5 * times)
        images.append(front_view(labels, spacing_mm, pixels_per_mm=0.5 / times))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 8 * peaks[0]
    assert images[0].shape == images[1].shape == (60, 55, 4)
    # Smoothed more widely, the rim alone looks different.
    assert np.abs(np.subtract(*images, dtype=int)[..., 3]).mean() < 12


def test_what_lies_in_front_hides_what_lies_behind():
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:30, 6:12, 12:32] = LIVER
    labels[10:30, 30:40, 12:32] = SPLEEN
    middle = (60 - int(20 * 1.5), int(22 * 1.25))
    assert closest_organ(rendered(labels)[middle]) == LIVER
    behind_first = labels[:, ::-1].copy()
    assert closest_organ(rendered(behind_first)[middle]) == SPLEEN


def test_an_organ_one_voxel_thin_does_not_vanish():
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:20, 20:21, 20:21] = ADRENAL
    assert (rendered(labels)[..., 3] > 0).any()


@pytest.mark.parametrize("shape", [(1, 30, 30), (30, 1, 30), (30, 30, 1), (1, 1, 1), (2, 2, 2)])
def test_a_label_map_one_voxel_thin_is_drawn(shape):
    labels = np.full(shape, LIVER, np.uint8)
    image = front_view(labels, (2.0, 2.0, 2.0), pixels_per_mm=0.5)
    assert (image[..., 3] > 0).any()
