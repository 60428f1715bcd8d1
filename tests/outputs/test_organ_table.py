import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.errors import InputError, OutputError
from app.imaging.geometry import Geometry
from app.imaging.organ_statistics import measure_statistics
from app.outputs.organ_table import COLUMNS, OrganTable

ROOT = Path(__file__).resolve().parents[2]
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


def test_a_name_that_is_no_text_is_written_out_and_found_again(tmp_path):
    path, name = tmp_path / "organs.csv", os.fsdecode(b"\xff\xc3\xa9")
    OrganTable(path).put(name, measured())
    OrganTable(path).put("a", measured())
    OrganTable(path).put(name, measured()[:1])
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    assert [row["case"] for row in rows] == ["\\udcff\u00e9", *13 * ["a"]]
    assert name in OrganTable(path)


def test_the_table_is_utf8_whatever_the_locale(tmp_path):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from app.imaging.organ_statistics import OrganStatistics\n"
        "from app.outputs.organ_table import OrganTable\n"
        "organ = OrganStatistics(value=1, organ='liver', num_voxels=0, volume_ml=0.0,\n"
        "    mean_hu=None, sd_hu=None, extent_mm=None, edges=())\n"
        "OrganTable(Path(sys.argv[1])).put('\\u00e9', [organ])\n"
    )
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    path = tmp_path / "organs.csv"
    subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, env=os.environ | plain, check=True
    )
    assert "\u00e9,liver" in path.read_text(encoding="utf-8")


def test_rows_that_could_not_be_written_are_not_kept(tmp_path):
    table = OrganTable(tmp_path / "later" / "organs.csv")
    with pytest.raises(OutputError):
        table.put("a", measured())
    (tmp_path / "later").mkdir()
    table.put("b", measured())
    assert {case for case, _ in rows_of(table.path)} == {"b"}


def test_rows_of_a_case_can_be_removed(tmp_path):
    table = OrganTable(tmp_path / "organs.csv")
    table.put("a", measured())
    table.put("b", measured())
    table.remove("a")
    table.remove("c")
    assert {case for case, _ in rows_of(table.path)} == {"b"}


HEAD = ",".join(COLUMNS).encode() + b"\n"


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        HEAD + b"a,liver" + b",1" * len(COLUMNS),
        HEAD + b'a,"' + b"x" * (1 << 18),
    ],
    ids=["no text", "a row too long", "a quote without end"],
)
def test_a_table_that_cannot_be_gone_on_with_is_refused(tmp_path, content):
    (tmp_path / "organs.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"organs\.csv: .*move the file away"):
        OrganTable(tmp_path / "organs.csv")


def test_a_folder_of_that_name_is_refused(tmp_path):
    (tmp_path / "organs.csv").mkdir()
    with pytest.raises(InputError, match=r"organs\.csv: .*move the file away"):
        OrganTable(tmp_path / "organs.csv")
