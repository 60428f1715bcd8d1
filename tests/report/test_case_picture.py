import numpy as np

from app.imaging.geometry import Geometry
from app.imaging.volume import Volume
from app.labels import ORGANS
from app.report.picture import AROUND_ORGANS_MM, LEGEND_PIXELS, draw_picture, shown_box
from app.report.viewing_copy import viewing_copy

LIVER = 1


def volumes(shape, spacing_mm):
    hu = np.full(shape, -1000, np.int16)
    hu[:, 10:30, 6:20] = 40
    labels = np.zeros(shape, np.uint8)
    labels[shape[0] // 2, 14:20, 8:14] = LIVER
    return Volume(hu, Geometry(shape=shape, spacing_mm=spacing_mm)), labels


def test_a_long_scan_is_shown_around_the_organs_and_the_body_only():
    scan, labels = volumes((101, 48, 36), (5.0, 2.0, 3.0))
    box = shown_box(viewing_copy(scan, labels), scan)
    reach = int(AROUND_ORGANS_MM / 5)
    assert (box.start[0], box.stop[0]) == (50 - reach, 51 + reach)
    assert 4 <= box.start[1] <= 10
    assert 30 <= box.stop[1] <= 38
    assert 2 <= box.start[2] <= 6
    assert 20 <= box.stop[2] <= 26


def test_without_organs_the_whole_length_is_shown():
    scan, labels = volumes((11, 48, 36), (5.0, 2.0, 3.0))
    box = shown_box(viewing_copy(scan, 0 * labels), scan)
    assert (box.start[0], box.stop[0]) == (0, 11)


def test_air_alone_is_drawn_too():
    scan, labels = volumes((11, 48, 36), (5.0, 2.0, 3.0))
    air = Volume(np.full_like(scan.array, -1000), scan.geometry)
    empty = 0 * labels
    picture = draw_picture(air, empty, viewing_copy(air, empty), {}, title="nothing")
    assert picture.mode == "RGB"


def test_warnings_stand_below_the_legend_and_inside_the_picture():
    scan, labels = volumes((41, 48, 36), (5.0, 2.0, 3.0))
    copy = viewing_copy(scan, labels)
    plain, warned, crowded = (
        np.asarray(draw_picture(scan, labels, copy, {}, title="a case", warnings=warnings))
        for warnings in ((), ["the liver may be cut off"], 99 * ["in pieces: stomach"])
    )
    assert plain.shape == warned.shape == crowded.shape
    changed = [np.argwhere((plain != drawn).any(axis=-1)) for drawn in (warned, crowded)]
    for places in changed:
        assert places[:, 1].min() > plain.shape[1] - LEGEND_PIXELS - 30
        assert places.max(axis=0)[0] < plain.shape[0] - 20
    assert len(changed[1]) > len(changed[0]) > 50


def test_legend_has_the_color_of_every_organ():
    scan, labels = volumes((41, 48, 36), (5.0, 2.0, 3.0))
    picture = draw_picture(
        scan,
        labels,
        viewing_copy(scan, labels),
        {organ.name: 1234.5 for organ in ORGANS},
        title="a case",
    )
    assert picture.width <= 1520
    assert picture.height <= 1130
    pixels = np.asarray(picture)[:, -LEGEND_PIXELS - 30 :].reshape(-1, 3)
    drawn = {tuple(color) for color in np.unique(pixels, axis=0).tolist()}
    assert {organ.color for organ in ORGANS} <= drawn


def test_legend_leaves_out_organs_that_nobody_asked_for():
    scan, labels = volumes((41, 48, 36), (5.0, 2.0, 3.0))
    asked_for = {"liver": 12.0, "spleen": 0.0}
    picture = draw_picture(scan, labels, viewing_copy(scan, labels), asked_for, title="a case")
    pixels = np.asarray(picture)[:, -LEGEND_PIXELS - 30 :].reshape(-1, 3)
    found = [organ.name for organ in ORGANS if (pixels == organ.color).all(axis=1).any()]
    assert found == ["liver", "spleen"]
