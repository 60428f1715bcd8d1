import csv

import numpy as np
import pytest

from app.errors import InputError
from app.imaging.geometry import Geometry
from app.imaging.organ_statistics import measure_statistics
from app.outputs.organ_table import OrganTable

GEOMETRY = Geometry(shape=(4, 5, 6), spacing_mm=(5.0, 2.0, 3.0))
LIVER, AORTA = 1, 5


def measured():
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[0:2, 1:4, 2] = LIVER
    labels[:, 2, 3] = AORTA
    return measure_statistics(np.full((4, 5, 6), 40, np.int16), labels, GEOMETRY)


def rows_of(path):
    with path.open(newline="") as file:
        return {(row["case"], row["organ"]): row for row in csv.DictReader(file)}


def test_a_row_for_each_case_and_organ_with_units_in_the_header(tmp_path):
    OrganTable(tmp_path / "organs.csv").put("a", measured())
    rows = rows_of(tmp_path / "organs.csv")
    assert len(rows) == 13
    liver = rows["a", "liver"]
    assert liver == {
        "case": "a",
        "organ": "liver",
        "label": "1",
        "volume_ml": "0.180",  # 6 voxels of 30 mm³
        "num_voxels": "6",
        "mean_hu": "40.0",
        "sd_hu": "0.0",
        "extent_left_right_mm": "3.0",
        "extent_anterior_posterior_mm": "6.0",
        "extent_inferior_superior_mm": "10.0",
        "edges_touched": "inferior",
        "flags": "cut_by_edge",
    }
    spleen = rows["a", "spleen"]
    assert (spleen["volume_ml"], spleen["mean_hu"], spleen["flags"]) == ("0.000", "", "not_found")
    # A vessel goes on beyond the scan by nature.
    assert rows["a", "aorta"]["edges_touched"] == "inferior;superior"
    assert rows["a", "aorta"]["flags"] == ""


def test_flags_from_elsewhere_stand_beside_its_own(tmp_path):
    OrganTable(tmp_path / "organs.csv").put("a", measured(), {"liver": ["small", "odd_hu"]})
    assert rows_of(tmp_path / "organs.csv")["a", "liver"]["flags"] == "cut_by_edge;small;odd_hu"


def test_rows_of_an_earlier_run_stay_and_those_of_a_case_done_again_are_replaced(tmp_path):
    path = tmp_path / "organs.csv"
    OrganTable(path).put("b", measured())
    OrganTable(path).put("a", measured())
    OrganTable(path).put("b", measured()[:2])
    assert [case for case, _ in rows_of(path)] == ["a"] * 13 + ["b"] * 2


def test_another_table_of_that_name_is_never_overwritten(tmp_path):
    path = tmp_path / "organs.csv"
    path.write_text("patient,liver\n1,2\n")
    with pytest.raises(InputError, match=r"organs\.csv: columns \['patient', 'liver'\]"):
        OrganTable(path)
    assert path.read_text() == "patient,liver\n1,2\n"
