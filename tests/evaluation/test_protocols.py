import math

import numpy as np
import pytest

from app.evaluation.protocols import Score, score_flare24, score_strict
from app.labels import ORGANS

SPACING_MM = (3.0, 2.0, 1.0)
SHAPE = (9, 10, 11)
LIVER, AORTA, VENA_CAVA, ESOPHAGUS = (ORGANS[value - 1] for value in (1, 5, 6, 10))


def box(start, stop):
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = True
    return mask


NOTHING = np.zeros(SHAPE, bool)
CUBE = box((2, 2, 2), (5, 6, 7))


def flare24(mask_gt, mask_pred, organ=LIVER):
    return score_flare24(mask_gt, mask_pred, organ=organ, spacing_mm=SPACING_MM)


def strict(mask_gt, mask_pred, organ=LIVER):
    return score_strict(mask_gt, mask_pred, organ=organ, spacing_mm=SPACING_MM)


def test_an_absent_organ_scores_one_in_the_challenge_and_is_not_scored_strictly():
    assert flare24(NOTHING, NOTHING) == Score(1.0, 1.0)
    scored = strict(NOTHING, NOTHING)
    assert math.isnan(scored.dsc)
    assert math.isnan(scored.nsd)


@pytest.mark.parametrize("score", [flare24, strict])
def test_an_organ_in_one_mask_only_scores_zero(score):
    assert score(CUBE, NOTHING) == Score(0.0, 0.0)
    assert score(NOTHING, CUBE) == Score(0.0, 0.0)


@pytest.mark.parametrize("score", [flare24, strict])
@pytest.mark.parametrize("organ", ORGANS, ids=lambda organ: organ.name)
def test_a_perfect_prediction_scores_one(score, organ):
    assert score(CUBE, CUBE, organ) == Score(1.0, 1.0)


def test_the_challenge_gives_no_nsd_below_a_dsc_of_one_fifth():
    # One slice of 9, and all 9: 2 * 1 / (1 + 9) = 0.2 is enough; of 3 by 3, 2 * 9 / (9 + 90).
    column, slice_of_it = box((0, 4, 4), (9, 5, 5)), box((4, 4, 4), (5, 5, 5))
    assert flare24(column, slice_of_it).dsc == 0.2
    assert flare24(column, slice_of_it).nsd > 0
    wide = box((4, 4, 3), (5, 5, 6))
    # 2 * 1 / (9 + 3) = 1/6; every piece within 5 mm counts for the strict NSD.
    assert flare24(column, wide) == Score(1 / 6, 0.0)
    assert strict(column, wide).dsc == 1 / 6
    assert strict(column, wide).nsd > 0.3


@pytest.mark.parametrize("organ", [AORTA, VENA_CAVA, ESOPHAGUS])
def test_of_long_organs_the_challenge_counts_the_references_slices_but_the_last(organ):
    mask_gt = box((2, 4, 4), (6, 6, 6))  # slices 2 to 5, 4 voxels each
    # Right in slices 2 to 4, wrong in slice 5, and goes on where the reference ends.
    mask_pred = box((0, 4, 4), (5, 6, 6)) | box((6, 0, 0), (9, 9, 9))
    assert flare24(mask_gt, mask_pred, organ) == Score(1.0, 1.0)
    # Strictly: 12 voxels shared of 16 and 20 + 243.
    assert strict(mask_gt, mask_pred, organ).dsc == pytest.approx(24 / 279)
    # And of any other organ all slices count.
    assert flare24(mask_gt, mask_pred).dsc == pytest.approx(24 / 279)


def test_a_prediction_beside_the_counted_slices_scores_zero():
    mask_gt, mask_pred = box((2, 4, 4), (6, 6, 6)), box((5, 4, 4), (9, 6, 6))
    assert flare24(mask_gt, mask_pred, AORTA) == Score(0.0, 0.0)
    assert strict(mask_gt, mask_pred, AORTA).dsc == 0.25  # 2 * 4 / (16 + 16)


def test_one_slice_is_scored_strictly_and_leaves_nothing_to_the_challenge():
    mask_gt = box((4, 2, 2), (5, 6, 6))
    assert strict(mask_gt, mask_gt, AORTA) == Score(1.0, 1.0)
    assert flare24(mask_gt, mask_gt, LIVER) == Score(1.0, 1.0)
    assert math.isnan(flare24(mask_gt, mask_gt, AORTA).dsc)
    # An empty prediction is seen before the slices are cut.
    assert flare24(mask_gt, NOTHING, AORTA) == Score(0.0, 0.0)


def test_a_strict_score_at_hand_changes_nothing():
    rng = np.random.default_rng(7)
    for organ in (LIVER, AORTA):
        for share in (0.05, 0.6):
            mask_gt, mask_pred = rng.random(SHAPE) < 0.5, rng.random(SHAPE) < share
            known = strict(mask_gt, mask_pred, organ)
            again = score_flare24(
                mask_gt, mask_pred, organ=organ, spacing_mm=SPACING_MM, strict=known
            )
            assert again == flare24(mask_gt, mask_pred, organ)
