"""The scanner on a device of PyTorch makes what processors make; here the device is the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from app.config import SEGMENT
from app.data.device_scan import DeviceScanner, ScannedPatches
from app.data.synthetic import UnscannedPatches, load_body, segment_example, unscanned_patch
from app.synthesis import appearance as looks
from app.synthesis.tissues import ORGAN_OF_TISSUE

DEVICE = torch.device("cpu")
SPACING_MM = (1.0, 1.25, 0.75)
SIZE = (24, 32, 40)
STILL = {"noise_hu": 0.0, "shading_hu": 0.0, "streak_hu": 0.0}
PLAIN = {"slice_mm": 1.0, "pixel_mm": 0.0, "sharpness": 0.0}


@pytest.fixture(scope="module")
def tissues():
    blocks = np.random.default_rng(5).integers(0, 60, (6, 8, 8)).astype(np.uint8)
    return blocks.repeat(4, 0).repeat(4, 1).repeat(5, 2)


def look(seed=3, *, textured=False, **changes):
    drawn = looks.draw_appearance(np.random.default_rng(seed))
    texture_hu = drawn.texture_hu if textured else np.zeros_like(drawn.texture_hu)
    return replace(drawn, texture_hu=texture_hu, **changes)


def on_device(tissues, appearance, seed=0):
    scanner = DeviceScanner(DEVICE, seed=seed)
    hu, spacing_mm = scanner.scan(torch.from_numpy(tissues), SPACING_MM, appearance)
    return hu.numpy(), spacing_mm


@pytest.mark.parametrize("changes", [
    {},
    {"blur_mm": 2.3},
    {"slice_mm": 5.0},
    {"sharpness": 1.4},
    {"pixel_mm": 2.9, "pixels_averaged": True},
    {"pixel_mm": 2.9, "pixels_averaged": False},
    {"slice_mm": 2.0, "sharpness": 0.6, "pixel_mm": 1.0, "pixels_averaged": True},
])  # fmt: skip
def test_without_noise_both_scanners_make_the_same_scan(tissues, changes):
    appearance = look(**{**STILL, **PLAIN, **changes})

    expected, expected_mm = looks.scan(tissues, SPACING_MM, appearance, np.random.default_rng(0))
    hu, spacing_mm = on_device(tissues, appearance)

    assert spacing_mm == expected_mm
    np.testing.assert_allclose(hu, expected, atol=0.02)
    assert hu.std() > 50


@pytest.mark.parametrize(("changes", "spread_hu"), [
    ({"noise_hu": 30.0, "noise_mm": 0.2}, 30.0),
    ({"noise_hu": 30.0, "noise_mm": 0.8}, 30.0),
    ({"shading_hu": 20.0}, None),
    ({"streak_hu": 25.0}, None),
    ({"texture": True, "texture_mm": 3.0}, None),
])  # fmt: skip
def test_what_is_random_has_the_same_spread_and_grain(changes, spread_hu):
    """Of a uniform body; the grain is how alike neighbors are along each axis."""
    tissues = np.ones((48, 48, 48), np.uint8)
    changes = dict(changes)
    textured = changes.pop("texture", False)
    appearance = look(textured=textured, **{**STILL, **PLAIN, **changes})

    def character(scans):
        apart = [hu - hu.mean() for hu in scans] if not appearance.shading_hu else scans
        level = appearance.hu[1]
        spread = np.sqrt(np.mean([np.var(hu) + (hu.mean() - level) ** 2 for hu in scans]))
        alike = [
            np.mean([np.mean((hu - np.roll(hu, 1, axis))[1:, 1:, 1:] ** 2) for hu in apart])
            for axis in range(3)
        ]
        return spread, np.sqrt(alike)

    processors = [
        looks.scan(tissues, SPACING_MM, appearance, np.random.default_rng(seed))[0]
        for seed in range(12)
    ]
    device = [on_device(tissues, appearance, seed)[0] for seed in range(12)]

    (spread, alike), (expected, expected_alike) = character(device), character(processors)
    assert spread == pytest.approx(expected, rel=0.25 if appearance.shading_hu else 0.08)
    np.testing.assert_allclose(alike, expected_alike, rtol=0.25, atol=0.05)
    if spread_hu:
        assert spread == pytest.approx(spread_hu, rel=0.02)


def test_a_seed_repeats_and_another_differs(tissues):
    appearance = look(noise_hu=10.0)
    first, again, other = (on_device(tissues, appearance, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_patch_is_the_one_that_processors_make_but_for_noise(body_file, monkeypatch):
    """Both draw alike up to the scanner, and field of view and scaling are the same code."""
    body = load_body(body_file)
    still = look(**{**STILL, **PLAIN})
    monkeypatch.setattr("app.data.synthetic.draw_aged_appearance", lambda rng: still)
    monkeypatch.setattr("app.data.synthetic._field_of_view", lambda rng, shape: (
        slice(2, shape[0] - 3), slice(None), slice(None)
    ))  # fmt: skip

    patch = unscanned_patch(body, SEGMENT, SIZE, np.random.default_rng(8))
    image, labels = next(iter(ScannedPatches([[patch]], SEGMENT, DEVICE)))
    expected, expected_labels = segment_example(body, SEGMENT, SIZE, np.random.default_rng(8))

    assert image.shape == labels.shape == (1, 1, *SIZE)
    assert (image.dtype, labels.dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(labels[0, 0], expected_labels)
    np.testing.assert_allclose(image[0, 0], expected, atol=1e-3)
    assert (image[0, 0, :2] == -2).all()
    assert not labels[0, 0, :2].any()


def test_workers_make_batches_that_are_scanned_as_they_come(body_file):
    unscanned = UnscannedPatches([body_file], SEGMENT, patch_shape=SIZE, seed=4)
    loader = DataLoader(unscanned, batch_size=2, num_workers=1, collate_fn=list)

    batches = iter(ScannedPatches(loader, SEGMENT, DEVICE))
    images, labels = next(batches)

    assert images.shape == labels.shape == (2, 1, *SIZE)
    assert not torch.equal(images[0], images[1])
    assert set(labels.unique().tolist()) <= set(ORGAN_OF_TISSUE.tolist())
    assert -2 <= images.min() < images.max() <= 2
