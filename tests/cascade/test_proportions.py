from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cascade.norms import read_norms
from app.cascade.plausibility import as_sentences, judge
from app.cascade.proportions import (
    LEAST_WHOLE,
    UNLIKELY_STRETCH,
    find_stretch,
    height_of,
    is_whole,
)
from app.imaging.organ_placement import OrganPlacement, measure_placement, thin
from app.labels import TUBES
from app.synthesis.phantom import make_phantom

SOLID = sorted(set(read_norms()) - TUBES)
# So flat or tall that a single organ would decide if it counted in full.
ABSURD_MM = (900.0, 1.0, 1.0)


def stretched(placements, factor):
    """Give what a header tells that makes the distance between slices larger by a factor."""
    return {
        name: replace(
            placement,
            volume_ml=placement.volume_ml * factor,
            center_mm=(placement.center_mm[0] * factor, *placement.center_mm[1:]),
            extent_mm=(placement.extent_mm[0] * factor, *placement.extent_mm[1:]),
        )
        for name, placement in placements.items()
    }


def changed(placements, organ, **fields):
    return placements | {organ: replace(placements[organ], **fields)}


def codes(placements):
    return [flag.code for flag in judge(placements) if flag.organ is None]


def test_height_follows_the_distance_between_slices_in_full_and_the_width_in_part():
    height = height_of((30.0, 20.0, 10.0))
    assert height == pytest.approx(log(30) - 0.4 * (log(20) + log(10)) / 2)
    assert height_of((60.0, 20.0, 10.0)) - height == pytest.approx(log(2))
    assert height_of((30.0, 40.0, 20.0)) - height == pytest.approx(-0.4 * log(2))


def test_norms_know_tall_organs_from_flat_ones_and_that_people_differ():
    norms = read_norms()
    assert norms["left_kidney"].height > norms["spleen"].height > norms["pancreas"].height
    assert all(0 < norm.height_spread < 0.7 for norm in norms.values())


@given(
    st.floats(0.65, 1.55),
    st.sets(st.sampled_from(SOLID), min_size=LEAST_WHOLE),
    st.floats(0.8, 1.25),
)
def test_stretch_is_found_whichever_organs_are_whole(factor, whole, size):
    """And whatever the person's size: wider organs are taller by the 0.4th power of that."""
    placements = {
        name: OrganPlacement(
            volume_ml=100.0,
            center_mm=(0.0, 0.0, 0.0),
            extent_mm=(factor * size**0.4 * exp(read_norms()[name].height), size, size),
            cut=(name not in whole, False, False),
            largest_share=1.0,
        )
        for name in SOLID
    }
    stretch = find_stretch(placements)
    assert stretch.factor == pytest.approx(factor)
    assert (stretch.deviation > 0) == (factor > 1) or stretch.deviation == pytest.approx(0)


@given(st.integers(0, 10_000), st.sampled_from([0.5, 2.0]))
def test_organs_strewn_as_in_people_pass_and_told_half_or_double_do_not(seed, factor):
    rng = np.random.default_rng(seed)
    body = rng.normal() * 0.06
    placements = {}
    for name in SOLID:
        norm = read_norms()[name]
        strewn = float(np.clip(rng.normal(), -3, 3)) * norm.height_spread
        placements[name] = OrganPlacement(
            volume_ml=100.0,
            center_mm=norm.center_mm,
            extent_mm=(exp(norm.height + np.clip(body, -0.12, 0.12) + strewn), 1.0, 1.0),
            cut=(False, False, False),
            largest_share=1.0,
        )
    assert abs(find_stretch(placements).deviation) < UNLIKELY_STRETCH
    found = find_stretch(stretched(placements, factor)).deviation
    assert abs(found) > UNLIKELY_STRETCH
    assert (found > 0) == (factor > 1)


@pytest.mark.parametrize(("size", "odd"), [(0.6, False), (1.5, False), (0.5, True)])
def test_small_and_large_people_pass_but_not_the_smallest_children(usual, size, odd):
    scaled = {
        name: replace(found, extent_mm=tuple(size * along for along in found.extent_mm))
        for name, found in usual.items()
    }
    assert find_stretch(scaled).factor == pytest.approx(size**0.6)
    assert (abs(find_stretch(scaled).deviation) > UNLIKELY_STRETCH) == odd


def test_few_whole_organs_say_nothing(usual):
    for name in SOLID[2:]:
        usual = changed(usual, name, cut=(True, False, False))
    assert LEAST_WHOLE == 3
    assert find_stretch(stretched(usual, 4.0)) is None


@pytest.mark.parametrize(
    ("organ", "fields"),
    [
        ("liver", {"cut": (True, False, False)}),
        ("spleen", {"cut": (False, False, True)}),
        ("right_adrenal_gland", {"volume_ml": 0.4}),
        ("aorta", {}),
    ],
)
def test_organ_that_is_not_whole_does_not_count(usual, organ, fields):
    odd = changed(usual, organ, extent_mm=ABSURD_MM, **fields)
    assert not is_whole(organ, odd[organ])
    assert find_stretch(odd).factor == pytest.approx(1)


def test_one_absurd_organ_decides_nothing(usual):
    odd = changed(usual, "left_kidney", extent_mm=ABSURD_MM)
    assert 1 < find_stretch(odd).factor < 1.3
    assert "odd_proportions" not in codes(odd)


@pytest.mark.parametrize(("factor", "told"), [(1.6, "1.6 times"), (0.6, "0.6 times")])
def test_wrong_distance_between_slices_is_told_with_its_factor_and_a_remedy(usual, factor, told):
    assert codes(usual) == []
    flags = [flag for flag in judge(stretched(usual, factor)) if flag.code == "odd_proportions"]
    (sentence,) = as_sentences(flags)
    assert told in sentence
    assert "check the distance between slices" in sentence


@pytest.mark.parametrize("seed", range(3))
def test_label_map_of_a_phantom_passes_and_with_a_wrong_distance_does_not(seed):
    _, labels = make_phantom(shape=(90, 110, 130), spacing_mm=(4.0, 3.2, 3.0), seed=seed)
    for told_mm, odd in ((4.0, False), (2.0, True), (8.0, True)):
        placements = measure_placement(*thin(labels, (told_mm, 3.2, 3.0)))
        assert ("odd_proportions" in codes(placements)) == odd
