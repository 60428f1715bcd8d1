import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cascade.patches import (
    LARGEST_LOGIT,
    STEPS_PER_LOGIT,
    UNSEEN_MARGIN,
    PatchScores,
    blending_weights,
    cut_patch,
    score_volume,
)
from app.cascade.placement import place_patches
from app.errors import ScoresError
from app.imaging.geometry import Box
from app.imaging.preprocess import AIR


class Echo:
    """A network that gives back its patch, and twice its patch."""

    num_channels = 2

    def __init__(self, patch_shape):
        self.patch_shape = patch_shape
        self.patches = []

    def run(self, patch):
        self.patches.append(patch)
        return np.stack([patch, 2 * patch])


def test_weights_fall_from_the_center_to_the_faces_and_never_reach_zero():
    weights = blending_weights((3, 4, 5))
    assert weights[1, 1, 2] == weights.max()
    # z: 1/2, 2/2, 1/2; y: 1/2.5, 2/2.5 ...; x: 1/3, 2/3, 3/3 ...
    assert weights[0, 0, 0] == pytest.approx(1 / 2 * 1 / 2.5 * 1 / 3)
    np.testing.assert_array_equal(weights, weights[::-1, ::-1, ::-1])


def test_patch_beyond_the_volume_is_filled_with_air():
    volume = np.ones((2, 3, 4), np.float32)
    patch = cut_patch(volume, Box(start=(-1, 0, 2), stop=(3, 3, 6)))
    assert patch.shape == (4, 3, 4)
    np.testing.assert_array_equal(patch[1:3, :, :2], 1)
    assert (patch == AIR).sum() == 4 * 3 * 4 - 2 * 3 * 2


def in_logits(scores):
    return scores.steps / STEPS_PER_LOGIT


@given(
    shape=st.tuples(st.integers(1, 13), st.integers(1, 9), st.integers(1, 17)),
    overlap=st.sampled_from([0.0, 0.25, 0.5]),
)
def test_blended_scores_are_the_scores_where_all_patches_agree(shape, overlap):
    volume = np.random.default_rng(2).integers(-8, 9, shape).astype(np.float32)
    scored = score_volume(volume, Echo((4, 3, 5)), overlap)
    assert scored.steps.dtype == np.int16
    best = np.maximum(volume, 2 * volume)
    np.testing.assert_array_equal(in_logits(scored), [volume - best, 2 * volume - best])


def test_where_no_patch_was_run_is_certain_background():
    volume = np.ones((4, 3, 11), np.float32)
    wanted = np.zeros(volume.shape, bool)
    wanted[:, :, :4] = True
    scored = score_volume(volume, Echo((4, 3, 5)), 0.0, wanted)
    assert scored.num_run == 1
    assert scored.seen[:, :, :5].all()
    assert not scored.seen[:, :, 5:].any()
    background, organ = in_logits(scored)
    assert (background[:, :, 5:] == UNSEEN_MARGIN).all()
    assert (organ[:, :, 5:] == 0).all()
    np.testing.assert_array_equal((organ - background)[:, :, :5], 1)


def test_differences_between_classes_are_kept_to_a_step_however_large_scores_are():
    class Shouting(Echo):
        num_channels = 3

        def run(self, patch):
            return np.stack([patch + 300, patch + 300.25, patch - 900])

    volume = np.random.default_rng(4).normal(0, 50, (4, 3, 5)).astype(np.float32)
    first, best, least = in_logits(score_volume(volume, Shouting((4, 3, 5)), 0.0))
    assert (best == 0).all()
    np.testing.assert_allclose(first, -0.25, atol=0.5 / STEPS_PER_LOGIT)
    assert (least == -LARGEST_LOGIT).all()


def test_a_single_score_keeps_its_sign():
    class One(Echo):
        num_channels = 1

        def run(self, patch):
            return patch[None]

    volume = np.float32([[[-400, -1, -0.01, 0.01, 1]]]).repeat(4, 0).repeat(3, 1)
    scored = score_volume(volume, One((4, 3, 5)), 0.0)
    np.testing.assert_array_equal(scored.steps[0] > 0, volume > 0)
    blank = PatchScores.blank(1, (4, 3, 5))
    assert (blank.steps < 0).all()


def test_rows_of_patches_may_lie_apart():
    volume = np.arange(20, dtype=np.float32)[:, None, None] * np.ones((20, 3, 5), np.float32)
    wanted = np.zeros(volume.shape, bool)
    wanted[2:4] = wanted[15:19] = True
    scored = score_volume(volume, Echo((4, 3, 5)), 0.0, wanted)
    background, organ = in_logits(scored)
    np.testing.assert_array_equal((organ - background)[scored.seen], volume[scored.seen])
    assert scored.seen[wanted].all()
    assert not scored.seen[:2].any()
    assert not scored.seen[19:].any()


