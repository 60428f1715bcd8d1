import json

import numpy as np
import pytest
import SimpleITK as sitk
from label_files import write_segments
from own_data import write_case, write_image

from app.data.case_list import read_cases, split_cases, write_cases
from app.data.cases import find_cases, read_case
from app.errors import InputError, UsageError
from app.labels import CLASS_NAMES


def refusals(refused):
    return {one.path.name: one.reason for one in refused}


def test_a_scan_and_its_label_map_are_one_case(tmp_path):
    scan, labels = write_case(tmp_path, "a")

    (case,), refused = find_cases(tmp_path)

    assert (case.name, refused) == ("a", [])
    assert case.labeled.all()
    read_scan, read_labels = read_case(case)
    np.testing.assert_array_equal(read_scan.array, scan)
    np.testing.assert_array_equal(read_labels.array, labels)


def test_what_cannot_be_trained_on_is_refused_with_its_reason(tmp_path):
    write_case(tmp_path, "good")
    write_case(tmp_path, "shifted", origin_xyz=(0.0, 2.0, 0.0))
    write_case(tmp_path, "fourteen", organs=(1, 14))
    write_case(tmp_path, "lonely_scan")
    (tmp_path / "labelsTr" / "lonely_scan.nii.gz").unlink()
    write_case(tmp_path, "lonely_labels")
    (tmp_path / "imagesTr" / "lonely_labels_0000.nii.gz").unlink()
    write_case(tmp_path, "short")
    write_image(tmp_path / "labelsTr" / "short.nii.gz", np.zeros((11, 14, 16), np.uint8))
    write_case(tmp_path, "soft")
    soft = sitk.Cast(sitk.ReadImage(tmp_path / "labelsTr" / "soft.nii.gz"), sitk.sitkFloat32)
    sitk.WriteImage(0.5 * soft, tmp_path / "labelsTr" / "soft.nii.gz")

    cases, refused = find_cases(tmp_path)

    assert [case.name for case in cases] == ["good"]
    reasons = refusals(refused)
    assert "2 mm apart" in reasons["shifted.nii.gz"]
    assert "whole numbers" in reasons["soft.nii.gz"]
    assert reasons["fourteen.nii.gz"].startswith("values from 0 to 14")  # told behind its path
    assert reasons["lonely_scan_0000.nii.gz"] == "no label map of this name"
    assert reasons["lonely_labels.nii.gz"] == "no scan of this name"
    assert "(11, 14, 16)" in reasons["short.nii.gz"]
    assert len(refused) == 6


def test_segments_of_slicer_are_the_organs_of_their_names(tmp_path):
    _, labels = write_case(tmp_path, "a.seg", organs=(1, 13))
    (tmp_path / "labelsTr" / "a.seg.nii.gz").unlink()
    # As Slicer numbers what was drawn or added there: the left kidney says 2, the liver 9.
    numbered = np.choose(np.searchsorted([1, 13], labels, side="right"), [0, 9, 2])
    path = tmp_path / "labelsTr" / "a.seg.nrrd"
    names = {9: "Liver", 2: "left_kidney"}
    write_segments(path, numbered.astype(np.uint8), names, spacing_xyz=(3.0, 4.0, 5.0))

    (case,), refused = find_cases(tmp_path)

    assert refused == []
    np.testing.assert_array_equal(read_case(case)[1].array, labels)


def test_one_grid_stored_in_two_orders_is_one_grid(tmp_path):
    _, labels = write_case(tmp_path, "a")
    image = sitk.ReadImage(str(tmp_path / "labelsTr" / "a.nii.gz"))
    sitk.WriteImage(sitk.DICOMOrient(image, "RAI"), str(tmp_path / "labelsTr" / "a.nii.gz"))

    (case,), _ = find_cases(tmp_path)

    np.testing.assert_array_equal(read_case(case)[1].array, labels)


