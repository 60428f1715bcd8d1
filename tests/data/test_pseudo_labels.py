import numpy as np
import pytest
from boxed_body import ORGAN_BOXES, SHAPE, SPACING_MM, boxed_body, boxed_positions
from hypothesis import given, settings
from hypothesis import strategies as st

from app.data.label_faults import FAULTS, imitate_prediction
from app.data.positions import centers_of, read_positions
from app.data.pseudo_labels import fuse_published, refine_plausibly
from app.errors import InputError
from app.evaluation.metrics import dice
from app.labels import ORGANS

maps = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).integers(0, 14, (5, 6, 7)).astype(np.uint8)
)


@pytest.fixture(scope="module")
def body():
    return boxed_body()


@pytest.fixture(scope="module")
def positions():
    return boxed_positions()


@pytest.fixture(scope="module")
def refine(positions):
    def apply(labels, predicted, confidence=None):
        return refine_plausibly(
            labels, predicted, spacing_mm=SPACING_MM, positions=positions, confidence=confidence
        )

    return apply


def without(labels, where):
    cut = labels.copy()
    cut[where] = 0
    return cut


def test_the_published_rule_writes_in_the_published_order():
    labels = np.array([[[1, 12, 10, 0, 8, 13]]], np.uint8)
    predicted = np.array([[[2, 9, 11, 5, 9, 0]]], np.uint8)

    # Later classes win: 2 over 1; but 10, 9, 8 are written last, in that order.
    assert fuse_published(labels, predicted).tolist() == [[[2, 9, 10, 5, 8, 13]]]


@given(labels=maps, predicted=maps)
def test_the_published_rule_only_grows_labels(labels, predicted):
    fused = fuse_published(labels, predicted)

    np.testing.assert_array_equal(fused > 0, (labels > 0) | (predicted > 0))
    assert (fused[labels == 8] == 8).all()  # the last one written loses nothing
    np.testing.assert_array_equal(fuse_published(fused, predicted), fused)


def test_a_part_that_touches_its_organ_joins_it(body, refine):
    cut = (slice(27, 40), slice(6, 26), slice(4, 20))  # the liver's upper half

    np.testing.assert_array_equal(refine(without(body, cut), body), body)


def test_what_the_prediction_misses_stays(body, refine):
    cut = (slice(27, 40), slice(6, 26), slice(4, 20))

    np.testing.assert_array_equal(refine(body, without(body, cut)), body)


def test_dropped_slices_come_back_without_the_prediction(body, refine):
    broken = without(body, (slice(24, 26),))

    np.testing.assert_array_equal(refine(broken, broken), body)


def test_borders_stay_where_the_label_has_them(body, refine):
    shifted = np.roll(body, 1, axis=2)

    np.testing.assert_array_equal(refine(body, shifted), body)


def test_a_blob_apart_from_its_organ_goes(body, refine):
    blob = body.copy()
    blob[1:5, 2:8, 2:10] = 3  # spleen below the liver

    np.testing.assert_array_equal(refine(blob, body), body)
    # The published rule keeps it, and takes in the prediction's blobs as well.
    assert (fuse_published(blob, body) == blob).all()
    np.testing.assert_array_equal(refine(body, blob), body)


def test_a_blob_that_both_see_goes_if_it_lies_elsewhere_or_is_a_speck(body, refine):
    far = body.copy()
    far[1:7, 2:12, 2:14] = 3  # spleen below the liver, a third of the real one
    np.testing.assert_array_equal(refine(far, far), body)
    assert (fuse_published(far, far) == far).all()

    speck = body.copy()
    speck[10:12, 26:28, 44:46] = 13  # beside the left kidney
    np.testing.assert_array_equal(refine(speck, speck), body)


def test_a_part_that_both_see_apart_but_in_its_place_stays(body, refine):
    parted = without(body, (slice(25, 26), slice(18, 30), slice(36, 44)))  # the spleen
    parted = without(parted, (slice(21, 25), slice(18, 30), slice(36, 44)))

    found = refine(parted, parted)

    assert (found[parted == 3] == 3).all()


def test_the_only_piece_of_an_organ_stays_wherever_it_lies(body, refine):
    moved = without(body, body == 3)
    moved[1:7, 2:12, 2:14] = 3

    np.testing.assert_array_equal(refine(moved, moved), moved)


