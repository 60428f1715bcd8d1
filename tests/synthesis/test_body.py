"""Complete bodies: organs keep their place and size, skin closes, air is outside, seeds decide."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from app.errors import UnreadableScanError
from app.imaging.geometry import Box
from app.synthesis.bank import build_bank, organ_box, read_anatomy, read_body
from app.synthesis.body import Habitus, complete_body
from app.synthesis.fit import Warp, find_landmarks, fit_affine, fit_warp, tube_centers, warp_labels
from app.synthesis.interior import fill_organs, smooth_noise
from app.synthesis.lungs import fit_lungs, join_lungs
from app.synthesis.organs import slice_thickness
from app.synthesis.template import Template, build_template
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue
from app.synthesis.whole_body import SPACING_MM, WholeBody, read_bodies

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
LEAN = Habitus(fat_mm=6.0, front=1.0, back=1.0, wall_mm=8.0)
GRID_MM = (2.0, 1.5, 1.8)


def ellipsoid(shape, center, radii):
    """Give a mask of an ellipsoid; center and radii in voxels."""
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    return (
        sum(
            ((axis - middle) / radius) ** 2
            for axis, middle, radius in zip(axes, center, radii, strict=True)
        )
        <= 1.0
    )


def organ_map(shape, shift=(0, 0, 0), scale=1.0):
    """Place seven organs as in a patient: x to the left, y to the back, z to the head."""
    labels = np.zeros(shape, np.uint8)
    for organ, center, radii in (
        (Tissue.LIVER, (46, 36, 28), (14, 18, 15)),
        (Tissue.SPLEEN, (48, 48, 68), (10, 9, 7)),
        (Tissue.STOMACH, (46, 26, 56), (9, 9, 9)),
        (Tissue.RIGHT_KIDNEY, (26, 54, 30), (10, 6, 6)),
        (Tissue.LEFT_KIDNEY, (28, 54, 62), (10, 6, 6)),
        (Tissue.AORTA, (40, 52, 49), (200, 3.5, 3.5)),
        (Tissue.INFERIOR_VENA_CAVA, (40, 50, 41), (200, 3.5, 3.5)),
    ):
        middle = np.multiply(center, scale) + shift
        labels[ellipsoid(shape, middle, np.multiply(radii, scale))] = organ
    return labels


@pytest.fixture(scope="module")
def template():
    """Give a body of ellipses: muscle around fat, lungs on top, a spine behind."""
    shape = (90, 80, 98)
    organs = organ_map(shape)
    tissues = np.zeros(shape, np.uint8)
    tissues[ellipsoid(shape, (45, 40, 49), (1e4, 34, 44))] = Tissue.MUSCLE
    tissues[ellipsoid(shape, (45, 38, 49), (1e4, 27, 38))] = Tissue.MESENTERY
    for x in (30, 66):
        tissues[ellipsoid(shape, (85, 38, x), (30, 22, 16))] = Tissue.LUNG
    tissues[ellipsoid(shape, (45, 62, 49), (1e4, 7, 7))] = Tissue.TRABECULAR_BONE
    tissues[organs > 0] = organs[organs > 0]
    return Template(
        name="ellipses",
        tissues=tissues,
        organs=organs,
        landmarks=find_landmarks(organs, SPACING_MM),
    )


@pytest.fixture(scope="module")
def patient():
    """Give a slightly larger patient whose organ map ends below and above the organs."""
    return organ_map((74, 76, 92), shift=(-6, -1, -4), scale=1.06)


@pytest.fixture(scope="module")
def body(template, patient):
    return complete_body(
        patient, template, np.random.default_rng(4), spacing_mm=GRID_MM, habitus=LEAN
    )


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


def test_thick_slices_are_recognized():
    fine = organ_map((90, 80, 98))
    # 8 slices, each given three times: 23 pairs of neighbors, 7 of which differ.
    assert slice_thickness(fine[30:54:3].repeat(3, axis=0)) == pytest.approx(23 / 7)
    assert slice_thickness(fine[36:50]) == 1.0


@settings(max_examples=20, deadline=None)
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


def test_gas_in_the_stomach_lies_in_front():
    tissues = np.where(ellipsoid((30, 40, 36), (15, 20, 18), (12, 16, 14)), 11, 0).astype(np.uint8)
    rows = []
    for seed in range(6):
        filled = tissues.copy()
        fill_organs(filled, (2.0, 1.5, 1.8), np.random.default_rng(seed))
        gas, food = filled == Tissue.STOMACH_GAS, filled == Tissue.STOMACH_CONTENT
        if gas.any() and food.any():
            rows.append((np.nonzero(gas)[1].max(), np.nonzero(food)[1].min()))
        np.testing.assert_array_equal(ORGAN_OF_TISSUE[filled], tissues)
    assert rows
    assert all(last_gas < first_food for last_gas, first_food in rows)


def test_fat_between_lung_and_liver_becomes_lung_above_a_diaphragm():
    tissues = np.full((20, 30, 32), Tissue.MESENTERY, np.uint8)
    tissues[14:] = Tissue.LUNG
    organs = np.zeros_like(tissues)
    organs[:5] = Tissue.LIVER
    fit_lungs(tissues, organs, (3.0, 2.0, 1.5))
    column = tissues[:, 15, 16].tolist()
    # Liver fills 0 to 4; one slice of 3 mm is diaphragm; the gap 6 to 13 is lung now.
    assert column[5] == Tissue.MUSCLE
    assert set(column[6:]) == {Tissue.LUNG}


def test_a_seam_between_two_lungs_is_closed_and_fat_under_the_lung_is_kept():
    tissues = np.full((9, 2, 3), Tissue.MESENTERY, np.uint8)
    tissues[2:4] = Tissue.LUNG
    tissues[6:] = Tissue.LUNG
    join_lungs(tissues, slice(0, 9))
    assert (tissues[2:] == Tissue.LUNG).all()
    assert (tissues[:2] == Tissue.MESENTERY).all()


def test_noise_has_unit_variance_and_the_asked_size():
    noise = smooth_noise((70, 80, 90), (2.0, 1.5, 1.8), 12.0, np.random.default_rng(0))
    assert noise.shape == (70, 80, 90)
    assert noise.std() == pytest.approx(1.0, abs=0.15)


def write_map(path, labels, spacing=1.5, direction=None):
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing((spacing,) * 3)
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


def test_an_anatomy_on_another_grid_is_refused(tmp_path):
    labels = organ_map((20, 30, 25))
    write_map(tmp_path / "wide.nii", labels, spacing=3.0)
    with pytest.raises(UnreadableScanError, match="1.5 mm"):
        read_anatomy(tmp_path / "wide.nii")
    write_map(tmp_path / "turned.nii", labels, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    with pytest.raises(UnreadableScanError, match="LPS"):
        read_anatomy(tmp_path / "turned.nii")
    write_map(tmp_path / "high.nii", labels + np.uint8(14))
    with pytest.raises(UnreadableScanError, match="0 to 13"):
        read_anatomy(tmp_path / "high.nii")


def test_bodies_are_turned_to_lps(tmp_path):
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[0, 1, 2] = 7
    (tmp_path / "tissues.json").write_text(json.dumps({"liver": 7}))
    # RAS: both in-plane axes run the other way.
    write_map(tmp_path / "a_tissues.nii.gz", labels, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    found = read_bodies(tmp_path)["a"]
    assert np.argwhere(found.labels == 7).tolist() == [[0, 3, 3]]


def test_a_folder_without_bodies_is_refused(tmp_path):
    with pytest.raises(UnreadableScanError, match=r"tissues\.json"):
        read_bodies(tmp_path)


def ellipse_whole_body():
    """Give a crude body of named tissues, enough to build a template from."""
    ids = {
        "liver": 1, "colon": 2, "vertebrae_L1": 3, "spinal_cord": 4, "lung_lower_lobe_left": 5,
        "heart": 6, "hip_left": 7,
    }  # fmt: skip
    shape = (54, 66, 84)
    labels = np.zeros(shape, np.uint8)
    for name, center, radii in (
        ("liver", (24, 30, 30), (10, 13, 15)),
        ("colon", (20, 24, 58), (8, 6, 7)),
        ("vertebrae_L1", (27, 50, 42), (1e4, 7, 7)),
        ("spinal_cord", (27, 54, 42), (1e4, 2, 2)),
        ("lung_lower_lobe_left", (46, 30, 56), (12, 14, 12)),
        ("heart", (46, 24, 34), (7, 10, 8)),
        ("hip_left", (2, 40, 66), (8, 4, 6)),
    ):
        labels[ellipsoid(shape, center, radii)] = ids[name]
    return WholeBody("crude", labels, ids)


def test_a_template_wraps_its_viscera_in_muscle():
    made = build_template(ellipse_whole_body())
    tissues = made.tissues
    expected = {
        Tissue.LIVER,
        Tissue.COLON_WALL,
        Tissue.STOOL,
        Tissue.CORTICAL_BONE,
        Tissue.LUNG,
        Tissue.SPINAL_CANAL,
        Tissue.MYOCARDIUM,
        Tissue.MESENTERY,
    }
    assert expected <= set(np.unique(tissues).tolist())
    # In-plane: the viscera of this crude body end abruptly along z.
    to_air = ndimage.distance_transform_edt(tissues != Tissue.AIR, sampling=(1e6, 1.5, 1.5))
    for inner in (Tissue.LIVER, Tissue.COLON_WALL, Tissue.MESENTERY):
        assert to_air[:40][tissues[:40] == inner].min() > 4.0, inner.name


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Give a folder of two anatomies and a folder with one crude body."""
    anatomies, bodies = tmp_path_factory.mktemp("anatomies"), tmp_path_factory.mktemp("bodies")
    for name in ("one", "two"):
        write_map(anatomies / f"{name}.nii", organ_map((60, 70, 84), shift=(-6, -1, -4)))
    whole = ellipse_whole_body()
    (bodies / "tissues.json").write_text(json.dumps(whole.ids))
    write_map(bodies / "crude_tissues.nii.gz", whole.labels)
    return anatomies, bodies