def test_pseudo_labels_fill_in_only_where_there_are_no_labels(tmp_path):
    write_case(tmp_path, "a")
    write_case(tmp_path, "b")
    pseudo = tmp_path / "pseudo"
    for name in ("a", "b"):
        write_image(pseudo / f"{name}.nii.gz", np.ones((12, 14, 16), np.uint8))
    (tmp_path / "labelsTr" / "b.nii.gz").unlink()

    cases, _ = find_cases(tmp_path, pseudo_labels=pseudo)

    assert [case.labels_path.parent.name for case in cases] == ["labelsTr", "pseudo"]


def test_labeled_organs_come_from_the_data_set_or_from_the_command(tmp_path):
    write_case(tmp_path, "a", organs=(1,))
    write_case(tmp_path, "b", organs=(1, 2))
    listed = {"labeled_organs": {"a": ["liver"], "default": ["liver", "right_kidney"]}}
    (tmp_path / "dataset.json").write_text(json.dumps(listed))

    cases, _ = find_cases(tmp_path)
    known = [[CLASS_NAMES[value] for value in np.flatnonzero(case.labeled)] for case in cases]
    assert known == [["background", "liver"], ["background", "liver", "right_kidney"]]

    cases, refused = find_cases(tmp_path, labeled_organs=["liver"])
    assert [case.name for case in cases] == ["a"]
    assert "right_kidney" in refusals(refused)["b.nii.gz"]


def test_a_misspelled_case_does_not_pass_as_labeled_in_all_organs(tmp_path):
    write_case(tmp_path, "Case_1", organs=(1,))
    write_case(tmp_path, "scan_alone")
    (tmp_path / "labelsTr" / "scan_alone.nii.gz").unlink()
    dataset = tmp_path / "dataset.json"
    dataset.write_text('{"labeled_organs": {"case_1": ["liver"]}}')
    with pytest.raises(UsageError, match=r"dataset\.json: .*case_1.* not .*Case_1; correct"):
        find_cases(tmp_path)

    # Where the others are spoken of, it is told.
    dataset.write_text('{"labeled_organs": {"case_1": ["spleen"], "default": ["liver"]}}')
    (case,), refused = find_cases(tmp_path)
    assert case.labeled_organs == ("liver",)
    assert "no scan of case_1" in refusals(refused)["dataset.json"]

    # A list of more cases than are here is none of it.
    dataset.write_text('{"labeled_organs": {"Case_1": ["liver"], "Case_2": ["liver"]}}')
    (case,), refused = find_cases(tmp_path)
    assert case.labeled_organs == ("liver",)
    assert list(refusals(refused)) == ["scan_alone_0000.nii.gz"]


@pytest.mark.parametrize("organs", ["5", '"liver"', "[5]", "{}"])
def test_labeled_organs_that_are_no_list_of_names_are_wrong_use(tmp_path, organs):
    write_case(tmp_path, "a")
    (tmp_path / "dataset.json").write_text(f'{{"labeled_organs": {{"a": {organs}}}}}')

    with pytest.raises(UsageError, match="labeled organs of a: "):
        find_cases(tmp_path)


def test_two_scans_for_one_label_map_are_wrong_use(tmp_path):
    scan, _ = write_case(tmp_path, "a")
    write_image(tmp_path / "imagesTr" / "a.nii.gz", scan)

    with pytest.raises(UsageError, match=r"a\.nii\.gz and .*a_0000\.nii\.gz are both of the scan"):
        find_cases(tmp_path)


def test_an_organ_that_does_not_exist_is_wrong_use(tmp_path):
    write_case(tmp_path, "a")

    with pytest.raises(UsageError, match="lung"):
        find_cases(tmp_path, labeled_organs=["lung"])


def test_every_case_is_held_out_in_one_fold(tmp_path):
    for name in "abcde":
        write_case(tmp_path, name)
    cases, _ = find_cases(tmp_path)

    held_out = [
        [case.name for case in split_cases(cases, [], fold=fold, num_folds=3).held_out]
        for fold in range(3)
    ]

    assert held_out == [["a", "d"], ["b", "e"], ["c"]]
    whole = split_cases(cases, [], fold=0, num_folds=1)
    assert (len(whole.train), len(whole.held_out)) == (5, 0)


