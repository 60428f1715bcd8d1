import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.cascade.bundle import Phase
from app.cascade.locate import Abdomen
from app.cascade.patches import STEPS_PER_LOGIT
from app.cascade.segment import (
    best_class,
    blank_scores,
    enlarge,
    reach_down,
    reach_out,
    region_of,
    rule_out_surroundings,
    segment,
)
from app.config import SEGMENT
from app.imaging.geometry import Box, Geometry
from app.imaging.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
GEOMETRY = Geometry(shape=(40, 60, 50), spacing_mm=(4.0, 2.0, 3.0))  # 160 x 120 x 150 mm
LOCATED = Box(start=(10, 20, 25), stop=(20, 40, 35))  # 40 x 40 x 30 mm
CONFIG = dataclasses.replace(SEGMENT, patch_shape=(32, 32, 48), spacing_mm=(2.0, 2.0, 2.0))


class LiverEverywhere:
    """A segmenter that sees nothing but liver; surer from one patch to the next."""

    patch_shape = CONFIG.patch_shape
    num_channels = 14

    def __init__(self):
        self.num_run = 0

    def run(self, patch):
        self.num_run += 1
        scores = np.zeros((14, *patch.shape), np.float32)
        scores[1] = 3 * self.num_run
        return scores


def abdomen_in(box, foreground=None):
    if foreground is None:
        foreground = np.ones((40, 30, 38), bool)
    return Abdomen(box=box, geometry=GEOMETRY, foreground=foreground, spacing_mm=(4.0, 4.0, 4.0))


def look(abdomen, scores, network):
    scan = Volume(np.zeros(GEOMETRY.shape, np.int16), GEOMETRY)
    segment(scan, abdomen, Phase(config=CONFIG, network=network), scores)


def test_region_is_a_whole_patch_where_the_scan_allows():
    region = region_of(abdomen_in(LOCATED), CONFIG)
    assert region.grid_shape == (80, 60, 75)
    # 40 ... 80, 40 ... 80 and 75 ... 105 mm, outwards to whole voxels of 2 mm
    assert region.located == Box(start=(20, 20, 37), stop=(40, 40, 53))
    assert region.window == Box(start=(14, 14, 21), stop=(46, 46, 69))
    assert region.inside == Box(start=(6, 6, 16), stop=(26, 26, 32))
    assert region.box == Box(start=(10, 20, 24), stop=(20, 40, 36))
    assert region.extent_mm == (64.0, 64.0, 96.0)


def test_region_ends_with_the_scan():
    at_corner = abdomen_in(Box(start=(0, 50, 0), stop=(40, 60, 50)))
    region = region_of(at_corner, CONFIG)
    assert region.window == Box(start=(0, 28, 0), stop=(80, 60, 75))


def test_what_phase_one_did_not_locate_is_seen_but_not_labeled():
    abdomen = abdomen_in(LOCATED)
    scores = blank_scores(region_of(abdomen, CONFIG))
    look(abdomen, scores, LiverEverywhere())
    assert (best_class(scores.steps) == 1).all()
    assert (scores.labels == 1).all()
    rule_out_surroundings(scores)
    expected = np.zeros(scores.region.window.shape, np.uint8)
    expected[6:26, 6:26, 16:32] = 1
    np.testing.assert_array_equal(best_class(scores.steps), expected)
    np.testing.assert_array_equal(scores.labels, expected)
    assert np.array_equal(scores.seen, expected == 1)


