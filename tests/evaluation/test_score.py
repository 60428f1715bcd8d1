import csv
import math
import tracemalloc
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from label_files import make_folders, write_labels
from scipy import ndimage

from app.errors import UsageError
from app.evaluation.protocols import Score
from app.evaluation.score import evaluate, find_differences, write_scores
from app.evaluation.worst import ADDED_COLOR, MISSED_COLOR
from app.labels import ORGANS

LIVER, SPLEEN, AORTA, GALLBLADDER = 1, 3, 5, 9
CHALLENGE_TOLERANCES_MM = {
    1: 5, 2: 3, 3: 3, 4: 5, 5: 2, 6: 2, 7: 2, 8: 2, 9: 2, 10: 3, 11: 5, 12: 7, 13: 3,
}  # fmt: skip
SHAPE = (6, 7, 8)  # voxels of 3 x 2 x 1 mm: 0.006 ml


@pytest.fixture
def folders(tmp_path):
    return make_folders(tmp_path)


def two_organs():
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 1:4, 1:5] = LIVER  # 36 voxels
    labels[1:5, 4:6, 6:8] = AORTA  # 16 voxels
    return labels


def scores(evaluation, protocol):
    return {(row.case, row.organ): row.score for row in evaluation.results[protocol]}


def test_every_case_has_a_row_for_every_organ_with_volumes(folders):
    predictions, references = folders
    labels = two_organs()
    write_labels(references / "a.nii.gz", labels)
    labels[1] = 0  # 12 voxels of liver and 4 of aorta fewer
    write_labels(predictions / "a.nii.gz", labels)
    rows = evaluate(predictions, references, protocol="strict").results["strict"]
    assert [row.organ for row in rows] == [organ.name for organ in ORGANS]
    liver, aorta = rows[LIVER - 1], rows[AORTA - 1]
    assert liver.volume_ref_ml == pytest.approx(0.216)
    assert liver.volume_pred_ml == pytest.approx(0.144)
    assert liver.score.dsc == 0.8  # 2 * 24 / (36 + 24)
    assert aorta.score.dsc == pytest.approx(24 / 28)


def test_a_missing_prediction_is_all_wrong_strictly_and_left_out_by_the_challenge(folders):
    predictions, references = folders
    for name in ("a", "b"):
        write_labels(references / f"{name}.nii.gz", two_organs())
    write_labels(predictions / "a.nii.gz", two_organs())
    write_labels(predictions / "c.nii.gz", two_organs())
    evaluation = evaluate(predictions, references, protocol="strict")
    assert evaluation.missing == ["b"]
    assert [path.name for path in evaluation.extra] == ["c.nii.gz"]
    strict = scores(evaluation, "strict")
    assert all(strict["b", organ.name] == Score(0.0, 0.0) for organ in ORGANS)
    assert {case for case, _ in scores(evaluation, "flare24")} == {"a"}


def test_another_grid_is_all_wrong_strictly_and_nothing_to_the_challenge(folders):
    predictions, references = folders
    write_labels(references / "a.nii.gz", two_organs())
    write_labels(predictions / "a.nii.gz", two_organs(), origin_xyz=(0, 0, 30.0))
    evaluation = evaluate(predictions, references, protocol="strict")
    assert set(scores(evaluation, "strict").values()) == {Score(0.0, 0.0)}
    assert len(evaluation.problems["strict"]) == 1
    assert set(scores(evaluation, "flare24").values()) == {Score(1.0, 1.0)}
    assert evaluation.problems["flare24"] == []


def test_a_prediction_stored_in_another_order_is_told_where_nothing_is_turned(folders):
    predictions, references = folders
    for name in ("a", "b"):
        write_labels(references / f"{name}.nii.gz", two_organs())
    write_labels(predictions / "a.nii.gz", two_organs())
    # The same voxels at the same places, but x runs slowest in the file.
    same = nib.load(references / "b.nii.gz")
    turned = same.affine @ np.eye(4)[:, [2, 1, 0, 3]]
    array_zyx = np.asarray(same.dataobj).transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(array_zyx, turned), predictions / "b.nii.gz")
    evaluation = evaluate(predictions, references, protocol="flare24")
    assert scores(evaluation, "strict")["b", "liver"] == Score(1.0, 1.0)
    assert {case for case, _ in scores(evaluation, "flare24")} == {"a"}
    assert evaluation.problems["strict"] == []
    (told,) = evaluation.problems["flare24"]
    assert "b.nii.gz: stored as (8, 7, 6) voxels" in told


def test_a_broken_reference_stops_no_other_case(folders):
    predictions, references = folders
    (references / "a.nii.gz").write_bytes(b"broken")
    write_labels(references / "b.nii.gz", two_organs())
    for name in ("a", "b"):
        write_labels(predictions / f"{name}.nii.gz", two_organs())
    evaluation = evaluate(predictions, references, protocol="flare24")
    assert {case for case, _ in scores(evaluation, "flare24")} == {"b"}
    assert "a.nii.gz" in evaluation.problems["flare24"][0]


