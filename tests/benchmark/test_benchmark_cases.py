import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_series import write_series
from label_files import write_labels

import app.synthesis
from app.benchmark.cases import (
    CASES,
    SEED,
    PhantomCase,
    find_truths,
    lay_out,
    make_phantom,
    pick_cases,
    synthesis_sha256,
)
from app.cli.benchmark import CASE_NAMES
from app.errors import InputError, UsageError
from app.imaging.crop import bounding_box
from app.imaging.io import read_scan
from app.imaging.label_maps import grid_difference
from app.manifest import sha256_of
from app.synthesis.phantom import phantom_tissues
from app.synthesis.tissues import ORGAN_OF_TISSUE


def test_command_line_offers_every_case():
    assert tuple(case.name for case in CASES) == CASE_NAMES


def test_cases_are_picked_in_the_order_asked_for():
    assert [case.name for case in pick_cases(["long1338", "thick51"])] == ["long1338", "thick51"]
    assert pick_cases(["thick51"])[0].size_xyz == "512x512x51"


def test_a_case_that_is_not_known_is_named():
    with pytest.raises(UsageError, match="thick50"):
        pick_cases(["thick51", "thick50"])


def test_phantoms_have_the_published_sizes():
    assert {case.name: (case.shape, case.spacing_mm) for case in CASES} == {
        "thick51": ((51, 512, 512), (5.0, 0.8, 0.8)),
        "median160": ((160, 512, 512), (2.5, 0.8, 0.8)),
        "headline597": ((597, 512, 512), (1.25, 0.898, 0.898)),
        "long1338": ((1338, 512, 512), (1.0, 0.898, 0.898)),
    }
    assert [case.size_xyz for case in CASES][2:] == ["512x512x597", "512x512x1338"]
    assert [case.spacing_xyz for case in CASES][2:] == ["0.898x0.898x1.25", "0.898x0.898x1"]


def test_the_headline_phantoms_organs_fill_as_much_as_those_of_the_published_scan():
    """Its box decides how many patches are run. Its anatomy is that of its seed on any grid.

    Phantoms are labeled up to the upper end of the scan, so that the box is higher than the
    published one, and narrower.
    """
    case = next(case for case in CASES if case.name == "headline597")
    extent_mm = np.multiply(case.shape, case.spacing_mm)
    shape = tuple(np.rint(extent_mm / 6).astype(int).tolist())
    spacing_mm = tuple((extent_mm / shape).tolist())
    tissues = phantom_tissues(shape=shape, spacing_mm=spacing_mm, seed=SEED)
    organs = bounding_box(ORGAN_OF_TISSUE[tissues] > 0, spacing_mm)
    box_mm = np.multiply(organs.shape, spacing_mm)
    published_mm = (368, 191, 282)
    np.testing.assert_allclose(box_mm, published_mm, rtol=0.2)
    assert np.prod(box_mm) == pytest.approx(np.prod(published_mm), rel=0.1)


SMALL = PhantomCase(name="small", shape=(9, 11, 13), spacing_mm=(30.0, 25.0, 20.0))


def test_phantom_is_made_once_with_its_truth(tmp_path):
    scan = make_phantom(SMALL, tmp_path)
    (made,) = scan.folder.iterdir()
    before = made.stat().st_mtime_ns
    assert (scan.truth.name, made.name) == ("small.nii.gz", "small_0000.nii.gz")
    assert scan.sha256 == sha256_of(made)
    assert make_phantom(SMALL, tmp_path) == scan
    assert made.stat().st_mtime_ns == before


def test_phantom_of_other_code_size_or_content_is_made_again(tmp_path, monkeypatch):
    """Else figures of an old phantom would stand beside those of a new one."""

    def stand_in(command, **_):
        for flag in ("--output", "--labels"):
            Path(command[command.index(flag) + 1]).write_text(" ".join(command))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", stand_in)
    scan = make_phantom(SMALL, tmp_path)
    (made,) = scan.folder.iterdir()

    def is_made_again(case=SMALL):
        os.utime(made, ns=(0, 0))
        make_phantom(case, tmp_path)
        return made.stat().st_mtime_ns > 0

    assert not is_made_again()
    assert is_made_again(replace(SMALL, spacing_mm=(31.0, 25.0, 20.0)))
    assert is_made_again()
    monkeypatch.setattr("app.benchmark.cases.SEED", 7)
    assert is_made_again()
    monkeypatch.setattr("app.benchmark.cases.synthesis_sha256", lambda: "of tomorrow")
    assert is_made_again()
    assert not is_made_again()
    made.write_bytes(made.read_bytes()[:-10])  # as a full disk leaves it
    assert is_made_again()
    scan.truth.unlink()
    assert is_made_again()
    (tmp_path / "small" / "phantom.json").write_text("[]")
    assert is_made_again()


