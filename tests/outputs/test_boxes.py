import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InputError, OutputError
from app.imaging.geometry import Box
from app.imaging.io import read_scan
from app.imaging.orientation import as_lps
from app.outputs.boxes import BoxTable, describe, stored_box

CODES = ["LPS", "RAS", "ASR", "PIL", "IRA"]


def scan_of(path, code):
    image = sitk.GetImageFromArray(np.zeros((6, 7, 8), np.int16))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    sitk.WriteImage(sitk.DICOMOrient(image, code), path)
    return read_scan(path)


def test_box_is_told_in_the_files_voxels_and_in_mm(tmp_path):
    _, source = scan_of(tmp_path / "x.nii", "RAS")
    # In LPS: slices 1-3, rows 2-5, columns 0-3.
    told = describe(Box(start=(1, 2, 0), stop=(4, 6, 4)), source)
    # A RAS file counts x from the left of 8 columns, y from the back of 7 rows.
    assert told["voxels"] == {"start": (4, 1, 1), "stop": (8, 5, 4)}
    # Outer faces: half a voxel before the first and behind the last center.
    assert told["lps_mm"] == {"min": [9.5, 23.0, 31.5], "max": [13.5, 31.0, 40.5]}
    assert told["size_mm"] == [4.0, 8.0, 9.0]


@settings(max_examples=30)
@given(
    code=st.sampled_from(CODES),
    edges=st.tuples(*(st.tuples(st.integers(0, 5), st.integers(1, 6)) for _ in range(3))),
)
def test_stored_box_holds_the_same_voxels(tmp_path_factory, code, edges):
    box = Box.between(*zip(*((min(a, b - 1), b) for a, b in edges), strict=True))
    scan, source = scan_of(tmp_path_factory.mktemp("scans") / "x.nii", code)
    stored = np.zeros(source.header.geometry.shape, bool)
    stored[stored_box(box, source).slices] = True
    expected = np.zeros(scan.array.shape, bool)
    expected[box.slices] = True
    assert np.array_equal(as_lps(stored, source.orientation), expected)


def test_boxes_of_an_earlier_run_stay(tmp_path):
    _, source = scan_of(tmp_path / "x.nii", "LPS")
    BoxTable(tmp_path / "boxes.json").put("a", Box(start=(0, 0, 0), stop=(1, 2, 3)), source)
    BoxTable(tmp_path / "boxes.json").put("b", None, source)
    found = json.loads((tmp_path / "boxes.json").read_text())
    assert found["a"]["voxels"]["stop"] == [3, 2, 1]
    assert found["b"] is None
    assert found["a"]["lps_mm"]["min"] == pytest.approx([9.5, 19.0, 28.5])


@pytest.mark.parametrize("text", ["", "[1, 2]"])
def test_another_file_of_that_name_is_never_overwritten(tmp_path, text):
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(InputError, match="move the file away"):
        BoxTable(tmp_path / "boxes.json")


def test_a_folder_of_that_name_is_refused(tmp_path):
    (tmp_path / "boxes.json").mkdir()
    with pytest.raises(InputError, match=r"boxes\.json: .*move the file away"):
        BoxTable(tmp_path / "boxes.json")


def test_a_box_can_be_removed_and_one_that_could_not_be_written_is_not_kept(tmp_path):
    _, source = scan_of(tmp_path / "x.nii", "LPS")
    table = BoxTable(tmp_path / "later" / "boxes.json")
    with pytest.raises(OutputError):
        table.put("a", None, source)
    (tmp_path / "later").mkdir()
    for name in ("b", "c"):
        table.put(name, None, source)
    table.remove("b")
    assert json.loads(table.path.read_text()) == {"c": None}