def test_nothing_to_score_is_wrong_use_for_the_challenge_only(folders):
    predictions, references = folders
    write_labels(references / "a.nii.gz", two_organs())
    with pytest.raises(UsageError, match="no label map named as a reference"):
        evaluate(predictions, references, protocol="flare24")
    assert len(evaluate(predictions, references, protocol="strict").results["strict"]) == 13


def test_differences_of_the_protocols_are_found(folders):
    predictions, references = folders
    labels = two_organs()
    write_labels(references / "a.nii.gz", labels)
    labels[4] = 0  # the aorta's last slice, which the challenge drops
    write_labels(predictions / "a.nii.gz", labels)
    differences = find_differences(evaluate(predictions, references, protocol="strict"))
    absent = [organ.name for organ in ORGANS if organ.value not in (LIVER, AORTA)]
    assert {difference.organ for difference in differences} == {"aorta", *absent}
    aorta = next(found for found in differences if found.organ == "aorta")
    assert aorta.scores["flare24"] == Score(1.0, 1.0)
    assert aorta.scores["strict"].dsc == pytest.approx(24 / 28)


def test_an_organ_in_neither_label_map_takes_no_place_among_the_pictures(folders, tmp_path):
    predictions, references = folders
    write_labels(references / "a.nii.gz", two_organs())
    scans = tmp_path / "scans"
    scans.mkdir()
    write_labels(scans / "a_0000.nii.gz", np.zeros(SHAPE, np.int16))
    # Without a prediction all 13 organs score 0, of which the reference shows two.
    worst = evaluate(predictions, references, protocol="strict", scans=scans).worst.results
    assert [result.organ for result in worst] == ["liver", "aorta"]


def test_worst_results_are_kept_worst_first_without_perfect_ones(folders):
    predictions, references = folders
    labels = two_organs()
    labels[5, 6, 0] = SPLEEN
    write_labels(references / "a.nii.gz", labels)
    labels[labels == SPLEEN] = 0
    labels[1, 1, 1] = 0
    write_labels(predictions / "a.nii.gz", labels)
    worst = evaluate(predictions, references, protocol="strict").worst.results
    assert [result.organ for result in worst] == ["spleen", "liver"]


@pytest.mark.parametrize(
    ("protocol", "shown", "hidden"),
    [("flare24", MISSED_COLOR, ADDED_COLOR), ("strict", ADDED_COLOR, MISSED_COLOR)],
)
def test_pictures_show_what_their_protocol_counts(folders, protocol, shown, hidden):
    predictions, references = folders
    labels = two_organs()
    write_labels(references / "a.nii.gz", labels)
    labels[2, 4, 6] = 0  # a voxel of the aorta missed in a slice that counts for both
    labels[5, 0:3, 0:5] = AORTA  # beyond the reference's last slice
    labels[0, 0:3, 0:5] = AORTA  # and before its first
    write_labels(predictions / "a.nii.gz", labels)
    (aorta,) = evaluate(predictions, references, protocol=protocol).worst.results
    colors = {color for _, color in aorta.picture.getcolors()}
    # Planes lie where most is wrong: strictly, away from the voxel that was missed.
    assert shown in colors
    assert hidden not in colors


def test_memory_grows_by_a_few_bytes_for_each_voxel(folders):
    """Two label maps in uint8, one of them as it is read in int16: 4 bytes.

    A map of distances over the whole volume would be 8 bytes more.
    """
    predictions, references = folders

    def peak_bytes(num_slices):
        labels = np.zeros((num_slices, 150, 170), np.uint8)
        labels[2:12, 20:50, 30:60] = LIVER
        labels[15:20, 90:99, 110:130] = GALLBLADDER
        write_labels(references / "a.nii.gz", labels)
        write_labels(predictions / "a.nii.gz", np.roll(labels, 1, axis=2))
        tracemalloc.start()
        try:
            evaluate(predictions, references, protocol="strict")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    gained = peak_bytes(240) - peak_bytes(80)
    assert gained < 5 * 160 * 150 * 170


def test_scores_are_written_as_a_table(folders, tmp_path):
    predictions, references = folders
    for folder in folders:
        write_labels(folder / "a.nii.gz", two_organs())
    results = evaluate(predictions, references, protocol="strict").results["strict"]
    write_scores(tmp_path / "scores.csv", [replace(results[0], case='a "b", c'), results[1]])
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "case": 'a "b", c',
        "organ": "liver",
        "dsc": "1.000000",
        "nsd": "1.000000",
        "volume_ref_ml": "0.216000",
        "volume_pred_ml": "0.216000",
    }
    assert math.isnan(float(rows[1]["dsc"]))


