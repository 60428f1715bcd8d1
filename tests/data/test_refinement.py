import numpy as np
import pytest
import SimpleITK as sitk
from label_files import write_segments
from own_data import write_image

from app.cli.main import main
from app.data.refinement import refine_folder
from app.errors import UsageError
from app.evaluation.pairs import read_label_map
from app.imaging.io import read_scan

SHAPE = (10, 12, 14)


def write_pair(folder, name="a", **geometry):
    """A label map with half a liver, and a prediction with all of it."""
    liver = np.zeros(SHAPE, np.uint8)
    liver[2:9, 2:10, 2:12] = 1
    half = liver.copy()
    half[5:] = 0
    write_image(folder / "labels" / f"{name}.nii.gz", half)
    write_image(folder / "predictions" / f"{name}.nii.gz", liver, **geometry)
    return half, liver


def refine(folder, rule="published", **more):
    outcomes = refine_folder(
        folder / "labels", folder / "predictions", folder / "out", rule=rule, **more
    )
    return {outcome.name: outcome for outcome in outcomes}


@pytest.mark.parametrize("rule", ["published", "plausible"])
def test_a_label_map_is_completed_from_its_prediction(tmp_path, rule):
    half, liver = write_pair(tmp_path)

    outcomes = refine(tmp_path, rule)

    refined = read_scan(tmp_path / "out" / "a.nii.gz")[0].array
    np.testing.assert_array_equal(refined, liver)
    assert outcomes["a"].problem == ""
    assert outcomes["a"].changed == pytest.approx(1 - np.count_nonzero(half) / liver.sum())


def test_segments_of_slicer_are_the_organs_of_their_names(tmp_path):
    half, liver = write_pair(tmp_path)
    names = {5: "Liver"}  # Slicer numbers a segment that is added as it likes
    for folder, labels in (("labels", half), ("predictions", liver)):
        (tmp_path / folder / "a.nii.gz").unlink()
        path = tmp_path / folder / "a.seg.nrrd"
        write_segments(path, 5 * labels, names, spacing_xyz=(3.0, 4.0, 5.0))

    (outcome,) = refine(tmp_path).values()

    assert outcome.problem == ""
    np.testing.assert_array_equal(read_scan(tmp_path / "out" / "a.seg.nii.gz")[0].array, liver)


def test_files_in_two_orientations_are_laid_over_each_other(tmp_path):
    _, liver = write_pair(tmp_path)
    path = tmp_path / "labels" / "a.nii.gz"
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), "RAI"), str(path))

    refine(tmp_path)

    np.testing.assert_array_equal(read_scan(tmp_path / "out" / "a.nii.gz")[0].array, liver)
    # The refined label map lies as the given one did.
    given, refined = (
        read_label_map(folder / "a.nii.gz") for folder in (path.parent, tmp_path / "out")
    )
    assert refined.source.orientation == given.source.orientation


def test_a_scan_without_a_label_map_gets_its_prediction(tmp_path):
    _, liver = write_pair(tmp_path)
    (tmp_path / "labels" / "a.nii.gz").unlink()

    assert refine(tmp_path)["a"].changed == 1.0
    np.testing.assert_array_equal(read_scan(tmp_path / "out" / "a.nii.gz")[0].array, liver)


def test_a_label_map_without_a_prediction_is_not_lost(tmp_path):
    write_pair(tmp_path, "a")
    half, _ = write_pair(tmp_path, "b")
    (tmp_path / "predictions" / "b.nii.gz").unlink()

    assert refine(tmp_path)["b"].changed == 0.0
    np.testing.assert_array_equal(read_scan(tmp_path / "out" / "b.nii.gz")[0].array, half)


@pytest.mark.parametrize("rule", ["published", "plausible"])
def test_an_empty_prediction_counts_as_none_and_is_told(tmp_path, rule):
    write_pair(tmp_path, "whole")
    half, _ = write_pair(tmp_path, "labeled")
    write_pair(tmp_path, "alone")
    for name in ("labeled", "alone"):
        write_image(tmp_path / "predictions" / f"{name}.nii.gz", np.zeros(SHAPE, np.uint8))
    (tmp_path / "labels" / "alone.nii.gz").unlink()

    outcomes = refine(tmp_path, rule)

    assert {name: "empty" in outcome.note for name, outcome in outcomes.items()} == {
        "alone": True, "labeled": True, "whole": False,
    }  # fmt: skip
    assert not any(outcome.problem for outcome in outcomes.values())
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["labeled.nii.gz", "whole.nii.gz"]
    np.testing.assert_array_equal(read_scan(tmp_path / "out" / written[0])[0].array, half)


def test_folders_without_a_name_in_common_are_wrong_use(tmp_path):
    write_pair(tmp_path, "a")
    (tmp_path / "predictions" / "a.nii.gz").rename(tmp_path / "predictions" / "b.nii.gz")

    with pytest.raises(UsageError, match="in common"):
        refine(tmp_path)


def test_what_cannot_be_refined_is_named_and_the_others_go_on(tmp_path):
    write_pair(tmp_path, "good")
    write_pair(tmp_path, "moved", origin_xyz=(5.0, 0.0, 0.0))

    outcomes = refine(tmp_path)

    assert "5 mm" in outcomes["moved"].problem
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.nii.gz"]


