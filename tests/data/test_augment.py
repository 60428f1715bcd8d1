from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import RandAffined

from app.cascade.locate import MARGIN_MM
from app.config import LOCATE, SEGMENT
from app.data.augment import (
    LOCATED_MARGIN_MM,
    CutLocatedBoxd,
    RandMirrord,
    _turns,
    locate_transforms,
    located_region,
    mirror,
    segment_transforms,
)
from app.imaging.preprocess import AIR
from app.labels import ORGANS

SHAPE = (20, 24, 28)
PHASE = replace(SEGMENT, spacing_mm=(5.0, 3.0, 4.0), patch_shape=(16, 16, 32))
VALUE = {organ.name: organ.value for organ in ORGANS}


def example(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": torch.from_numpy(rng.uniform(-2, 2, (1, *SHAPE)).astype(np.float16)),
        "label": torch.from_numpy(rng.integers(0, 14, (1, *SHAPE)).astype(np.uint8)),
        "labeled": torch.from_numpy(rng.random(14) < 0.5),
    }


def test_the_mirror_image_of_a_right_kidney_is_a_left_kidney():
    label = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    label[0, 3, 4, 5] = VALUE["right_kidney"]
    label[0, 3, 4, 20] = VALUE["left_adrenal_gland"]
    label[0, 3, 4, 8] = VALUE["liver"]
    labeled = torch.zeros(14, dtype=torch.bool)
    labeled[[0, VALUE["right_kidney"]]] = True

    seen = mirror({"image": label.float(), "label": label, "labeled": labeled}, axis=2)

    assert seen["label"][0, 3, 4, 27 - 5] == VALUE["left_kidney"]
    assert seen["label"][0, 3, 4, 27 - 20] == VALUE["right_adrenal_gland"]
    assert seen["label"][0, 3, 4, 27 - 8] == VALUE["liver"]
    assert torch.count_nonzero(seen["label"]) == 3
    # Nobody looked for the left kidney before; now nobody has looked for the right one.
    assert seen["labeled"].nonzero().flatten().tolist() == [0, VALUE["left_kidney"]]


@given(axis=st.integers(0, 2), seed=st.integers(0, 5))
def test_two_mirrors_give_back_the_body(axis, seed):
    body = example(seed)

    twice = mirror(mirror(body, axis), axis)

    assert all(torch.equal(twice[key], body[key]) for key in body)


def test_two_different_mirrors_make_a_turn_which_exchanges_nothing():
    body = example()

    turned = mirror(mirror(body, axis=1), axis=2)

    assert torch.equal(turned["label"], torch.rot90(body["label"], 2, (2, 3)))
    assert torch.equal(turned["labeled"], body["labeled"])


def test_mirrors_are_drawn_as_often_as_asked():
    assert torch.equal(RandMirrord(prob=0.0)(example())["label"], example()["label"])
    always = RandMirrord(prob=1.0).set_random_state(seed=0)
    axes = set()
    for _ in range(30):
        always(example())
        axes.add(always.axis)
    assert axes == {0, 1, 2}


def test_boxes_have_the_margin_that_phase_one_leaves():
    assert LOCATED_MARGIN_MM == MARGIN_MM
    label = torch.zeros(1, 60, 61, 62, dtype=torch.uint8)
    label[0, 25:30, 20:41, 30:33] = 1
    cut = CutLocatedBoxd((5.0, 3.0, 4.0), (1, 1, 1), jitter_mm=0.0)

    region = cut({"image": label.float(), "label": label})

    # 10 mm are 2 slices of 5 mm and, rounded, 3 voxels of 3 mm and 2 of 4 mm.
    assert region["label"].shape == (1, 5 + 4, 21 + 6, 3 + 4)
    assert region["label"].sum() == label.sum()
    assert region["image"].shape == region["label"].shape