def test_a_bank_is_written_once_and_read_back(folders, tmp_path):
    anatomies, bodies = folders
    files = list(build_bank(anatomies, bodies, tmp_path, seed=3))
    assert [file.name for file in files] == ["one_0.npz", "two_0.npz"]
    found = read_body(files[0])
    assert found.spacing_mm == (2.0, 1.5, 1.5)
    inside = np.zeros(found.tissues.shape, bool)
    inside[found.organ_box.slices] = True
    assert not (ORGAN_OF_TISSUE[found.tissues] == Tissue.SPLEEN)[~inside].any()
    before = [file.stat().st_mtime_ns for file in files]
    assert list(build_bank(anatomies, bodies, tmp_path, seed=3)) == files
    assert [file.stat().st_mtime_ns for file in files] == before


def test_a_body_does_not_depend_on_what_else_is_in_the_bank(folders, tmp_path):
    anatomies, bodies = folders
    (alone,) = build_bank(anatomies, bodies, tmp_path / "a", seed=3, limit=1)
    both = list(build_bank(anatomies, bodies, tmp_path / "b", seed=3))
    np.testing.assert_array_equal(read_body(alone).tissues, read_body(both[0]).tissues)


def test_organ_box_is_where_the_organ_map_lay(body, patient):
    box = organ_box(body, patient)
    z0, y0, x0 = (round(o / s) for o, s in zip(body.offset_mm, body.spacing_mm, strict=True))
    # 74 x 76 x 92 voxels of 1.5 mm are 111 x 114 x 138 mm: 55.5, 76 and 76.7 voxels here.
    assert isinstance(box, Box)
    assert box.start == (z0, y0, x0)
    assert box.shape == (56, 76, 77)


@pytest.mark.realdata
def test_the_real_bodies_are_read_in_lps():
    folder = SHARED / "bodies"
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    for body in read_bodies(folder).values():
        liver, spleen = (
            ndimage.center_of_mass(body.labels == body.ids[name]) for name in ("liver", "spleen")
        )
        # The liver lies right, that is at lower x, and in front of the spleen.
        assert liver[2] < spleen[2]
        assert liver[1] < spleen[1]
