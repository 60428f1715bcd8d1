import numpy as np
import pytest

from app.cascade.locate import Abdomen
from app.cascade.patches import PatchScores
from app.cascade.regrow import find_cuts, grow
from app.cascade.segment import ClassScores, Region
from app.imaging.geometry import Box, Geometry

GEOMETRY = Geometry(shape=(60, 100, 120), spacing_mm=(5.0, 2.0, 1.0))
BOX = Box(start=(20, 30, 0), stop=(36, 66, 84))  # 80 x 72 x 84 mm, at the scan's edge in x
GRID = (150, 134, 80)  # 300 x 201 x 120 mm: in y it reaches half a millimeter beyond the scan
SPACING_MM = (2.0, 1.5, 1.5)
WINDOW = Box(start=(50, 40, 0), stop=(90, 88, 56))


def abdomen(box=BOX):
    return Abdomen(
        box=box,
        geometry=GEOMETRY,
        foreground=np.zeros((75, 50, 30), bool),
        spacing_mm=(4.0, 4.0, 4.0),
    )


def scores_with(value, where, located=WINDOW, window=WINDOW):
    steps = np.full((14, *window.shape), -9, np.int16)
    steps[0] = 0
    steps[value][where] = 9
    labels = np.zeros(window.shape, np.uint8)
    labels[where] = value
    region = Region(grid_shape=GRID, spacing_mm=SPACING_MM, window=window, located=located, box=BOX)
    weights = np.ones(window.shape, np.float16)
    return ClassScores(region=region, patches=PatchScores(steps, weights), labels=labels)


def summary(cuts):
    return [(cut.axis, cut.at_stop, cut.organ) for cut in cuts]


@pytest.mark.parametrize(
    ("region", "cuts"),
    [
        (np.s_[5:35, 5:40, 5:50], []),
        (np.s_[0:9, 5:40, 5:50], [(0, False, "liver")]),
        (np.s_[9:40, 5:40, 5:50], [(0, True, "liver")]),
        (np.s_[5:35, 20:48, 5:50], [(1, True, "liver")]),
        (np.s_[5:35, 20:30, 0:50], []),  # the scan ends there
        (np.s_[5:35, 20:30, 9:56], [(2, True, "liver")]),
        (np.s_[0:9, 5:9, 5:9], []),  # 16 voxels of 2.25 mm² are 36 mm²
    ],
)
def test_organ_at_an_inner_face_is_cut(region, cuts):
    scores = scores_with(1, region)
    found = find_cuts(scores)
    assert summary(found) == cuts
    for cut in found:
        face = np.zeros(scores.seen.shape, bool)
        np.moveaxis(face, cut.axis, 0)[-1 if cut.at_stop else 0] = True
        assert np.array_equal(cut.where, np.nonzero(face & (scores.labels == 1)))


def test_a_cut_is_looked_for_at_the_faces_of_the_located_part():
    located = Box(start=(53, 40, 0), stop=WINDOW.stop)
    scores = scores_with(1, np.s_[3:9, 5:40, 5:50], located)
    assert summary(find_cuts(scores)) == [(0, False, "liver")]


def test_a_piece_that_will_be_taken_back_is_no_reason_to_look_on():
    scores = scores_with(2, np.s_[10:30, 5:40, 5:50])
    scores.labels[0:5, 10:24, 10:24] = 2  # 4.4 ml at the face, 3 % of the kidney
    assert find_cuts(scores) == []
    scores.labels[:, 5:40, 5:50] = 2
    assert summary(find_cuts(scores)) == [(0, False, "right_kidney"), (0, True, "right_kidney")]


def test_an_organ_of_which_little_was_seen_is_cut():
    scores = scores_with(2, np.s_[0:3, 10:20, 10:20])  # 1.4 ml
    assert summary(find_cuts(scores)) == [(0, False, "right_kidney")]


def test_an_organ_is_cut_where_no_patch_was_run_inside_the_box():
    scores = scores_with(1, np.s_[5:35, 5:40, 5:50])
    scores.patches.weights[:, 30:, 20:] = 0
    scores.labels[:, 30:, 20:] = 0
    (towards_y, towards_x) = find_cuts(scores)
    assert summary([towards_y, towards_x]) == [(1, True, "liver"), (2, True, "liver")]
    expected = np.zeros(scores.seen.shape, bool)
    expected[5:35, 29, 20:50] = True
    assert np.array_equal(towards_y.where, np.nonzero(expected))


@pytest.mark.parametrize(
    ("value", "name"), [(5, "aorta"), (6, "inferior_vena_cava"), (10, "esophagus")]
)
def test_tubes_are_looked_after_towards_the_head_alone(value, name):
    (cut,) = find_cuts(scores_with(value, np.s_[:, 0:48, 5:56]))
    assert (cut.axis, cut.at_stop, cut.organ, cut.is_tube) == (0, True, name, True)
    # Not where the scan goes on for less than 20 mm.
    near_end = Box(start=(101, 40, 0), stop=(141, 88, 56))
    assert find_cuts(scores_with(value, np.s_[:, 0:48, 5:56], near_end, near_end)) == []


def test_a_tube_is_looked_after_farther_than_an_organ():
    low = Box(start=(0, 40, 0), stop=(40, 88, 56))
    scores = scores_with(10, np.s_[:, 16:24, 24:32], low, low)
    found = abdomen(Box(start=(0, 30, 0), stop=(16, 66, 84)))
    grown = grow(found, scores, find_cuts(scores))
    # From 80 mm, in coarse slice 19, 144 mm up: 36 slices.
    assert np.flatnonzero(grown.foreground.any(axis=(1, 2))).tolist() == list(range(19, 56))
    assert grown.box == Box(start=(0, 30, 0), stop=(45, 66, 84))


def test_room_is_gained_beyond_the_cut_alone():
    scores = scores_with(1, np.s_[30:40, 16:24, 24:32])
    found = abdomen()
    grown = grow(found, scores, find_cuts(scores))
    # The cut at slice 36 lies at 180 mm; in y at 59.5 + 16 * 1.5 = 83.5 ... 95.5 mm, in x at
    # 36 ... 48.
    # Its voxels are in coarse slice 44, rows 21 ... 23 and columns 9 ... 11.
    expected = np.zeros((75, 50, 30), bool)
    expected[44:55, 19:26, 7:14] = True
    assert np.array_equal(grown.foreground, expected)
    assert grown.box == Box(start=(20, 30, 0), stop=(44, 66, 84))


def test_what_phase_one_saw_stays():
    scores = scores_with(1, np.s_[30:40, 16:24, 24:32])
    found = abdomen()
    found.foreground[20:30, 15:30, 0:21] = True
    grown = grow(found, scores, find_cuts(scores))
    assert grown.foreground[found.foreground].all()


def test_a_grown_box_ends_with_the_scan():
    near_end = abdomen(Box(start=(42, 30, 0), stop=(58, 66, 84)))
    window = Box(start=(105, 40, 0), stop=(145, 88, 56))
    scores = scores_with(1, np.s_[30:40, 16:24, 24:32], window, window)
    assert grow(near_end, scores, find_cuts(scores)).box.stop == (60, 66, 84)
