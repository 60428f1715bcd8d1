"""Scans at the edge of what exists go the whole way: a label map on their grid, or a warning."""

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_series
from stand_ins import BRIGHT_HU, BRIGHT_ORGAN, TISSUE_HU

from app.cascade.pipeline import segment_scan
from app.imaging.io import read_scan


def save(path, array, spacing_mm):
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    nib.save(nib.Nifti1Image(array.T, affine), path)
    return path


def tissue(shape, organ):
    """Give plain tissue with air at one edge and an organ in it."""
    array = np.full(shape, TISSUE_HU, np.int16)
    array[:, :2] = -1000
    array[organ] = BRIGHT_HU
    return array


def segment(path, tmp_path, cascade):
    report = segment_scan(path, tmp_path / "labels.nii.gz", cascade)
    return report, read_scan(tmp_path / "labels.nii.gz")[0].array


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((1, 64, 64), (10.0, 3.0, 3.0)),
        ((2000, 64, 64), (0.5, 3.0, 3.0)),
        ((6, 1024, 1024), (5.0, 0.3, 0.3)),
        ((30, 64, 65), (10.0, 5.0, 10.0)),
    ],
)
def test_any_size_and_spacing_gives_the_organ_where_it_is(tmp_path, cascade, shape, spacing_mm):
    middle = tuple(slice(size // 4, size - size // 4) for size in shape)
    path = save(tmp_path / "scan.nii.gz", tissue(shape, middle), spacing_mm)
    _, labels = segment(path, tmp_path, cascade)
    organ = np.zeros(shape, bool)
    organ[middle] = True
    found = labels == BRIGHT_ORGAN
    overlap = 2 * np.count_nonzero(found & organ) / (found.sum() + organ.sum())
    assert overlap > 0.95


def test_cube_of_a_few_mm_gives_an_empty_label_map_and_says_so(tmp_path, cascade):
    hu = tissue((64, 66, 70), (slice(16, 48), slice(16, 50), slice(17, 53)))
    path = save(tmp_path / "scan.nii.gz", hu, (0.2, 0.2, 0.2))  # 13 mm: no room for an abdomen
    report, labels = segment(path, tmp_path, cascade)
    assert labels.shape == hu.shape
    assert not labels.any()
    assert "no_abdomen" in {flag.code for flag in report.flags}


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("at_end", [False, True])
def test_organ_cut_by_any_edge_of_the_scan_is_labeled_up_to_it(tmp_path, cascade, axis, at_end):
    organ = [slice(10, 40), slice(10, 40), slice(14, 44)]
    organ[axis] = slice(-12, None) if at_end else slice(0, 12)
    inside = [slice(15, 35), slice(15, 35), slice(19, 39)]
    inside[axis] = slice(-9, None) if at_end else slice(0, 9)
    hu = tissue((50, 60, 70), tuple(organ))
    path = save(tmp_path / "scan.nii.gz", hu, (3.0, 2.0, 1.5))
    _, labels = segment(path, tmp_path, cascade)
    assert (labels[tuple(inside)] == BRIGHT_ORGAN).mean() > 0.95


@pytest.mark.parametrize("metal_hu", [3071, 30_000])
def test_metal_leaves_the_organs_away_from_it_alone(tmp_path, cascade, metal_hu):
    hu = tissue((50, 60, 70), (slice(8, 38), slice(10, 40), slice(8, 38)))
    _, without = segment(save(tmp_path / "a.nii.gz", hu, (3.0, 2.0, 1.5)), tmp_path, cascade)
    hu[15:25, 30:45, 56:64] = metal_hu  # a hip, and the streaks it casts
    hu[20, :, 56:64] = -1024
    _, labels = segment(save(tmp_path / "b.nii.gz", hu, (3.0, 2.0, 1.5)), tmp_path, cascade)
    assert (without[12:34, 14:36, 12:34] == BRIGHT_ORGAN).all()
    assert np.array_equal(labels[..., :46], without[..., :46])


def test_water_phantom_goes_through_with_its_warning(tmp_path, cascade):
    hu = np.full((30, 50, 60), -1000, np.int16)
    hu[:, 5:45, 5:55] = np.random.default_rng(3).normal(0, 15, (30, 40, 50))
    report, labels = segment(save(tmp_path / "scan.nii", hu, (4.0, 3.0, 2.5)), tmp_path, cascade)
    assert labels.shape == hu.shape
    assert any("no bone is in it" in warning for warning in report.warnings)


@pytest.mark.parametrize("value", [-1024, 0, 3071])
def test_constant_scan_gives_a_named_warning(tmp_path, cascade, value):
    path = save(tmp_path / "scan.nii", np.full((20, 30, 40), value, np.int16), (3.0, 2.0, 2.0))
    report, _ = segment(path, tmp_path, cascade)
    assert any(f"all voxels hold the same number, {value}" in str(one) for one in report.warnings)


def test_notes_of_the_reader_reach_the_report(tmp_path, cascade):
    hu = tissue((40, 50, 60), (slice(10, 30), slice(10, 40), slice(10, 50)))
    write_series(tmp_path / "ct", hu, (3.0, 2.0, 2.0), PhotometricInterpretation="MONOCHROME1")
    report, labels = segment(tmp_path / "ct", tmp_path, cascade)
    assert (labels[15:25, 15:35, 15:45] == BRIGHT_ORGAN).all()
    assert any("MONOCHROME1" in str(one) for one in report.warnings)
