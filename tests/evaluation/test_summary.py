import math

import numpy as np
import pytest

from app.evaluation.protocols import Score
from app.evaluation.score import OrganResult
from app.evaluation.summary import summarize

NAN = float("nan")


def row(case, organ, dsc, nsd=1.0):
    return OrganResult(
        case=case, organ=organ, score=Score(dsc, nsd), volume_ref_ml=1.0, volume_pred_ml=1.0
    )


def test_the_mean_is_that_of_the_organs_means():
    # Liver 0.9 and 0.7, spleen once 0.4: (0.8 + 0.4) / 2, not 2.0 / 3.
    rows = [row("a", "liver", 0.9), row("b", "liver", 0.7), row("a", "spleen", 0.4)]
    summary = summarize([*rows, row("b", "spleen", NAN, NAN)])
    assert summary.dsc.value == pytest.approx(0.6)
    assert summary.nsd.value == 1.0
    liver, spleen = summary.organs["liver"][0], summary.organs["spleen"][0]
    assert (liver.value, liver.num_cases) == (pytest.approx(0.8), 2)
    assert (spleen.value, spleen.num_cases) == (pytest.approx(0.4), 1)


def test_an_organ_never_scored_has_no_mean():
    liver = summarize([row("a", "spleen", 0.5)]).organs["liver"][0]
    assert math.isnan(liver.value)
    assert math.isnan(liver.interval[0])
    assert liver.num_cases == 0


def test_no_scores_at_all_have_no_mean():
    assert math.isnan(summarize([]).dsc.value)


def test_the_interval_holds_the_mean_and_is_that_of_the_normal_distribution():
    values = np.random.default_rng(5).normal(0.8, 0.05, 60)
    dsc = summarize([row(f"case{i}", "liver", v) for i, v in enumerate(values)]).organs["liver"][0]
    error = 1.96 * values.std() / math.sqrt(60)
    assert dsc.interval == pytest.approx((values.mean() - error, values.mean() + error), abs=2e-3)


def test_the_same_scores_give_the_same_interval():
    rows = [row("a", "liver", 0.9), row("b", "liver", 0.5), row("c", "liver", 0.7)]
    assert summarize(rows).dsc == summarize(rows).dsc


def test_one_case_gives_an_interval_of_no_width():
    assert summarize([row("a", "liver", 0.9)]).dsc.interval == pytest.approx((0.9, 0.9))
