import dataclasses

import numpy as np
import pytest

from app.cascade.locate import Abdomen
from app.cascade.regrow import Cut, find_cuts, grow
from app.cascade.segment import ClassScores
from app.imaging.geometry import Box, Geometry

GEOMETRY = Geometry(shape=(60, 100, 120), spacing_mm=(5.0, 2.0, 1.0))
BOX = Box(start=(20, 30, 0), stop=(36, 66, 84))  # 80 x 72 x 84 mm, at the scan's edge in x


def abdomen():
    return Abdomen(
        box=BOX,
        geometry=GEOMETRY,
        foreground=np.zeros((75, 50, 30), bool),
        spacing_mm=(4.0, 4.0, 4.0),
    )


def scores_with(value, region):
    logits = np.zeros((14, 40, 48, 56), np.float16)
    logits[1:] = -9
    logits[value][region] = 9
    return ClassScores(
        logits=logits,
        spacing_mm=(2.0, 1.5, 1.5),
        box=BOX,
        inside=Box(start=(0, 0, 0), stop=(40, 48, 56)),
        num_run=1,
        num_skipped=0,
    )


@pytest.mark.parametrize(
    ("region", "cuts"),
    [
        (np.s_[5:35, 5:40, 5:50], []),
        (np.s_[0:9, 5:40, 5:50], [Cut(axis=0, at_stop=False, organ="liver")]),
        (np.s_[9:40, 5:40, 5:50], [Cut(axis=0, at_stop=True, organ="liver")]),
        (np.s_[5:35, 20:48, 5:50], [Cut(axis=1, at_stop=True, organ="liver")]),
        (np.s_[5:35, 20:30, 0:50], []),  # the scan ends there
        (np.s_[5:35, 20:30, 9:56], [Cut(axis=2, at_stop=True, organ="liver")]),
        (np.s_[0:9, 5:9, 5:9], []),  # 16 voxels of 2.25 mm² are 36 mm²
    ],
)
def test_organ_at_an_inner_face_is_cut(region, cuts):
    assert find_cuts(scores_with(1, region), abdomen()) == cuts


def test_a_cut_is_looked_for_at_the_faces_of_the_located_part():
    located = Box(start=(3, 0, 0), stop=(40, 48, 56))
    scores = dataclasses.replace(scores_with(1, np.s_[3:9, 5:40, 5:50]), inside=located)
    assert find_cuts(scores, abdomen()) == [Cut(axis=0, at_stop=False, organ="liver")]


@pytest.mark.parametrize("value", [5, 6, 10])
def test_tubes_leave_the_abdomen_by_nature(value):
    assert find_cuts(scores_with(value, np.s_[:, 5:40, 5:50]), abdomen()) == []


def test_cut_faces_move_out_by_mm_and_the_others_stay():
    cuts = [Cut(axis=0, at_stop=True, organ="liver"), Cut(axis=1, at_stop=False, organ="liver")]
    grown = grow(abdomen(), cuts)
    assert grown.box == Box(start=(20, 10, 0), stop=(44, 66, 84))  # 8 slices, 20 rows


def test_faces_move_no_further_than_the_scan():
    grown = grow(abdomen(), [Cut(axis=2, at_stop=True, organ="liver")])
    assert grown.box.stop[2] == 120


def test_room_gained_is_looked_at():
    grown = grow(abdomen(), [Cut(axis=0, at_stop=True, organ="liver")])
    # Slices 36 ... 44 lie at 180 ... 220 mm: coarse slices 45 ... 55; rows 60 ... 132 mm.
    expected = np.zeros((75, 50, 30), bool)
    expected[45:55, 15:33, 0:21] = True
    assert np.array_equal(grown.foreground, expected)
