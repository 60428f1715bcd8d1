import numpy as np
import pytest
from label_files import write_labels

from app.benchmark.cases import CASES, PhantomCase, find_scans, make_phantom, pick_cases
from app.cli.benchmark import CASE_NAMES
from app.errors import InputError, UsageError


def test_command_line_offers_every_case():
    assert tuple(case.name for case in CASES) == CASE_NAMES


def test_cases_are_picked_in_the_order_asked_for():
    assert [case.name for case in pick_cases(["long1338", "thick51"])] == ["long1338", "thick51"]
    assert pick_cases(["thick51"])[0].size_xyz == "512x512x51"


def test_a_case_that_is_not_known_is_named():
    with pytest.raises(UsageError, match="thick50"):
        pick_cases(["thick51", "thick50"])


def test_phantom_is_made_once_with_its_truth(tmp_path):
    case = PhantomCase(name="small", shape=(9, 11, 13), spacing_mm=(30.0, 25.0, 20.0))
    scan = make_phantom(case, tmp_path)
    (made,) = scan.folder.iterdir()
    before = made.stat().st_mtime_ns
    assert (scan.truth.name, made.name) == ("small.nii.gz", "small_0000.nii.gz")
    assert make_phantom(case, tmp_path) == scan
    assert made.stat().st_mtime_ns == before


def test_each_scan_of_a_folder_lies_alone_beside_its_truth(tmp_path):
    source, references = tmp_path / "scans", tmp_path / "labels"
    for folder in (source, references):
        folder.mkdir()
    for name in ("b_0000.nii.gz", "a.mha"):
        write_labels(source / name, np.zeros((2, 3, 4), np.int16))
    (source / "notes.txt").write_text("no scan")
    write_labels(references / "b.nii.gz", np.zeros((2, 3, 4), np.uint8))
    one, other = find_scans(source, references, tmp_path / "scratch")
    assert (one.name, one.truth) == ("a", None)
    assert (other.name, other.truth) == ("b", references / "b.nii.gz")
    assert [path.name for path in other.folder.iterdir()] == ["b_0000.nii.gz"]
    assert (other.shape, other.spacing_mm) == ((2, 3, 4), (3.0, 2.0, 1.0))


def test_two_scans_of_one_name_are_wrong_use(tmp_path):
    for name in ("a_0000.nii.gz", "a.mha"):
        write_labels(tmp_path / name, np.zeros((2, 3, 4), np.int16))
    with pytest.raises(UsageError, match="of the name a"):
        find_scans(tmp_path, None, tmp_path / "scratch")


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(UsageError, match="--input .*no such folder"):
        find_scans(tmp_path / "none", None, tmp_path)
    with pytest.raises(UsageError, match="no scans found"):
        find_scans(tmp_path, None, tmp_path)
    (tmp_path / "broken.nii.gz").write_text("no image")
    with pytest.raises(InputError, match=r"broken\.nii\.gz"):
        find_scans(tmp_path, None, tmp_path / "scratch")
