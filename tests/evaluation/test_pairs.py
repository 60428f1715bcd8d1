import logging

import nibabel as nib
import numpy as np
import pytest
from label_files import make_folders, write_labels

from app.errors import InputError, UsageError
from app.evaluation.pairs import Pair, find_pairs, load_pair, read_label_map


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path)


def labels(seed=0):
    return np.random.default_rng(seed).integers(0, 14, (4, 5, 6)).astype(np.uint8)


def pair(tmp_path):
    return Pair(
        case="a",
        reference_path=tmp_path / "references" / "a.nii.gz",
        prediction_path=tmp_path / "predictions" / "a.nii.gz",
    )


def test_files_of_one_name_are_paired_whatever_their_format(folders):
    predictions, references = folders
    for name in ("a.nii.gz", "b_0000.mha", "only.nii"):
        write_labels(predictions / name, labels())
    for name in ("a.nrrd", "b_0000.nii.gz", "missing.nii.gz"):
        write_labels(references / name, labels())
    (predictions / "run.json").write_text("{}")
    (predictions / ".partial-1-a.nii.gz").write_bytes(b"")
    pairs, extra = find_pairs(predictions, references)
    found = [(p.case, p.prediction_path and p.prediction_path.name) for p in pairs]
    assert found == [("a", "a.nii.gz"), ("b_0000", "b_0000.mha"), ("missing", None)]
    assert extra == [predictions / "only.nii"]


def test_two_files_of_one_name_are_refused(folders):
    predictions, references = folders
    for name in ("a.nii.gz", "a.mha"):
        write_labels(references / name, labels())
    with pytest.raises(UsageError, match=r"a\.nii\.gz and .*a\.mha"):
        find_pairs(predictions, references)


def test_a_reference_that_leads_to_nothing_is_not_left_out_silently(folders):
    predictions, references = folders
    (references / "a.nii.gz").symlink_to(references / "nowhere.nii.gz")
    ((lost,), _) = find_pairs(predictions, references)
    with pytest.raises(InputError, match=r"a\.nii\.gz: no such file"):
        load_pair(lost)


def test_a_missing_folder_and_one_without_references_are_named(folders, tmp_path):
    predictions, references = folders
    with pytest.raises(UsageError, match=r"--predictions .*nowhere: no such folder"):
        find_pairs(tmp_path / "nowhere", references)
    with pytest.raises(UsageError, match=r"--references .*references: no label map"):
        find_pairs(predictions, references)


def test_a_pair_on_one_grid_is_read_as_stored(folders, tmp_path):
    write_labels(folders[0] / "a.nii.gz", labels(1))
    write_labels(folders[1] / "a.nii.gz", labels(2))
    loaded = load_pair(pair(tmp_path))
    assert (loaded.reference.array == labels(2)).all()
    assert (loaded.aligned == labels(1)).all()
    assert loaded.as_stored is loaded.aligned
    assert loaded.problem == ""