def test_confidence_is_read_in_percent(tmp_path):
    half, liver = write_pair(tmp_path)
    confidence = tmp_path / "confidence"
    write_image(confidence / "a.nii.gz", np.full(SHAPE, 40, np.uint8))
    assert refine(tmp_path, "plausible", confidence=confidence)["a"].changed == 0

    write_image(confidence / "a.nii.gz", np.full(SHAPE, 80, np.uint8))
    assert refine(tmp_path, "plausible", confidence=confidence)["a"].changed > 0

    write_image(confidence / "a.nii.gz", np.full(SHAPE, 255, np.uint8))
    assert "0 to 100" in refine(tmp_path, "plausible", confidence=confidence)["a"].problem


def test_a_case_without_confidence_is_a_problem_where_confidence_is_asked_for(tmp_path):
    write_pair(tmp_path, "a")
    write_pair(tmp_path, "b")
    confidence = tmp_path / "confidence"
    write_image(confidence / "a.nii.gz", np.full(SHAPE, 80, np.uint8))

    outcomes = refine(tmp_path, "plausible", confidence=confidence)

    assert outcomes["a"].problem == ""
    assert "no image of this name" in outcomes["b"].problem
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.nii.gz"]


def test_confidence_for_a_rule_that_asks_for_none_is_wrong_use(tmp_path):
    write_pair(tmp_path)
    write_image(tmp_path / "confidence" / "a.nii.gz", np.full(SHAPE, 80, np.uint8))

    with pytest.raises(UsageError, match="published"):
        refine(tmp_path, "published", confidence=tmp_path / "confidence")


@pytest.mark.parametrize("output", ["labels", "predictions", "confidence"])
def test_no_input_is_written_over(tmp_path, output):
    write_pair(tmp_path)
    write_image(tmp_path / "confidence" / "a.nii.gz", np.full(SHAPE, 80, np.uint8))

    with pytest.raises(UsageError, match="folder of its own"):
        list(
            refine_folder(
                tmp_path / "labels", tmp_path / "predictions", tmp_path / output,
                rule="plausible", confidence=tmp_path / "confidence",
            )
        )  # fmt: skip


def test_the_command_refines_measures_and_says_what_it_needs(tmp_path, capsys):
    write_pair(tmp_path)
    words = ["refine", "--labels", str(tmp_path / "labels"), "--rule", "published"]

    assert main(words) == 2
    assert "belong together" in capsys.readouterr().err
    words += ["--predictions", str(tmp_path / "predictions"), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    assert "changed" in capsys.readouterr().out


def test_the_trial_compares_all_rules_on_all_faults(tmp_path, capsys):
    body = np.zeros((30, 36, 48), np.uint8)
    body[8:24, 6:26, 4:20], body[10:20, 18:30, 36:44], body[:, 24:29, 25:29] = 1, 3, 5
    body[3:10, 24:32, 8:14], body[3:10, 24:32, 34:40] = 2, 13
    write_image(tmp_path / "a.nii.gz", body)

    assert main(["refine", "--measure", str(tmp_path)]) == 0

    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line[:1] == "|"]
    table = {row[1].strip(): [float(cell.split()[0]) for cell in row[2:-1]] for row in rows[2:]}
    assert set(table) == {
        "unbroken", "slices dropped", "parts cut off", "organs swapped", "false blobs", "all four",
        "same fault in both",
    }  # fmt: skip
    before, prediction, published, plausible, _ = table["unbroken"]
    assert before == 1.0 > published > prediction
    assert plausible > 0.9
    assert table["all four"][0] < 0.95


@pytest.mark.parametrize("with_others", [True, False])
def test_the_trial_names_an_empty_label_map_and_goes_on(tmp_path, capsys, with_others):
    labels = np.zeros((30, 36, 48), np.uint8)
    write_image(tmp_path / "empty.nii.gz", labels)
    if with_others:
        labels[8:24, 6:26, 4:20] = 1
        write_image(tmp_path / "single.nii.gz", labels)

    assert main(["refine", "--measure", str(tmp_path)]) == 1

    told = capsys.readouterr()
    assert "empty.nii.gz: holds no organ to break" in told.err
    assert ("over 1 label maps" in told.out) is with_others
    assert ("| unbroken | 1.0000 (1.000) |" in told.out) is with_others


@pytest.mark.parametrize("value", [14, 200, 256])
def test_the_trial_names_values_of_no_organ_and_passes_over_what_a_mac_leaves(
    tmp_path, capsys, value
):
    labels = np.zeros((30, 36, 48), np.uint16)
    labels[8:24, 6:26, 4:20] = value
    write_image(tmp_path / "odd.nii.gz", labels)
    (tmp_path / "._odd.nii.gz").write_bytes(b"Mac OS X")

    assert main(["refine", "--measure", str(tmp_path)]) == 1

    told = capsys.readouterr().err
    assert "odd.nii.gz: " in told
    assert "._odd" not in told


def test_an_output_that_is_no_folder_is_told(tmp_path, capsys):
    write_pair(tmp_path)
    (tmp_path / "out").touch()
    words = ["refine", "--labels", str(tmp_path / "labels"), "--output", str(tmp_path / "out")]

    assert main([*words, "--predictions", str(tmp_path / "predictions")]) == 2

    assert f"--output {tmp_path / 'out'}: cannot be written to" in capsys.readouterr().err
