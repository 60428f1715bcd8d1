"""Phantoms: anatomy that holds for every patient, and a body that does not depend on the grid."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from app.errors import UsageError
from app.labels import ORGANS
from app.synthesis.phantom import make_phantom, phantom_tissues
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue

SHAPE, SPACING_MM = (72, 104, 116), (6.0, 4.0, 3.6)
"""Holds all organs; three unequal extents and spacings."""

VALUE = {organ.name: organ.value for organ in ORGANS}


@functools.cache
def labels_of(seed, shape=SHAPE, spacing_mm=SPACING_MM):
    return ORGAN_OF_TISSUE[phantom_tissues(shape=shape, spacing_mm=spacing_mm, seed=seed)]


def center(labels, name):
    """Center of mass (z, y, x) in voxels: z to the head, y to the back, x to the left."""
    return ndimage.center_of_mass(labels == VALUE[name])


@pytest.fixture(scope="module", params=[0, 5, 17])
def labels(request):
    return labels_of(request.param)


def test_all_13_organs_are_there(labels):
    assert np.unique(labels).tolist() == list(range(14))


def test_organs_lie_on_their_side_of_the_body(labels):
    middle = (SHAPE[2] - 1) / 2
    for on_the_right in ("liver", "right_kidney", "right_adrenal_gland", "gallbladder"):
        assert center(labels, on_the_right)[2] < middle, on_the_right
    for on_the_left in ("spleen", "left_kidney", "left_adrenal_gland", "stomach", "aorta"):
        assert center(labels, on_the_left)[2] > middle, on_the_left
    assert center(labels, "inferior_vena_cava")[2] < center(labels, "aorta")[2]


def test_organs_lie_over_and_behind_each_other_as_they_should(labels):
    for side in ("right", "left"):
        adrenal, kidney = (center(labels, f"{side}_{name}") for name in ("adrenal_gland", "kidney"))
        assert adrenal[0] > kidney[0]
    assert center(labels, "right_kidney")[0] < center(labels, "left_kidney")[0]
    assert center(labels, "esophagus")[0] > center(labels, "stomach")[0]
    assert center(labels, "stomach")[1] < center(labels, "spleen")[1]
    assert center(labels, "pancreas")[1] < center(labels, "left_kidney")[1]
    assert center(labels, "duodenum")[0] < center(labels, "pancreas")[0]


def test_solid_organs_are_of_one_piece(labels):
    for name in ("liver", "spleen", "right_kidney", "left_kidney", "aorta", "gallbladder"):
        parts, count = ndimage.label(labels == VALUE[name], np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        assert sizes.max() == sizes.sum(), (name, count)


@pytest.mark.parametrize("seed", [2, 5, 6])
def test_organ_volumes_are_those_of_patients(seed):
    """The bounds are the 2nd and 98th percentile of 250 real patients, in ml, a little widened."""
    bounds_ml = {
        "liver": (900, 3100), "right_kidney": (100, 410), "spleen": (75, 750),
        "pancreas": (34, 170), "gallbladder": (2, 130), "stomach": (110, 950),
        "duodenum": (28, 140), "left_kidney": (100, 390), "right_adrenal_gland": (1.6, 12),
        "left_adrenal_gland": (1.6, 13),
    }  # fmt: skip
    shape, spacing_mm = (80, 100, 104), (5.0, 4.0, 3.9)
    volumes_ml = np.bincount(labels_of(seed, shape, spacing_mm).ravel(), minlength=14)
    volumes_ml = volumes_ml * np.prod(spacing_mm) / 1000
    for name, (low, high) in bounds_ml.items():
        assert low < volumes_ml[VALUE[name]] < high, name


@pytest.mark.realdata
def test_median_volumes_lie_among_the_middle_of_250_patients():
    manifest = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "anatomies"
    manifest = manifest / "manifest.json"
    if not manifest.is_file():
        pytest.skip(f"no {manifest}")
    patients_ml = np.array([case["organ_ml"] for case in json.loads(manifest.read_text())])
    shape, spacing_mm = (80, 100, 104), (5.0, 4.0, 3.9)
    phantoms_ml = np.median(
        [
            np.bincount(labels_of(seed, shape, spacing_mm).ravel(), minlength=14)[1:]
            for seed in range(7)
        ],
        axis=0,
    ) * (np.prod(spacing_mm) / 1000)
    for organ in ORGANS:
        # These two run through the chest; how much of them is there depends on the scan's length.
        if organ.name in ("aorta", "esophagus"):
            continue
        volumes = patients_ml[:, organ.value - 1]
        low, high = np.percentile(volumes[volumes > 0], [20, 80])
        assert low < phantoms_ml[organ.value - 1] < high, organ.name


def test_the_same_seed_on_two_grids_is_the_same_body():
    # Both grids are 432 x 408 x 420 mm large and so share their center.
    coarse = labels_of(4, (72, 102, 100), (6.0, 4.0, 4.2))
    fine = labels_of(4, (144, 102, 200), (3.0, 4.0, 2.1))
    coarse_on_fine = coarse.repeat(2, axis=0).repeat(2, axis=2)
    for name in ("liver", "spleen", "right_kidney", "left_kidney", "stomach", "aorta"):
        a, b = coarse_on_fine == VALUE[name], fine == VALUE[name]
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.9, name


def test_gas_lies_before_fluid_in_the_stomach_of_a_patient_lying_on_the_back():
    tissues = phantom_tissues(shape=SHAPE, spacing_mm=SPACING_MM, seed=2)
    gas = np.argwhere(tissues == Tissue.STOMACH_GAS)[:, 1]
    fluid = np.argwhere(tissues == Tissue.STOMACH_CONTENT)[:, 1]
    assert gas.size > 0
    assert gas.max() < fluid.min()


def test_the_label_map_is_the_tissue_map_looked_up():
    shape, spacing_mm = (40, 60, 64), (9.0, 7.0, 6.5)
    tissues = phantom_tissues(shape=shape, spacing_mm=spacing_mm, seed=3)
    scan, labels = make_phantom(shape=shape, spacing_mm=spacing_mm, seed=3, phase="portal")
    np.testing.assert_array_equal(labels, ORGAN_OF_TISSUE[tissues])
    assert (scan.dtype, labels.dtype) == (np.int16, np.uint8)
    assert scan.shape == labels.shape == shape


def test_a_scan_shows_air_fat_soft_tissue_and_bone_where_they_are():
    tissues = phantom_tissues(shape=SHAPE, spacing_mm=SPACING_MM, seed=3)
    scan, _ = make_phantom(shape=SHAPE, spacing_mm=SPACING_MM, seed=3, phase="none")
    mean_hu = {t: scan[tissues == t].mean() for t in (Tissue.AIR, Tissue.FAT, Tissue.LIVER)}
    assert mean_hu[Tissue.AIR] < -950
    assert -160 < mean_hu[Tissue.FAT] < -40
    assert 0 < mean_hu[Tissue.LIVER] < 120
    assert scan[tissues == Tissue.CORTICAL_BONE].mean() > 150


def test_a_seed_decides_everything():
    first = make_phantom(shape=(20, 40, 44), spacing_mm=(12.0, 10.0, 9.0), seed=8)
    again = make_phantom(shape=(20, 40, 44), spacing_mm=(12.0, 10.0, 9.0), seed=8)
    other = make_phantom(shape=(20, 40, 44), spacing_mm=(12.0, 10.0, 9.0), seed=9)
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def test_a_scan_of_many_slabs_has_no_seam(monkeypatch):
    """Rendered two slices at a time, the organs' mean HU in each slice is what it is at once."""
    shape, spacing_mm = (16, 40, 44), (8.0, 9.0, 9.0)
    whole, _ = make_phantom(shape=shape, spacing_mm=spacing_mm, seed=1, phase="portal")
    monkeypatch.setattr("app.synthesis.phantom._NOISE_SLICES", 2)
    pieces, labels = make_phantom(shape=shape, spacing_mm=spacing_mm, seed=1, phase="portal")
    for z in range(16):
        inside = labels[z] > 0
        assert abs(whole[z][inside].mean() - pieces[z][inside].mean()) < 8


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 33, 47), (5, 3, 2), (7, 64, 1)])
def test_odd_and_tiny_grids_work(shape):
    scan, labels = make_phantom(shape=shape, spacing_mm=(5.0, 3.0, 2.0), seed=0)
    assert scan.shape == labels.shape == shape


def test_a_long_scan_reaches_from_the_legs_to_the_head():
    tissues = phantom_tissues(shape=(134, 40, 44), spacing_mm=(10.0, 10.0, 10.0), seed=0)
    assert (tissues[2] == Tissue.MUSCLE).any()
    assert (tissues == Tissue.BRAIN).any()
    assert np.unique(ORGAN_OF_TISSUE[tissues]).size > 10


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "seed"),
    [((0, 5, 5), (1.0, 1.0, 1.0), 0), ((5, 5, 5), (1.0, 0.0, 1.0), 0), ((5, 5, 5), (1, 1, 1), -1)],
)
def test_what_cannot_be_made_is_refused(shape, spacing_mm, seed):
    with pytest.raises(UsageError):
        make_phantom(shape=shape, spacing_mm=spacing_mm, seed=seed)
