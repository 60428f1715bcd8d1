"""Complete bodies: organs keep their place and size, skin closes, air is outside."""

import numpy as np
import pytest
from crude_anatomy import GRID_MM, LEAN
from scipy import ndimage

from app.synthesis.body import Habitus, complete_body
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue


def on_body_grid(labels, body):
    """Look an organ map up, nearest, at the body's voxels; 0 beyond it."""
    index = [
        np.rint((np.arange(size) * step - offset) / 1.5).astype(int)
        for size, step, offset in zip(
            body.tissues.shape, body.spacing_mm, body.offset_mm, strict=True
        )
    ]
    within = [(axis >= 0) & (axis < size) for axis, size in zip(index, labels.shape, strict=True)]
    found = labels[
        np.ix_(*(np.clip(a, 0, s - 1) for a, s in zip(index, labels.shape, strict=True)))
    ]
    found[~(within[0][:, None, None] & within[1][:, None] & within[2])] = 0
    return found


def test_organs_keep_place_and_size(body, patient):
    given_labels, made = on_body_grid(patient, body), ORGAN_OF_TISSUE[body.tissues]
    for organ in (1, 2, 3, 11, 13):
        wanted, got = given_labels == organ, made == organ
        dice = 2 * (wanted & got).sum() / (wanted.sum() + got.sum())
        assert dice > 0.93, organ
        assert got.sum() == pytest.approx(wanted.sum(), rel=0.06), organ


def test_a_vessel_cut_by_the_organ_map_goes_on_in_the_template(body, patient):
    top = (body.offset_mm[0] + patient.shape[0] * 1.5) / body.spacing_mm[0]
    beyond = ORGAN_OF_TISSUE[body.tissues[int(top) + 2 :]]
    assert (beyond == Tissue.AORTA).any((1, 2)).all()


def test_an_aorta_that_ends_bluntly_below_the_scan_end_goes_on_too(template, patient):
    short = patient.copy()
    short[60:][short[60:] == Tissue.AORTA] = 0
    made = complete_body(short, template, np.random.default_rng(4), habitus=LEAN)
    top = round(made.offset_mm[0] / 1.5) + 60
    assert (ORGAN_OF_TISSUE[made.tissues[top + 2 :]] == Tissue.AORTA).any((1, 2)).all()


def test_skin_closes_every_slice(body):
    for plane in body.tissues:
        outside = ndimage.binary_propagation(
            np.pad(plane == Tissue.AIR, 1, constant_values=True),
            mask=np.pad(np.isin(plane, (Tissue.AIR, Tissue.TABLE)), 1, constant_values=True),
        )
        touched = ndimage.binary_dilation(outside)[1:-1, 1:-1] & ~outside[1:-1, 1:-1]
        assert np.isin(plane[touched], (Tissue.SKIN, Tissue.TABLE)).all()


def test_the_body_is_one_piece_and_only_air_and_couch_are_outside(body):
    solid = ~np.isin(body.tissues, (Tissue.AIR, Tissue.TABLE))
    _, num_parts = ndimage.label(solid)
    assert num_parts == 1
    assert not (ndimage.binary_fill_holes(solid) & ~solid).any()


def test_every_organ_lies_deep_inside(body):
    outside = np.isin(body.tissues, (Tissue.AIR, Tissue.TABLE))
    height = ndimage.distance_transform_edt(~outside, sampling=body.spacing_mm)
    held = ORGAN_OF_TISSUE[body.tissues] > 0
    # Wall 8 mm, less what the 6 mm grid rounds off, fat at least 4 mm.
    assert height[held].min() > 8.0


def test_lung_lies_above_the_liver(body):
    is_liver = ORGAN_OF_TISSUE[body.tissues] == Tissue.LIVER
    z, y, x = (int(round(c)) for c in ndimage.center_of_mass(is_liver))
    line = body.tissues[z:, y, x]
    assert Tissue.LUNG in line
    assert not np.isin(line, (Tissue.AIR, Tissue.SKIN)).any()


def test_fat_is_as_thick_as_asked(template, patient):
    volumes = []
    for fat_mm in (6.0, 24.0):
        habitus = Habitus(fat_mm=fat_mm, front=1.0, back=1.0, wall_mm=8.0)
        made = complete_body(patient, template, np.random.default_rng(1), habitus=habitus)
        volumes.append(np.count_nonzero(made.tissues == Tissue.FAT))
    assert volumes[1] > 2.5 * volumes[0]


def test_the_same_seed_gives_the_same_body_and_another_seed_another(template, patient):
    first, again, other = (
        complete_body(patient, template, np.random.default_rng(seed), spacing_mm=GRID_MM)
        for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first.tissues, again.tissues)
    assert first.offset_mm == again.offset_mm
    assert first.tissues.shape != other.tissues.shape or (first.tissues != other.tissues).any()


def test_an_empty_organ_map_still_gives_a_body(template):
    made = complete_body(np.zeros((20, 30, 25), np.uint8), template, np.random.default_rng(2))
    assert (made.tissues == Tissue.SKIN).any()
