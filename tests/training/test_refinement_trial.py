"""How much each rule repairs, on a body small enough for a test."""

from collections import defaultdict

import numpy as np
import pytest
from boxed_body import SPACING_MM, boxed_body, boxed_positions
from own_data import write_image

from app.data.label_faults import FAULTS
from app.training.refinement_trial import ALL_FAULTS, KINDS, SHARED, UNBROKEN, run_trials

BODIES = 3


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Mean Dice by kind of fault and rule, over a body broken several times."""
    path = tmp_path_factory.mktemp("truth") / "body.nii.gz"
    write_image(path, boxed_body(), spacing_xyz=SPACING_MM[::-1])
    by_kind = defaultdict(list)
    for number in range(BODIES):
        for trial in run_trials(path, boxed_positions(), spacing_mm=3.0, seed=(0, number)):
            by_kind[trial.kind].append(trial.dice)
    return {
        kind: {rule: float(np.mean([one[rule] for one in found])) for rule in found[0]}
        for kind, found in by_kind.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["plausible", "plausible, confidence"])
def test_the_plausible_rule_beats_the_published_one_and_does_no_harm(scores, kind, rule):
    assert scores[kind][rule] > scores[kind]["published"]
    assert scores[kind][rule] > scores[kind]["before"] - 0.005


def test_every_fault_is_measured_and_does_harm(scores):
    assert set(scores) == {UNBROKEN, *FAULTS, ALL_FAULTS, SHARED}
    assert all(found["before"] < 1.0 for kind, found in scores.items() if kind != UNBROKEN)
