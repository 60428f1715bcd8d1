import numpy as np
from crude_anatomy import organ_map
from hypothesis import given, settings
from hypothesis import strategies as st

from app.synthesis.fit import Warp, find_landmarks, fit_affine, fit_warp, tube_centers, warp_labels
from app.synthesis.tissues import Tissue
from app.synthesis.whole_body import SPACING_MM


@settings(max_examples=20)
@given(
    st.lists(st.floats(0.8, 1.25), min_size=3, max_size=3),
    st.lists(st.floats(-90, 90), min_size=3, max_size=3),
)
def test_an_affine_warp_and_its_inverse_meet(scales, shift):
    warp = Warp(np.diag(scales) + 0.02, np.array(shift))
    points = np.array([[0.0, 10.0, -7.0], [100.0, 33.0, 250.0]])
    np.testing.assert_allclose(warp.affine_inverse(warp(points)), points, atol=1e-8)


def test_a_pure_shift_is_found():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 200, (30, 3))
    warp = fit_affine(points, points + [5.0, -8.0, 20.0], stiffness=1.0)
    np.testing.assert_allclose(warp.matrix, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(warp.offset, [5.0, -8.0, 20.0], atol=1e-4)


def test_one_wrong_landmark_does_not_move_the_fit():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 200, (30, 3))
    moved = points + [5.0, -8.0, 20.0]
    moved[0] += 300.0
    warp = fit_affine(points, moved, stiffness=1.0)
    assert np.abs(warp(points[1:]) - moved[1:]).max() < 5.0


def test_warping_onto_a_shifted_copy_gives_the_copy():
    fixed, moving = organ_map((90, 80, 98)), organ_map((90, 80, 98), shift=(4, -2, 6))
    warp = fit_warp(
        find_landmarks(moving, SPACING_MM), find_landmarks(fixed, SPACING_MM), SPACING_MM
    )
    sampled = warp_labels(
        fixed, SPACING_MM, warp, start_mm=(0, 0, 0), shape=moving.shape, new_spacing_mm=SPACING_MM
    )
    both = (sampled == Tissue.LIVER) & (moving == Tissue.LIVER)
    assert both.sum() > 0.9 * (moving == Tissue.LIVER).sum()


def test_of_two_cuts_through_the_arch_the_one_at_the_back_is_traced():
    labels = np.zeros((2, 20, 12), np.uint8)
    labels[1, 2:5, 4:7] = Tissue.AORTA
    labels[1, 14:17, 5:8] = Tissue.AORTA
    centers = tube_centers(labels, Tissue.AORTA, (3.0, 2.0, 1.0))
    assert np.isnan(centers[0]).all()
    # Slice 1, row 15, column 6.
    np.testing.assert_allclose(centers[1], [3.0, 30.0, 6.0])
