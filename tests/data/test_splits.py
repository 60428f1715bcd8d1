import json
from pathlib import Path

import numpy as np
import pytest

from app.data.splits import FRAGMENT_ML, fragments, group_patients, split_anatomies
from app.errors import UnreadableScanError
from app.labels import ORGANS


def volumes(scale):
    return [1500 * scale, 180, 250, 80, 100, 80, 4, 5, 30, 15, 300, 70, 190]


def test_cases_with_nearly_equal_organ_volumes_are_one_patient():
    organ_ml = {"a_1": volumes(1.0), "b_7": volumes(2.5), "c_1": volumes(1.01)}
    organ_ml["b_7"][1:4] = [90, 700, 40]

    assert group_patients(organ_ml) == [["a_1", "c_1"], ["b_7"]]


def test_a_patient_never_stands_on_both_sides(tmp_path):
    entries = []
    for index in range(18):
        organ_ml = [100 * 1.5**index] * 13
        entries += [{"file": f"first_{index:02}.nii", "organ_ml": organ_ml}]
        entries += [{"file": f"second_{index:02}.nii", "organ_ml": organ_ml}]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(entries))

    split = split_anatomies(manifest)

    assert split.held_out == ("first_00", "first_09", "second_00", "second_09")
    assert len(split.train) == 32
    assert not set(split.train) & set(split.held_out)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(UnreadableScanError, match=r"nowhere\.json"):
        split_anatomies(tmp_path / "nowhere.json")


def test_an_upside_down_label_map_is_on_neither_side_and_moves_no_other(tmp_path):
    names = [f"testing_{number:04}" for number in range(160, 190)]
    entries = [
        {"file": f"{name}.nii", "organ_ml": [100 * 1.5**index] * 13}
        for index, name in enumerate(names)
    ]
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(entries))

    split = split_anatomies(manifest)

    assert set(split.train) | set(split.held_out) == set(names) - {"testing_0173"}
    assert split.held_out == ("testing_0160", "testing_0169", "testing_0178", "testing_0187")


def test_a_map_with_a_fragment_of_an_organ_is_on_neither_side_and_moves_no_other(tmp_path):
    stomach = [organ.name for organ in ORGANS].index("stomach")
    entries = [{"file": f"{n:02}.nii", "organ_ml": [100 * 1.5**n] * 13} for n in range(20)]
    whole, torn = tmp_path / "whole.json", tmp_path / "torn.json"
    whole.write_text(json.dumps(entries))
    for index in (9, 10):
        entries[index]["organ_ml"][stomach] = 0.9 * FRAGMENT_ML["stomach"]
    torn.write_text(json.dumps(entries))

    before, after = split_anatomies(whole), split_anatomies(torn)

    assert before.held_out == ("00", "09", "18")
    assert after.held_out == ("00", "18")
    assert set(before.train) - set(after.train) == {"10"}
    assert set(after.train) <= set(before.train)


@pytest.mark.parametrize("organ", sorted(FRAGMENT_ML))
def test_an_organ_that_is_absent_or_whole_is_no_fragment(organ):
    organ_ml = volumes(1.0)
    index = [organ.name for organ in ORGANS].index(organ)

    assert fragments(organ_ml) == []
    organ_ml[index] = 0.0
    assert fragments(organ_ml) == []
    organ_ml[index] = 0.9 * FRAGMENT_ML[organ]
    assert fragments(organ_ml) == [organ]


@pytest.mark.realdata
def test_of_the_250_anatomies_sixteen_are_on_neither_side():
    manifest = Path(__file__).resolve().parents[3] / "shared" / "data" / "anatomies"
    manifest = manifest / "manifest.json"
    if not manifest.is_file():
        pytest.skip(f"no {manifest}")
    entries = json.loads(manifest.read_text())

    split = split_anatomies(manifest)

    names = {Path(entry["file"]).stem for entry in entries}
    assert not set(split.train) & set(split.held_out)
    left_out = names - set(split.train) - set(split.held_out)
    torn = {Path(entry["file"]).stem for entry in entries if fragments(entry["organ_ml"])}
    assert left_out == torn | {"testing_0173"}
    assert len(left_out) == 16
    # Far from where whole organs begin, so that the limits decide nothing by a hair.
    for index, organ in enumerate(ORGANS):
        volumes_ml = np.array([entry["organ_ml"][index] for entry in entries])
        limit_ml = FRAGMENT_ML.get(organ.name, 0.0)
        near = (volumes_ml > 0.85 * limit_ml) & (volumes_ml < 1.1 * limit_ml)
        assert not near.any(), organ.name