def test_every_face_of_a_box_errs_on_its_own_and_never_leaves_what_is_kept():
    label = torch.zeros(1, 60, 61, 62, dtype=torch.uint8)
    label[0, 20:40, 20:41, 20:42] = 1
    kept = located_region(np.asarray(label[0]) > 0, PHASE, PHASE.patch_shape)
    cut = CutLocatedBoxd(PHASE.spacing_mm, (1, 1, 1)).set_random_state(seed=0)

    shapes = [cut({"image": label, "label": label})["label"].shape[1:] for _ in range(40)]

    assert len(set(shapes)) > 20
    assert all(np.all(np.less_equal(shape, kept.shape)) for shape in shapes)


def test_a_scan_without_organs_stays_whole():
    blank = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    whole = CutLocatedBoxd((5.0, 3.0, 4.0), (1, 1, 1))({"image": blank, "label": blank})

    assert whole["label"].shape == blank.shape


def test_phase_two_gets_several_patches_of_what_a_network_takes():
    transforms = segment_transforms(PHASE, (16, 16, 32), num_patches=3).set_random_state(seed=1)

    for _ in range(5):
        patches = transforms(example())
        assert len(patches) == 3
        for patch in patches:
            assert patch["image"].shape == patch["label"].shape == (1, 16, 16, 32)
            assert patch["image"].dtype == torch.float32
            assert patch["image"].abs().max() <= 2
            assert patch["label"].max() <= 13


def test_most_patches_are_centered_on_an_organ():
    body = example()
    body["label"] = torch.zeros(1, 64, 64, 96, dtype=torch.uint8)
    body["label"][0, 26:38, 26:38, 42:54] = 3
    body["image"] = torch.zeros(1, 64, 64, 96)
    phase = replace(PHASE, spacing_mm=(1.0, 1.0, 1.0))
    transforms = segment_transforms(phase, (8, 8, 8), num_patches=60).set_random_state(seed=2)

    at_center = [bool(patch["label"][0, 3:5, 3:5, 3:5].any()) for patch in transforms(body)]

    assert 0.7 < np.mean(at_center) < 0.95  # 5 of 6


def test_phase_one_gets_the_whole_scan_with_air_around_and_one_kind_of_organ():
    # A seed that draws neither contrast nor brightness: they change air, too.
    transforms = locate_transforms((32, 32, 32)).set_random_state(seed=0)
    body = example()
    body["image"][:] = 1.0

    seen = transforms(body)

    assert seen["image"].shape == seen["label"].shape == (1, 32, 32, 32)
    assert set(seen["label"].unique().tolist()) == {0, 1}
    assert seen["image"][0, 0, 0, 0] == AIR
    assert LOCATE.class_names == ("background", "organs")


def test_small_turns_are_about_the_slice_axis():
    (turn,) = [step for step in _turns() if isinstance(step, RandAffined)]
    turn.prob = 1.0
    turn.rand_affine.prob = 1.0
    turn.rand_affine.rand_affine_grid.scale_range = ()
    turn.set_random_state(seed=0)
    image = torch.arange(9.0).reshape(1, 9, 1, 1).expand(1, 9, 21, 21).clone()

    turned = turn({"image": image, "label": image})["image"]

    torch.testing.assert_close(
        torch.as_tensor(turned[0, :, 8:13, 8:13]), image[0, :, 8:13, 8:13], atol=1e-3, rtol=0
    )


def test_labels_stay_whole_numbers_however_patches_are_turned():
    transforms = segment_transforms(PHASE, (16, 16, 32), num_patches=2).set_random_state(seed=3)
    for step in transforms.transforms:
        if isinstance(step, RandAffined):
            step.prob = step.rand_affine.prob = 1.0

    for patch in transforms(example()):
        assert patch["label"].dtype == torch.uint8
        assert patch["image"].dtype == torch.float32


@pytest.mark.parametrize("shape", [(16, 16, 32), (8, 24, 16)])
def test_patches_of_unequal_sides_survive_quarter_turns(shape):
    transforms = segment_transforms(PHASE, shape, num_patches=2).set_random_state(seed=3)
    for step in transforms.transforms:
        if type(step).__name__ == "RandRotate90d":
            step.prob = 1.0

    assert all(patch["image"].shape == (1, *shape) for patch in transforms(example()))
