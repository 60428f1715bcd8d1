"""How much each rule repairs, on a body small enough for a test."""

from collections import defaultdict

import numpy as np
import pytest
from own_data import write_image

from app.data.label_faults import FAULTS
from app.data.positions import learn_positions
from app.training.refinement_trial import ALL_FAULTS, KINDS, SHARED, UNBROKEN, run_trials

SHAPE, SPACING_MM = (40, 36, 48), (5.0, 4.0, 3.0)
ORGAN_BOXES = {
    1: (slice(18, 34), slice(6, 26), slice(4, 20)),
    2: (slice(8, 18), slice(24, 32), slice(8, 14)),
    3: (slice(20, 30), slice(18, 30), slice(36, 44)),
    4: (slice(18, 22), slice(14, 18), slice(20, 36)),
    5: (slice(0, 40), slice(24, 29), slice(25, 29)),
    6: (slice(0, 40), slice(24, 29), slice(20, 24)),
    11: (slice(22, 34), slice(6, 18), slice(24, 38)),
    13: (slice(8, 18), slice(24, 32), slice(34, 40)),
}
BODIES = 3


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """Mean Dice by kind of fault and rule, over a body broken several times."""
    body = np.zeros(SHAPE, np.uint8)
    for value, box in ORGAN_BOXES.items():
        body[box] = value
    path = tmp_path_factory.mktemp("truth") / "body.nii.gz"
    write_image(path, body, spacing_xyz=SPACING_MM[::-1])
    positions = learn_positions([(body, SPACING_MM), (np.roll(body, 2, axis=0), SPACING_MM)])
    by_kind = defaultdict(list)
    for trial in run_trials([path] * BODIES, positions, spacing_mm=3.0, seed=0):
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
