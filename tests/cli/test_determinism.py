"""The same scan gives the same bytes, with the networks that ship."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from dicom_series import write_series

from app.cli.main import main
from app.synthesis.phantom import make_phantom

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"
SPACING_MM = (6.0, 4.5, 5.0)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Give two small phantoms, each under two names, so that order can matter."""
    folder = tmp_path_factory.mktemp("scans")
    for seed, names in ((1, "ad"), (2, "bc")):
        hu, _ = make_phantom(shape=(40, 64, 76), spacing_mm=SPACING_MM, seed=seed)
        image = sitk.GetImageFromArray(hu)
        image.SetSpacing(SPACING_MM[::-1])
        for name in names:
            sitk.WriteImage(image, folder / f"{name}_0000.nii.gz")
    return folder


def label_maps(source, output, precision, threads):
    arguments = ["predict", "--input", str(source), "--output", str(output)]
    arguments += ["--weights", str(WEIGHTS), "--precision", precision, "--threads", str(threads)]
    assert main(arguments) == 0
    return {path.name[0]: path.read_bytes() for path in output.glob("*.nii.gz")}


@pytest.mark.parametrize("precision", ["f32", "auto"])
def test_threads_company_and_order_change_no_byte(scans, tmp_path, precision):
    together = label_maps(scans, tmp_path / "together", precision, threads=1)
    assert together["a"] == together["d"]
    assert together["b"] == together["c"]
    assert together["a"] != together["b"]
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(scans / "b_0000.nii.gz", alone / "b_0000.nii.gz")
    for threads in (2, 7):
        output = tmp_path / f"threads_{threads}"
        assert label_maps(alone, output, precision, threads)["b"] == together["b"]


def test_compressed_label_map_holds_no_time(scans, tmp_path):
    found = label_maps(scans / "a_0000.nii.gz", tmp_path / "labels", "auto", threads=1)
    assert found["a"][4:8] == b"\0\0\0\0"  # the time in a gzip header


def test_all_that_is_written_is_the_same_in_another_process(tmp_path, body, stand_in_weights):
    hu, _, spacing_mm = body
    write_series(tmp_path / "scans" / "x", hu, spacing_mm=spacing_mm)
    outputs = [tmp_path / "one", tmp_path / "other"]
    for output, seed in zip(outputs, ("1", "2"), strict=True):
        command = [sys.executable, "-m", "app", "predict", "--input", tmp_path / "scans"]
        command += ["--output", output, "--weights", stand_in_weights, "--threads", "1"]
        command += ["--preview", "--statistics", "--confidence", "--formats", "seg.nrrd,dicom-seg"]
        # Whatever goes by the order of a set would come out otherwise.
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed})
    told_times = {"run.json", "report.html"}
    names = {
        path.relative_to(outputs[0]).as_posix()
        for path in outputs[0].rglob("*")
        if path.is_file() and path.name not in told_times
    }
    assert names == {
        "x.nii.gz", "x.seg.nrrd", "x.seg.dcm", "x.png", "organs.csv", "labels.json",
        "labels.ctbl", "confidence/x.nii.gz",
    }  # fmt: skip
    assert not [
        name for name in names if len({(output / name).read_bytes() for output in outputs}) != 1
    ]