@pytest.mark.parametrize(
    ("size_mm", "reach_mm"),
    [
        # A patch is 64 x 64 x 96 mm.
        ((48, 48, 56), 8),  # 64 x 64 x 72 mm with 8 mm around: one patch, four with 12 mm
        ((40, 40, 56), 12),
        ((24, 24, 56), 16),
        ((24, 64, 56), 16),  # two patches however far phase two looks
    ],
)
def test_phase_two_looks_farther_around_where_that_costs_no_patch(size_mm, reach_mm):
    organs = np.zeros((40, 30, 38), bool)
    organs[np.s_[12:, 7:, 8:]][tuple(slice(size // 4) for size in size_mm)] = True
    abdomen = abdomen_in(Box(start=(0, 0, 0), stop=GEOMETRY.shape), organs)
    reached = reach_out(abdomen, region_of(abdomen, CONFIG), CONFIG)
    found = np.argwhere(reached.foreground)
    assert (4 * found.min(axis=0) == np.array((48, 28, 32)) - reach_mm).all()
    assert (4 * (found.max(axis=0) + 1) == np.array((48, 28, 32)) + size_mm + reach_mm).all()
    assert np.array_equal(abdomen.foreground, organs)


@pytest.mark.parametrize(
    ("lowest_mm", "height_mm", "room_mm"),
    [
        # A patch is 64 mm high.
        (80, 16, 48),
        (80, 40, 24),
        (80, 64, 0),
        (20, 16, 20),  # the scan ends there
        (0, 16, 0),
    ],
)
def test_phase_two_looks_on_below_where_that_costs_no_patch(lowest_mm, height_mm, room_mm):
    lowest, stop = lowest_mm // 4, (lowest_mm + height_mm) // 4
    organs = np.zeros((40, 30, 38), bool)
    organs[lowest:stop, 10:14, 20:24] = True
    organs[lowest + 6 :, 20:24, 20:24] = True  # nothing goes on below what begins 24 mm higher
    found = abdomen_in(Box(start=(lowest, 10, 20), stop=(stop, 50, 40)), organs)
    region = region_of(found, CONFIG)
    reached = reach_out(found, region, CONFIG)

    lower = reach_down(found, reached, region, CONFIG)

    if room_mm == 0:
        assert lower is None
        return
    abdomen, larger = lower
    start = lowest - room_mm // 4
    assert abdomen.box == Box(start=(start, 10, 20), stop=(stop, 50, 40))
    assert larger == region_of(abdomen, CONFIG)
    gained = abdomen.foreground & ~reached.foreground
    room = np.zeros_like(organs)
    room[start:lowest, 10:14, 20:24] = True
    assert np.array_equal(gained, room & ~reached.foreground)


def test_nothing_looked_at_is_background():
    scores = blank_scores(region_of(abdomen_in(LOCATED), CONFIG))
    assert not scores.seen.any()
    assert not best_class(scores.steps).any()


def test_a_second_look_runs_the_gained_room_alone_and_blends_with_the_first():
    first, network = abdomen_in(LOCATED), LiverEverywhere()
    scores = blank_scores(region_of(first, CONFIG))
    look(first, scores, network)
    assert network.num_run == 1
    larger = abdomen_in(Box(start=(10, 20, 25), stop=(30, 40, 35)))
    region = region_of(larger, CONFIG, seen=scores.region)
    assert region.window == Box(start=(14, 14, 21), stop=(60, 46, 69))
    first_labels = scores.labels.copy()
    scores = enlarge(scores, region)
    assert np.array_equal(scores.labels[:32], first_labels)
    assert not scores.labels[32:].any()
    seen_before = scores.patches.seen
    look(larger, scores, network)
    assert network.num_run == scores.patches.num_run == 2
    liver = (scores.steps[1] - scores.steps[0]) / STEPS_PER_LOGIT
    # The first patch said 3, the second 6: each alone where the other did not look.
    assert set(np.unique(liver[:10])) == {3.0}
    assert (liver[~seen_before & scores.patches.seen] == 6).all()
    both = liver[seen_before & (liver != 3)]
    assert both.size
    assert ((both > 3) & (both < 6)).all()


def test_where_a_second_looks_patch_lies_does_not_hang_on_a_voxel():
    everywhere = Box(start=(0, 0, 0), stop=GEOMETRY.shape)
    weights = []
    for first in (26, 25):  # a voxel of phase one's grid, two of phase two's
        organs = np.zeros((40, 30, 38), bool)
        organs[2:5, 10:15, 10:15] = True
        scores = blank_scores(region_of(abdomen_in(everywhere), CONFIG))
        look(abdomen_in(everywhere, organs), scores, LiverEverywhere())
        organs[first:30, 10:15, 10:15] = True
        look(abdomen_in(everywhere, organs), scores, LiverEverywhere())
        assert scores.patches.num_run == 2
        weights.append(scores.patches.weights)
    np.testing.assert_array_equal(*weights)


def test_a_second_look_at_the_same_region_runs_nothing():
    abdomen, network = abdomen_in(LOCATED), LiverEverywhere()
    scores = blank_scores(region_of(abdomen, CONFIG))
    look(abdomen, scores, network)
    before = scores.steps.copy()
    look(abdomen, scores, network)
    assert network.num_run == 1
    np.testing.assert_array_equal(scores.steps, before)


def test_enlarging_moves_no_score():
    region = region_of(abdomen_in(LOCATED), CONFIG)
    scores = blank_scores(region)
    scores.steps[...] = np.random.default_rng(0).integers(-999, 999, scores.steps.shape)
    scores.patches.weights[3:9, 4:8, 5:30] = 0.5
    steps, weights = scores.steps.copy(), scores.patches.weights.copy()
    window = Box(start=(10, 12, 20), stop=(60, 50, 72))
    larger = enlarge(scores, dataclasses.replace(region, window=window))
    blank = blank_scores(larger.region)
    blank.steps[:, 4:36, 2:34, 1:49] = steps
    blank.patches.weights[4:36, 2:34, 1:49] = weights
    np.testing.assert_array_equal(larger.steps, blank.steps)
    np.testing.assert_array_equal(larger.patches.weights, blank.patches.weights)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="another system holds both")
def test_enlarging_holds_no_second_set_of_scores():
    """In a process of its own, for no other has so little in memory before."""
    script = """
import dataclasses
from app.cascade.memory import MIB, process_peak, reset_process_peak
from app.cascade.segment import Region, blank_scores, enlarge
from app.imaging.geometry import Box
from resident import resident_bytes

grid, window = (200, 150, 180), Box(start=(40, 20, 25), stop=(140, 120, 145))
larger = Box(start=(20, 20, 25), stop=(150, 130, 149))
region = Region(grid_shape=grid, spacing_mm=(2, 2, 2), window=window, located=window, box=window)
scores = blank_scores(region)
# What nobody wrote to would take no memory.
scores.steps[...], scores.patches.weights[...], scores.labels[...] = 1, 1, 1
before = scores.steps.nbytes + scores.patches.weights.nbytes + scores.labels.nbytes
reset_process_peak()
held = process_peak()
moved = enlarge(scores, dataclasses.replace(region, window=larger))
after = moved.steps.nbytes + moved.patches.weights.nbytes + moved.labels.nbytes
at_most = process_peak() - held
moved.steps[...], moved.patches.weights[...], moved.labels[...] = 1, 1, 1
print(before / MIB, after / MIB, at_most / MIB, (resident_bytes() - held) / MIB)
"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    out = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    before, after, at_most, in_the_end = map(float, out.split())
    assert before > 32  # as much would be added, were both held
    assert at_most < after - before + 12  # a channel, and what comes with each voxel beside them
    # The caller may still hold the old ones.
    assert in_the_end < after - before + 1
