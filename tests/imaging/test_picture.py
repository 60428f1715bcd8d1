import numpy as np

from app.imaging.picture import (
    Plane,
    busiest_slice,
    outline,
    paint,
    three_planes,
)
from app.labels import ORGANS

LIVER, SPLEEN = 1, 3


def empty(shape=(4, 5, 6)):
    return np.zeros(shape, np.uint8)


def test_two_organs_beat_one_large_one():
    labels = empty()
    labels[1] = LIVER
    labels[2, 0, 0] = LIVER
    labels[2, 4, 5] = SPLEEN
    assert busiest_slice(labels, axis=0) == 2


def test_among_slices_with_equally_many_organs_the_fullest_is_shown():
    labels = empty()
    labels[:, 1, 2] = LIVER
    labels[:, 3, 2:5] = LIVER
    assert busiest_slice(labels, axis=1) == 3


def test_an_empty_label_map_shows_the_middle():
    assert [busiest_slice(empty(), axis) for axis in range(3)] == [2, 2, 3]


def test_planes_show_the_head_up_and_the_front_up():
    scan = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    labels = empty()
    labels[3, 0, 0] = LIVER  # head, front, the patient's right
    axial, coronal, sagittal = three_planes(scan, labels, (3.0, 2.0, 1.0), (3, 0, 0))
    for plane in (axial, coronal, sagittal):
        assert plane.labels[0, 0] == LIVER
        assert plane.hu[0, 0] == scan[3, 0, 0]
    assert axial.sides == ("R", "L", "A", "P")
    assert coronal.sides == ("R", "L", "S", "I")
    assert sagittal.sides == ("A", "P", "S", "I")
    assert axial.spacing_mm == (2.0, 1.0)
    assert coronal.spacing_mm == (3.0, 1.0)
    assert sagittal.spacing_mm == (3.0, 2.0)


def test_outline_is_the_rim_inside_the_organ():
    labels = empty((5, 6, 1))[:, :, 0]
    labels[1:4, 1:5] = LIVER
    expected = labels > 0
    expected[2, 2:4] = False
    assert (outline(labels) == expected).all()


def test_painted_pixels_are_square():
    plane = Plane(
        name="thick slices",
        sides=("R", "L", "A", "P"),
        hu=np.zeros((4, 6), np.int16),
        labels=np.zeros((4, 6), np.uint8),
        spacing_mm=(5.0, 1.5),
    )
    assert paint(plane, pixels_per_mm=2.0).size == (18, 40)  # (columns, rows)


def test_window_runs_from_black_to_white_and_organs_have_their_color():
    plane = Plane(
        name="one row",
        sides=("R", "L", "A", "P"),
        hu=np.array([[-1000, 3000, 0]], np.int16),
        labels=np.array([[0, 0, LIVER]], np.uint8),
        spacing_mm=(1.0, 1.0),
    )
    pixels = np.asarray(paint(plane, pixels_per_mm=1.0))
    assert pixels[0].tolist() == [[0, 0, 0], [255, 255, 255], list(ORGANS[0].color)]