def test_left_and_right_are_told_apart_even_if_both_are_wrong(body, refine):
    swapped = body.copy()
    swapped[body == 2], swapped[body == 13] = 13, 2

    np.testing.assert_array_equal(refine(swapped, swapped), body)


def test_of_two_organs_the_one_that_a_part_hangs_together_with_wins(body, refine):
    swapped = body.copy()
    swapped[26:34][body[26:34] == 11] = 3  # the stomach's upper half as spleen

    np.testing.assert_array_equal(refine(swapped, body), body)
    np.testing.assert_array_equal(refine(body, swapped), body)


def test_an_organ_that_the_label_lacks_is_taken_from_the_prediction(body, refine):
    np.testing.assert_array_equal(refine(without(body, body == 3), body), body)


def test_a_prediction_that_is_not_sure_adds_nothing(body, refine):
    cut = without(body, (slice(27, 40), slice(6, 26), slice(4, 20)))
    unsure = np.full(SHAPE, 0.4, np.float32)

    np.testing.assert_array_equal(refine(cut, body, unsure), cut)
    np.testing.assert_array_equal(refine(cut, body, unsure + 0.3), body)


def test_a_sure_prediction_takes_away_what_clings_to_an_organ(body, refine):
    grown = body.copy()
    grown[22:30, 6:18, 20:24] = 1  # the liver reaches up to the stomach

    np.testing.assert_array_equal(refine(grown, body), grown)
    np.testing.assert_array_equal(refine(grown, body, np.ones(SHAPE, np.float32)), body)


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000))
def test_an_unbroken_label_is_hardly_ever_worsened_and_a_second_look_changes_nothing(seed):
    # Built here: hypothesis and fixtures of a module do not go together.
    body, positions = boxed_body(), boxed_positions()
    predicted, confidence = imitate_prediction(body, SPACING_MM, np.random.default_rng(seed))
    for sure in (None, confidence):

        def refine(labels, sure=sure):
            return refine_plausibly(
                labels, predicted, spacing_mm=SPACING_MM, positions=positions, confidence=sure
            )

        refined = refine(body)
        np.testing.assert_array_equal(refine(refined), refined)
        scores = [dice(body == value, refined == value) for value in ORGAN_BOXES]
        assert np.mean(scores) > 0.9


@pytest.mark.parametrize("name", FAULTS)
def test_faults_break_labels_and_leave_the_original_alone(body, name):
    before = body.copy()

    broken = [FAULTS[name](body, SPACING_MM, np.random.default_rng(seed)) for seed in range(5)]

    assert sum(not np.array_equal(one, body) for one in broken) >= 4
    np.testing.assert_array_equal(body, before)


@pytest.mark.parametrize("organs", [(), (13,)])
@pytest.mark.parametrize("name", FAULTS)
def test_faults_need_no_two_organs(body, name, organs):
    few = np.where(np.isin(body, organs), body, 0).astype(np.uint8)

    for seed in range(5):
        broken = FAULTS[name](few, SPACING_MM, np.random.default_rng(seed))
        assert set(np.unique(broken)) <= {0, *organs}


def test_arrays_of_two_sizes_are_refused(body, refine):
    with pytest.raises(InputError, match="40"):
        refine(body, body[1:])


def test_the_table_knows_the_body():
    offset = read_positions().offset_mm
    value = {organ.name: organ.value for organ in ORGANS}

    def from_to(organ, landmark):
        return offset[value[organ], value[landmark]]

    # (z, y, x) in LPS: the head is up, the back is behind, the left is to the left.
    assert from_to("left_kidney", "right_kidney")[2] > 80
    assert from_to("spleen", "liver")[2] > 80
    assert from_to("aorta", "stomach")[1] > 20
    assert from_to("right_adrenal_gland", "right_kidney")[0] > 20
    np.testing.assert_allclose(from_to("liver", "aorta"), -from_to("aorta", "liver"), atol=0.11)


def test_a_place_is_measured_in_the_spread_of_the_organ(positions, body):
    centers, spreads = centers_of(body, SPACING_MM)
    inside = positions.distance(centers[3], 3, centers)
    outside = positions.distance(centers[3] + 3 * spreads[3], 3, centers)

    assert inside < 0.5
    assert outside > 2
    assert np.isnan(positions.distance(centers[3], 3, np.full((14, 3), np.nan)))
