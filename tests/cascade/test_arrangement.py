from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cascade.arrangement import TURNS, UNLIKELY, better_turn, deviations, misfit
from app.cascade.norms import read_norms
from app.imaging.organ_placement import OrganPlacement
from app.labels import ORGANS


def usual(seed=None, **cut):
    """Give every organ at its usual place, or strewn around it by a seed."""
    rng = np.random.default_rng(seed)
    placements = {}
    for name, norm in read_norms().items():
        strewn = np.zeros(3) if seed is None else rng.normal(size=3) * norm.spread_mm
        placements[name] = OrganPlacement(
            volume_ml=(norm.low_ml * norm.high_ml) ** 0.5,
            center_mm=tuple((np.array(norm.center_mm) + strewn).tolist()),
            extent_mm=(30.0, 20.0, 20.0),
            cut=cut.get(name, (False, False, False)),
            largest_share=1.0,
        )
    return placements


def turned(placements, turn):
    signs = np.where(TURNS[turn], -1, 1)
    return {
        name: replace(placement, center_mm=tuple((signs * placement.center_mm).tolist()))
        for name, placement in placements.items()
    }


def test_norms_know_every_organ_and_where_it_lies():
    norms = read_norms()
    assert set(norms) == {organ.name for organ in ORGANS}
    # Canonical axes grow to head, back and left.
    assert norms["liver"].center_mm[2] < norms["spleen"].center_mm[2]
    assert norms["right_kidney"].center_mm[2] < norms["left_kidney"].center_mm[2]
    assert norms["inferior_vena_cava"].center_mm[2] < norms["aorta"].center_mm[2]
    assert norms["esophagus"].center_mm[0] > norms["duodenum"].center_mm[0]
    assert norms["left_kidney"].center_mm[1] > norms["stomach"].center_mm[1]
    assert all(0 < norm.low_ml < norm.high_ml for norm in norms.values())


def test_usual_organs_fit_wherever_the_scan_begins():
    shifted = {
        name: replace(
            placement, center_mm=tuple(np.add(placement.center_mm, (900, -40, 7)).tolist())
        )
        for name, placement in usual().items()
    }
    assert misfit(usual()) == pytest.approx(0, abs=1e-9)
    assert misfit(shifted) == pytest.approx(0, abs=1e-9)


@given(st.integers(0, 10_000), st.sampled_from(sorted(TURNS)))
def test_organs_strewn_as_in_people_fit_and_turned_ones_do_not(seed, turn):
    placements = usual(seed)
    assert misfit(placements) < UNLIKELY
    assert misfit(turned(placements, turn)) > UNLIKELY
    assert better_turn(turned(placements, turn)) == turn


def test_stray_organ_is_told_and_the_others_stay_in_place():
    placements = usual()
    spleen = placements["spleen"]
    placements["spleen"] = replace(spleen, center_mm=tuple(np.add(spleen.center_mm, (0, 0, -224))))
    along_x = {name: place[2] for name, place in deviations(placements).items()}
    assert along_x.pop("spleen") == pytest.approx(-224 / read_norms()["spleen"].spread_mm[2])
    assert max(map(abs, along_x.values())) == pytest.approx(0, abs=1e-9)


def test_organ_that_the_scan_cuts_counts_less():
    whole, cut = usual(), usual(stomach=(True, False, False))
    for placements in (whole, cut):
        stomach = placements["stomach"]
        placements["stomach"] = replace(
            stomach, center_mm=tuple(np.add(stomach.center_mm, (-40, 0, 0)))
        )
    assert deviations(cut)["stomach"][0] == pytest.approx(deviations(whole)["stomach"][0] / 2)


def test_few_organs_say_nothing_about_how_they_lie():
    placements = dict(list(usual().items())[:4])
    assert misfit(placements) is None
    assert deviations(placements) == {}
    assert better_turn(placements) is None