def test_every_file_that_makes_phantoms_counts_for_their_version(tmp_path, monkeypatch):
    shutil.copytree(Path(app.synthesis.__file__).parent, tmp_path / "synthesis")
    before = synthesis_sha256()
    monkeypatch.setattr(app.synthesis, "__path__", [str(tmp_path / "synthesis")])
    assert synthesis_sha256() == before
    bowel = tmp_path / "synthesis" / "procedural" / "bowel.py"
    bowel.write_text(bowel.read_text() + "\n# a change\n")
    assert synthesis_sha256() != before


def scan_array():
    return np.arange(24, dtype=np.int16).reshape(2, 3, 4) - 1000


def lay_out_and_read(source, tmp_path, name="a"):
    scan = lay_out(name, source, None, tmp_path / "scratch")
    (path,) = scan.folder.iterdir()
    assert path.name == f"{name}_0000.nii.gz"
    assert scan.sha256 == sha256_of(path)
    return scan, sitk.GetArrayFromImage(sitk.ReadImage(path)), read_scan(path)[0].geometry


@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "mha", "mhd", "nrrd", "nhdr"])
def test_scan_of_any_type_is_laid_out_as_one_nifti_file_on_its_own_grid(tmp_path, suffix):
    source = write_labels(tmp_path / f"a.{suffix}", scan_array(), origin_xyz=(7.0, 8.0, 9.0))
    scan, array, geometry = lay_out_and_read(source, tmp_path)
    assert (scan.shape, scan.spacing_mm) == ((2, 3, 4), (3.0, 2.0, 1.0))
    np.testing.assert_array_equal(array, scan_array())
    assert grid_difference(read_scan(source)[0].geometry, geometry) == ""


def test_scan_is_laid_out_in_the_order_in_which_it_was_stored(tmp_path):
    image = sitk.GetImageFromArray(scan_array())
    image.SetSpacing((1.0, 2.0, 3.0))
    turned = sitk.PermuteAxes(image, (2, 0, 1))[:, ::-1]  # sagittal slices, one axis upside down
    sitk.WriteImage(turned, tmp_path / "a.nrrd")
    scan, array, geometry = lay_out_and_read(tmp_path / "a.nrrd", tmp_path)
    assert scan.shape == array.shape == (3, 4, 2)
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(turned))
    assert grid_difference(read_scan(tmp_path / "a.nrrd")[0].geometry, geometry) == ""


def test_scan_that_leans_is_laid_out_on_its_very_grid(tmp_path):
    lean = np.radians(0.4)
    image = sitk.GetImageFromArray(np.repeat(scan_array(), 100, axis=0))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetDirection((1, 0, 0, 0, 1, np.sin(lean), 0, 0, np.cos(lean)))
    sitk.WriteImage(image, tmp_path / "a.mha")
    _, array, geometry = lay_out_and_read(tmp_path / "a.mha", tmp_path)
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image))
    # Its last slice lies 4 mm off where right angles would lead to.
    assert grid_difference(read_scan(tmp_path / "a.mha")[0].geometry, geometry) == ""


def test_dicom_series_is_laid_out_too(tmp_path):
    write_series(tmp_path / "series", scan_array(), spacing_mm=(3.0, 2.0, 1.0))
    scan, array, _ = lay_out_and_read(tmp_path / "series", tmp_path)
    assert (scan.shape, scan.spacing_mm) == ((2, 3, 4), (3.0, 2.0, 1.0))
    np.testing.assert_array_equal(array, scan_array())


def test_odd_name_of_a_scan_is_in_no_folders_name(tmp_path):
    source = write_labels(tmp_path / "a.mha", scan_array())
    scan, _, _ = lay_out_and_read(source, tmp_path, name="5:30 $a$")
    assert ":" not in str(scan.folder)


def test_what_is_no_scan_is_named(tmp_path):
    (tmp_path / "broken.nii.gz").write_text("no image")
    with pytest.raises(InputError, match=r"broken\.nii\.gz"):
        lay_out("broken", tmp_path / "broken.nii.gz", None, tmp_path / "scratch")


def test_label_maps_are_found_by_the_names_of_their_scans(tmp_path):
    for name in ("b.nii.gz", "a_0000.MHA", ".c.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    assert find_truths(tmp_path) == {
        "a": tmp_path / "a_0000.MHA",
        "b": tmp_path / "b.nii.gz",
    }
    (tmp_path / "b.mha").touch()
    with pytest.raises(UsageError, match="both of the scan b"):
        find_truths(tmp_path)
    with pytest.raises(UsageError, match="--references .*no such folder"):
        find_truths(tmp_path / "none")