def test_overlapping_patches_meet_with_equal_say_in_the_middle():
    class Numbered(Echo):
        num_channels = 1

        def run(self, patch):
            self.patches.append(patch)
            return np.full((1, *self.patch_shape), len(self.patches), np.float32)

    # Patches at 0 ... 4 and 3 ... 7 along x; both see voxels 3 and 4.
    scored = score_volume(np.zeros((1, 1, 8), np.float32), Numbered((1, 1, 5)), 0.25)
    left, right = np.array([2, 1]), np.array([1, 2])  # distances to the nearer face
    expected = (left * 1 + right * 2) / (left + right)
    found = in_logits(scored)[0, 0, 0]
    np.testing.assert_allclose(found, [1, 1, 1, *expected, 2, 2, 2], atol=0.6 / STEPS_PER_LOGIT)


def test_beside_the_scores_no_row_of_patches_is_held():
    class Forgetful(Echo):
        def run(self, patch):
            return np.stack([patch, patch])

    volume = np.ones((12, 120, 150), np.float32)
    scores, wanted = PatchScores.blank(2, volume.shape), np.ones(volume.shape, bool)
    tracemalloc.start()
    score_volume(volume, Forgetful((8, 20, 25)), 0.25, wanted, scores=scores)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert scores.num_run > 50
    assert peak_bytes < 4 * 8 * 120 * 150  # one float32 per voxel of a row


@given(seed=st.integers(0, 30), overlap=st.sampled_from([0.0, 0.25, 0.5]))
def test_patches_run_in_two_goes_blend_as_in_one(seed, overlap):
    class Surer(Echo):
        """Adds what no other patch adds."""

        def run(self, patch):
            return super().run(patch) + np.float32(patch[1, 1, 1] % 7)

    rng = np.random.default_rng(seed)
    volume = rng.integers(-8, 9, (17, 11, 13)).astype(np.float32)
    split = int(rng.integers(4, 14))
    network = Surer((4, 3, 5))
    wanted = np.zeros(volume.shape, bool)
    wanted[:split] = True
    scores = score_volume(volume, network, overlap, wanted)
    num_first = scores.num_run
    assert score_volume(volume, network, overlap, ~wanted, scores=scores) is scores
    assert scores.num_run > num_first

    sums, weights = np.zeros((2, *volume.shape)), np.zeros(volume.shape)
    blending = blending_weights(network.patch_shape)
    for part in (wanted, ~wanted):
        for start in place_patches(part, network.patch_shape, overlap):
            box = Box.between(start, np.add(start, network.patch_shape).tolist())
            sums[(slice(None), *box.slices)] += blending * network.run(volume[box.slices])
            weights[box.slices] += blending
    assert scores.seen.all()
    first, second = sums / weights
    background, organ = in_logits(scores)
    np.testing.assert_allclose(organ - background, second - first, atol=0.05)
    np.testing.assert_allclose(scores.weights, weights, rtol=1e-3)


def test_a_second_go_leaves_alone_what_it_does_not_reach():
    volume = np.random.default_rng(3).normal(size=(12, 3, 5)).astype(np.float32)
    first = np.zeros(volume.shape, bool)
    first[:4] = True
    scores = score_volume(volume, Echo((4, 3, 5)), 0.0, first)
    before = scores.steps.copy()
    second = np.zeros(volume.shape, bool)
    second[8:] = True
    score_volume(volume, Echo((4, 3, 5)), 0.0, second, scores=scores)
    np.testing.assert_array_equal(scores.steps[:, :8], before[:, :8])
    np.testing.assert_array_equal(
        scores.seen.any(axis=(1, 2)), [True] * 4 + [False] * 4 + [True] * 4
    )


@pytest.mark.parametrize("num_channels", [1, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_finite_numbers_are_refused(num_channels, value):
    class Overflowing(Echo):
        def run(self, patch):
            scores = np.zeros((num_channels, *patch.shape), np.float32)
            scores[-1, 2, 1, 3] = value
            return scores

    network = Overflowing((4, 3, 5))
    network.num_channels = num_channels
    with pytest.raises(ScoresError, match=r"no finite numbers.*--precision f32 or precision="):
        score_volume(np.ones((8, 5, 11), np.float32), network, 0.25)