def test_one_grid_stored_in_two_orders_is_turned_onto_the_reference(folders, tmp_path):
    array_xyz = labels().transpose(2, 1, 0)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(array_xyz, affine), folders[1] / "a.nii.gz")
    # The same voxels at the same places, x against its old direction.
    flipped = affine @ np.array([[-1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(array_xyz[::-1], flipped), folders[0] / "a.nii.gz")
    loaded = load_pair(pair(tmp_path))
    assert loaded.problem == ""
    assert (loaded.aligned == labels()).all()
    # The challenge looks at no header.
    assert (loaded.as_stored == labels()[:, :, ::-1]).all()


@pytest.mark.parametrize(
    ("moved", "told"),
    [
        ({"spacing_xyz": (1.0, 2.0, 3.1)}, "corners up to 0.3 mm apart"),
        ({"origin_xyz": (0.0, 0.5, 0.0)}, "corners up to 0.5 mm apart"),
    ],
)
def test_another_grid_is_a_problem_that_names_both_files(folders, tmp_path, moved, told):
    prediction = write_labels(folders[0] / "a.nii.gz", labels(), **moved)
    reference = write_labels(folders[1] / "a.nii.gz", labels())
    loaded = load_pair(pair(tmp_path))
    assert loaded.aligned is None
    assert loaded.as_stored is not None
    for part in (str(prediction), str(reference), told):
        assert part in loaded.problem


def test_rounding_in_a_header_is_no_other_grid(folders, tmp_path):
    write_labels(folders[0] / "a.nii.gz", labels(), origin_xyz=(0.04, 0.0, -0.03))
    write_labels(folders[1] / "a.nii.gz", labels())
    assert load_pair(pair(tmp_path)).problem == ""


def test_another_shape_is_a_problem_under_any_protocol(folders, tmp_path):
    write_labels(folders[0] / "a.nii.gz", labels()[1:])
    write_labels(folders[1] / "a.nii.gz", labels())
    loaded = load_pair(pair(tmp_path))
    assert loaded.aligned is loaded.as_stored is None
    assert "(3, 5, 6) voxels (z, y, x), not (4, 5, 6)" in loaded.problem


def test_a_broken_prediction_is_a_problem_and_a_broken_reference_an_error(folders, tmp_path):
    (folders[0] / "a.nii.gz").write_bytes(b"broken")
    write_labels(folders[1] / "a.nii.gz", labels())
    assert str(folders[0] / "a.nii.gz") in load_pair(pair(tmp_path)).problem
    (folders[1] / "a.nii.gz").write_bytes(b"broken")
    with pytest.raises(InputError, match="references"):
        load_pair(pair(tmp_path))


def test_a_scan_is_no_label_map(tmp_path):
    path = write_labels(tmp_path / "scan.nii.gz", np.full((4, 5, 6), -1000, np.int16))
    with pytest.raises(InputError, match=r"scan\.nii\.gz: values from -1000"):
        read_label_map(path)


def test_values_of_no_organ_are_told(tmp_path, caplog):
    path = write_labels(tmp_path / "tumor.nii.gz", np.full((4, 5, 6), 14, np.uint8))
    with caplog.at_level(logging.WARNING):
        read_label_map(path)
    assert "above 13" in caplog.text


def test_labels_stored_as_floating_point_numbers_are_read(tmp_path):
    path = write_labels(tmp_path / "a.nii.gz", labels().astype(np.float64))
    assert (read_label_map(path).array == labels()).all()


def test_labels_stored_with_a_scale_that_rounds_are_read(tmp_path):
    """Some writers spread 0 ... 13 over 8 bits, whose step no floating-point number holds."""
    scaled = nib.Nifti1Image(labels().transpose(2, 1, 0) * np.uint8(19), np.eye(4))
    scaled.header.set_slope_inter(1 / 19, 0)
    nib.save(scaled, tmp_path / "a.nii.gz")
    read_back = nib.load(tmp_path / "a.nii.gz")
    assert read_back.dataobj.slope not in (1, 1 / 19)
    assert (read_label_map(tmp_path / "a.nii.gz").array == labels()).all()


@pytest.mark.parametrize("suffix", ["nii.gz", "mha"])
@pytest.mark.parametrize(
    ("number", "told"), [(1.5, "such as 1.5"), (np.nan, "such as nan"), (np.inf, "such as inf")]
)
def test_numbers_that_are_no_labels_are_refused_in_either_file(folders, suffix, number, told):
    """Rounded, as a scan's are, they would be labels that nobody has drawn."""
    interpolated = labels().astype(np.float32)
    interpolated[2, 3, 4] = number
    good = write_labels(folders[1] / f"a.{suffix}", labels())
    bad = write_labels(folders[0] / f"a.{suffix}", interpolated)
    found = Pair(case="a", reference_path=good, prediction_path=bad)
    loaded = load_pair(found)
    for problem in (loaded.problem, loaded.problem_as_stored):
        assert str(bad) in problem
        assert told in problem
        assert "nearest neighbor" in problem
    with pytest.raises(InputError, match="whole numbers"):
        load_pair(Pair(case="a", reference_path=bad, prediction_path=good))


def test_what_a_header_leaves_in_doubt_is_told_of_either_file(folders, tmp_path, caplog):
    for folder in folders:
        image = nib.Nifti1Image(labels().transpose(2, 1, 0), np.diag([1.0, 2.0, 3.0, 1.0]))
        image.header["pixdim"][1] = 1.5
        nib.save(image, folder / "a.nii.gz")
    with caplog.at_level(logging.WARNING):
        load_pair(pair(tmp_path))
    for folder in folders:
        assert f"{folder / 'a.nii.gz'}: sform and pixdim disagree" in caplog.text
