"""Whether numbers are HU is told by shares of them, and never by a few odd voxels."""

import numpy as np
import pytest

from app.imaging.hounsfield import settle_offset, shows_no_air

SHIFTED = ("stored as HU + 1024, which was taken off",)


def torso():
    """Air, a body of fat and organs with lungs and bone in it; noise everywhere. In HU."""
    rng = np.random.default_rng(0)
    hu = np.full((20, 60, 80), -1000.0)
    hu[:, 10:50, 10:70] = -100
    hu[:, 14:46, 14:66] = 50
    hu[:8, 16:36, 18:36] = hu[:8, 16:36, 44:62] = -850
    hu[:, 38:44, 36:44] = 400
    return (hu + rng.normal(0, 20, hu.shape)).clip(-1024, None).astype(np.int16)


def outside_circle(scan, number):
    """Pad what lies outside the scanner's circle."""
    padded = scan.copy()
    y, x = np.ogrid[-1:1:60j, -1:1:80j]
    padded[:, y**2 + x**2 > 1] = number
    return padded


@pytest.mark.parametrize("padding", [None, -1024, -2000, -3024, -32768])
def test_scan_in_hu_stays_as_it_is(padding):
    scan = torso() if padding is None else outside_circle(torso(), padding)
    before = scan.copy()
    assert settle_offset(scan) == ()
    assert np.array_equal(scan, before)
    assert not shows_no_air(scan)


@pytest.mark.parametrize("padding", [None, 0, -1024, -2000, -3024])
def test_scan_stored_with_its_offset_is_shifted_whatever_pads_it(padding):
    stored = torso() + np.int16(1024)
    if padding is not None:
        stored = outside_circle(stored, padding)
    scan = stored.copy()
    assert settle_offset(scan) == SHIFTED
    assert np.array_equal(scan, stored - 1024)
    assert not shows_no_air(scan)


def test_one_voxel_of_ringing_does_not_make_it_hu():
    stored = torso() + np.int16(1024)
    stored[0, 0, 0] = -7
    scan = stored.copy()
    assert settle_offset(scan) == SHIFTED
    assert np.array_equal(scan, stored - 1024)


def test_noise_of_stored_air_reaches_below_zero():
    noise = np.random.default_rng(1).normal(0, 25, (20, 60, 80))
    scan = (torso() + 1024 + noise).astype(np.int16)
    assert (scan < 0).mean() > 0.05
    assert settle_offset(scan) == SHIFTED


def test_padding_at_the_end_of_the_range_never_wraps():
    scan = outside_circle(torso() + np.int16(1024), -32768)
    assert settle_offset(scan) == SHIFTED
    assert scan.min() == -32768
    assert scan.max() < 1000


@pytest.mark.parametrize(("mean", "spread"), [(250, 120), (1000, 300), (1074, 250)])
@pytest.mark.parametrize("odd", [0, -3, -40])
def test_magnetic_resonance_is_not_shifted_and_shows_no_air(mean, spread, odd):
    rng = np.random.default_rng(0)
    scan = rng.rayleigh(20, (20, 60, 80))
    scan[:, 10:50, 10:70] = rng.normal(mean, spread, (20, 40, 60)).clip(0)
    scan = scan.astype(np.int16)
    scan[0, 0, 0] = odd
    before = scan.copy()
    assert settle_offset(scan) == ()
    assert np.array_equal(scan, before)
    assert shows_no_air(scan)


def test_piece_of_a_body_without_air_is_not_shifted():
    scan = torso()[10:, 14:37, 14:66].copy()
    assert scan.min() > -100
    before = scan.copy()
    settle_offset(scan)
    assert np.array_equal(scan, before)


def test_padding_is_no_air():
    scan = np.random.default_rng(0).normal(250, 60, (8, 60, 80)).astype(np.int16)
    assert shows_no_air(outside_circle(scan, -2000))


def test_nothing_but_padding_and_one_organ_is_told():
    scan = np.full((4, 6, 5), -2000, np.int16)
    scan[1, 2, 3] = 40
    assert settle_offset(scan) == (
        "nothing above 150 HU, so no bone is in it; a phantom, or not in HU",
    )
