"""What the scanner adds: wide voxels, faint contrast, and how often."""

from dataclasses import replace

import numpy as np
import pytest

from app.synthesis import appearance
from app.synthesis.appearance import PHASES, draw_appearance, render, scan
from app.synthesis.tissues import Tissue

SHAPE, SPACING_MM = (9, 44, 56), (2.0, 1.0, 1.2)


def tissues():
    """Give a block of liver in air, in the middle of the grid."""
    volume = np.zeros(SHAPE, np.uint8)
    volume[:, 12:32, 14:42] = Tissue.LIVER
    return volume


@pytest.mark.parametrize("averaged", [True, False])
def test_wide_voxels_keep_the_middle_and_the_tissues_of_a_scan(averaged):
    look = replace(
        draw_appearance(np.random.default_rng(2)), pixel_mm=3.0, pixels_averaged=averaged,
        slice_mm=2.0, noise_hu=0.0, shading_hu=0.0, streak_hu=0.0, blur_mm=0.4, sharpness=0.0,
    )  # fmt: skip
    volume = tissues()

    hu, spacing_mm = scan(volume, SPACING_MM, look, np.random.default_rng(0))
    again = render(volume, SPACING_MM, look, np.random.default_rng(0))

    assert spacing_mm == (2.0, 3.0, 3.0)
    assert hu.shape == (9, 15, 23)  # 44 mm and 67.2 mm, in steps of 3 mm
    assert again.shape == SHAPE
    # The block is 20 mm x 33.6 mm; what is brighter than halfway to air measures as much.
    area_mm2 = (hu[4] > -450).sum() * 9.0
    assert abs(area_mm2 - 20 * 33.6) < 150
    middle = np.argwhere(hu[4] > -450).mean(0)
    np.testing.assert_allclose(middle, (7.0, 11.0), atol=0.5)


def test_single_places_keep_the_noise_that_averages_lose():
    look = replace(
        draw_appearance(np.random.default_rng(2), phase="none"), pixel_mm=3.0, slice_mm=2.0,
        noise_hu=20.0, noise_mm=0.3, shading_hu=0.0, streak_hu=0.0, sharpness=0.0,
    )  # fmt: skip
    volume = np.full(SHAPE, Tissue.LIVER, np.uint8)
    spread = {
        averaged: scan(
            volume,
            SPACING_MM,
            replace(look, pixels_averaged=averaged),
            np.random.default_rng(0),
        )[0].std()
        for averaged in (True, False)
    }
    assert spread[False] > 18
    assert spread[True] < 0.6 * spread[False]


def test_thin_voxels_are_left_as_they_are():
    look = replace(draw_appearance(np.random.default_rng(2)), pixel_mm=0.0, slice_mm=1.0)
    hu, spacing_mm = scan(tissues(), SPACING_MM, look, np.random.default_rng(0))
    assert (hu.shape, spacing_mm) == (SHAPE, SPACING_MM)


@pytest.mark.parametrize(("share", "expected"), [("_COARSE_SHARE", 0.0), ("_COARSE_SHARE", 1.0)])
def test_wide_voxels_are_as_common_as_told(monkeypatch, share, expected):
    monkeypatch.setattr(appearance, share, expected)
    rng = np.random.default_rng(1)
    drawn = np.array([draw_appearance(rng).pixel_mm for _ in range(20)])
    assert (drawn > 0).mean() == expected
    assert (drawn[drawn > 0] >= 1.5).all()
    assert (drawn <= 3.5).all()


def test_unenhanced_bowel_is_often_as_bright_as_kidney_and_pancreas():
    """What tells them apart there is shape and place; a network must see that it is so."""
    rng = np.random.default_rng(3)
    drawn = np.array([draw_appearance(rng, phase="none").hu for _ in range(300)])
    for organ in (Tissue.RIGHT_KIDNEY, Tissue.LEFT_KIDNEY, Tissue.PANCREAS):
        alike = np.abs(drawn[:, organ] - drawn[:, Tissue.BOWEL_WALL]) < 12
        assert alike.mean() > 0.35
    fluid = drawn[:, Tissue.BOWEL_FLUID]
    assert 0 < np.median(fluid) < 30
    # Fluid of the colon, as homogeneous as water, may be no darker than a kidney.
    assert (np.abs(fluid - drawn[:, Tissue.RIGHT_KIDNEY]) < 12).mean() > 0.2


def test_only_contrast_agent_parts_the_blood_of_the_cava_and_the_pulp_of_the_spleen():
    rng = np.random.default_rng(4)
    drawn = {
        phase: np.array([draw_appearance(rng, phase=phase).hu for _ in range(60)])
        for phase in PHASES
    }
    pairs = (
        (Tissue.RENAL_BLOOD, Tissue.INFERIOR_VENA_CAVA),
        (Tissue.SPLEEN, Tissue.SPLEEN_PULP),
    )
    for brighter, darker in pairs:
        more = {phase: hu[:, brighter] - hu[:, darker] for phase, hu in drawn.items()}
        np.testing.assert_allclose(more["none"], 0.0, atol=1e-3)
        assert more["arterial"].min() > 0.0
        assert np.median(more["arterial"]) > 25.0
        assert np.median(more["arterial"]) > 2 * np.median(more["portal"]) > 0.0


def test_urine_is_bright_in_some_late_scans_and_bile_as_dark_as_the_gallbladder():
    rng = np.random.default_rng(6)
    late, portal = (
        np.array([draw_appearance(rng, phase=phase).hu for _ in range(60)])
        for phase in ("late", "portal")
    )
    assert portal[:, Tissue.URINE].max() < 80.0
    bright = late[:, Tissue.URINE] > 150.0
    assert 0.2 < bright.mean() < 0.8
    for hu in (late, portal):
        assert np.abs(hu[:, Tissue.BILE] - hu[:, Tissue.GALLBLADDER]).max() < 15.0