def test_a_fold_that_holds_no_case_is_wrong_use(tmp_path):
    for name in "abc":
        write_case(tmp_path, name)
    cases, refused = find_cases(tmp_path)

    with pytest.raises(UsageError, match=r"fold 3 of 5: holds none of the 3 .* one of 0 to 2"):
        split_cases(cases, refused, fold=3, num_folds=5)


def test_the_split_is_read_back_as_it_was_written(tmp_path):
    for name in "abc":
        write_case(tmp_path, name)
    write_case(tmp_path, "d", organs=(14,))
    found = split_cases(*find_cases(tmp_path), fold=1, num_folds=2)

    write_cases(found, tmp_path / "data.json")

    assert read_cases(tmp_path / "data.json") == found
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(InputError, match=r"data\.json"):
        read_cases(tmp_path / "data.json")


def test_nothing_to_train_on_names_what_was_refused(tmp_path):
    write_case(tmp_path, "a", organs=(99,))

    with pytest.raises(UsageError, match="values from 0 to 99"):
        split_cases(*find_cases(tmp_path), fold=0, num_folds=5)


def test_a_scan_that_is_cut_short_is_refused_before_training(tmp_path):
    write_case(tmp_path, "good")
    write_case(tmp_path, "short")
    path = tmp_path / "imagesTr" / "short_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])

    cases, refused = find_cases(tmp_path)

    assert [case.name for case in cases] == ["good"]
    assert [one.path for one in refused] == [path]
    assert refused[0].reason
    assert "short_0000.nii.gz" not in refused[0].reason  # told behind its path


def test_what_the_reader_noticed_is_kept_with_the_case(tmp_path):
    write_case(tmp_path, "a", organs=(1, 2))  # nothing above 120

    found = split_cases(*find_cases(tmp_path), fold=0, num_folds=1)

    assert "not in HU" in found.train[0].notes[0]
    write_cases(found, tmp_path / "data.json")
    assert read_cases(tmp_path / "data.json") == found


def test_pseudo_labels_speak_of_all_organs_and_fill_what_was_not_looked_for(tmp_path):
    write_case(tmp_path, "partly", organs=(1,))
    write_case(tmp_path, "without")
    (tmp_path / "labelsTr" / "without.nii.gz").unlink()
    (tmp_path / "dataset.json").write_text('{"labeled_organs": {"default": ["liver"]}}')
    pseudo = np.zeros((12, 14, 16), np.uint8)
    pseudo[0:4, 4:8, 3:6] = 3  # spleen, its upper half where the label map has liver
    pseudo[9:11, 4:8, 3:6] = 1  # liver where the label map, made for the liver, has none
    for name in ("partly", "without"):
        write_image(tmp_path / "pseudo" / f"{name}.nii.gz", pseudo)

    (partly, without), refused = find_cases(tmp_path, pseudo_labels=tmp_path / "pseudo")

    assert not refused
    assert partly.labeled.all()
    assert without.labeled.all()
    np.testing.assert_array_equal(read_case(without)[1].array, pseudo)
    expected = np.zeros_like(pseudo)
    expected[0:2, 4:8, 3:6], expected[2:8, 4:8, 3:6] = 3, 1
    np.testing.assert_array_equal(read_case(partly)[1].array, expected)


def test_a_pseudo_label_that_cannot_fill_is_refused_and_its_case_stays_partly_labeled(tmp_path):
    write_case(tmp_path, "a", organs=(1,))
    write_image(tmp_path / "pseudo" / "a.nii.gz", np.zeros((5, 6, 7), np.uint8))

    (case,), refused = find_cases(
        tmp_path, pseudo_labels=tmp_path / "pseudo", labeled_organs=["liver"]
    )

    assert [one.path.parent.name for one in refused] == ["pseudo"]
    assert case.labeled.sum() == 2