def challenge(reference_path, prediction_path):
    """Score all organs as the challenge does, in a way of its own: files to numbers, x first."""
    from monai.metrics.utils import ENCODING_KERNEL, create_table_neighbour_code_to_surface_area

    gt, seg = (
        np.asarray(nib.load(path).dataobj).astype(int) for path in (reference_path, prediction_path)
    )
    spacing_mm = [float(step) for step in nib.load(reference_path).header.get_zooms()]
    table = create_table_neighbour_code_to_surface_area(spacing_mm)[0].numpy()

    def surface(mask):
        codes = ndimage.correlate(
            np.pad(mask, 2).astype(int), np.array(ENCODING_KERNEL[3]), mode="constant"
        )
        on_it = (codes % 255) > 0
        away = np.full(on_it.shape, np.inf)
        if on_it.any():
            away = ndimage.distance_transform_edt(~on_it, sampling=spacing_mm)
        return on_it, away, table[codes]

    found = []
    for value, tolerance_mm in CHALLENGE_TOLERANCES_MM.items():
        one, other = gt == value, seg == value
        if one.sum() == 0 or other.sum() == 0:
            alike = float(one.sum() == other.sum())
            found.append((alike, alike))
            continue
        if value in (5, 6, 10):
            where = np.nonzero(one)[2]
            one, other = (mask[:, :, where.min() : where.max()] for mask in (one, other))
        if one.shape[2] == 0:
            found.append((math.nan, math.nan))
            continue
        dsc = 2 * (one & other).sum() / (one.sum() + other.sum())
        nsd = 0.0
        if dsc >= 0.2:
            (on_one, to_one, area_one), (on_other, to_other, area_other) = map(
                surface, (one, other)
            )
            near = area_one[on_one & (to_other <= tolerance_mm)].sum()
            near += area_other[on_other & (to_one <= tolerance_mm)].sum()
            nsd = near / (area_one[on_one].sum() + area_other[on_other].sum())
        found.append((dsc, nsd))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_flare24_agrees_with_an_implementation_of_its_own(folders, seed):
    predictions, references = folders
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(10, 16, 3).tolist())
    # Blocks of organs, shifted and speckled, with a few organs gone from either side.
    coarse = rng.integers(0, 14, tuple(-(-size // 4) for size in shape))
    reference = np.kron(coarse, np.ones((4, 4, 4), int))[tuple(map(slice, shape))]
    prediction = np.roll(reference, rng.integers(-1, 3, 3), axis=(0, 1, 2))
    speckled = rng.random(shape) < 0.1
    prediction[speckled] = rng.integers(0, 14, int(speckled.sum()))
    reference[reference == rng.integers(1, 14)] = 0
    prediction[prediction == rng.integers(1, 14)] = 0
    spacing_xyz = tuple(rng.choice([0.8, 1.5, 2.5], 3).tolist())
    for folder, array in ((references, reference), (predictions, prediction)):
        write_labels(folder / "a.nii.gz", array.astype(np.uint8), spacing_xyz=spacing_xyz)
    # Turned to look from the feet as well: the slice dropped is the file's last.
    if seed % 2:
        for folder in folders:
            image = nib.load(folder / "a.nii.gz")
            affine = image.affine @ np.diag([1.0, 1.0, -1.0, 1.0])
            turned = nib.Nifti1Image(np.asarray(image.dataobj), affine)
            nib.save(turned, folder / "a.nii.gz")
    rows = evaluate(predictions, references, protocol="flare24").results["flare24"]
    ours = [(row.score.dsc, row.score.nsd) for row in rows]
    np.testing.assert_allclose(
        ours, challenge(references / "a.nii.gz", predictions / "a.nii.gz"), atol=1e-6
    )


def test_flare24_measures_by_the_spacing_that_pixdim_states_as_the_challenge_does(folders):
    predictions, references = folders
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 2:5, 1:5] = GALLBLADDER
    # By the sform a voxel is 1 mm wide, by pixdim 2.5 mm: more than the gallbladder's 2 mm.
    for folder, array in ((references, labels), (predictions, np.roll(labels, 1, axis=2))):
        image = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([1.0, 2.0, 3.0, 1.0]))
        image.header["pixdim"][1] = 2.5
        nib.save(image, folder / "a.nii.gz")
    assert nib.load(references / "a.nii.gz").header.get_zooms() == (2.5, 2.0, 3.0)
    evaluation = evaluate(predictions, references, protocol="flare24")
    assert scores(evaluation, "strict")["a", "gallbladder"].nsd == 1.0
    expected = challenge(references / "a.nii.gz", predictions / "a.nii.gz")[GALLBLADDER - 1]
    found = scores(evaluation, "flare24")["a", "gallbladder"]
    assert (found.dsc, found.nsd) == pytest.approx(expected, abs=1e-6)
    assert found.nsd < 0.9
