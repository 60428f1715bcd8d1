import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.data.held_out import FieldOfView, scan_patient, write_held_out
from app.errors import UsageError
from app.imaging.io import read_scan
from app.synthesis.bank import read_body
from app.synthesis.tissues import Tissue

ROOT = Path(__file__).resolve().parents[2]
NATIVE_MM = (5.0, 2.0, 1.5)


@pytest.fixture
def manifest(tmp_path):
    """Give a manifest of twelve patients, of whom 00 and 09 are held out."""
    entries = [
        {
            "file": f"patient_{index:02}.nii",
            "organ_ml": [100 * 1.5**index] * 13,
            "scan_shape_xyz": [100, 90, 30],
            "scan_spacing_mm_xyz": [4.0, 4.0, 8.0],
            "crop_start_xyz": [20, 20, 5],
            "crop_stop_xyz": [70, 60, 28],
        }
        for index in range(12)
    ]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(entries))
    return path


def test_a_scan_shows_what_the_patients_own_scan_showed(body_file):
    body = read_body(body_file)
    view = FieldOfView(NATIVE_MM, before_mm=(12.0, 8.0, 20.0), after_mm=(30.0, 4.0, 10.0))

    hu, labels = scan_patient(body, view, np.random.default_rng(0))

    covered = (np.array(body.organ_box.stop) - body.organ_box.start) * body.spacing_mm
    extent = covered + view.before_mm + view.after_mm
    assert hu.shape == labels.shape
    np.testing.assert_allclose(np.multiply(hu.shape, NATIVE_MM), extent, atol=8.0)
    assert hu.dtype == np.int16
    assert hu.min() >= -1024
    assert {int(Tissue.LIVER), int(Tissue.AORTA)} <= set(np.unique(labels))


def test_beyond_the_body_there_is_air_beside_it_but_nothing_above(body_file):
    body = read_body(body_file)
    far = FieldOfView(NATIVE_MM, before_mm=(900.0, 900.0, 0.0), after_mm=(900.0, 0.0, 0.0))

    hu, _ = scan_patient(body, far, np.random.default_rng(1))

    assert hu.shape[0] * NATIVE_MM[0] == pytest.approx(70 * 6.0, abs=6.0)
    assert hu[:, :200].mean() < -900


def test_only_held_out_patients_are_written(body_file, manifest, tmp_path):
    bank = tmp_path / "bank"
    bank.mkdir()
    with pytest.raises(UsageError, match="held-out"):
        next(write_held_out(bank, manifest, tmp_path / "scans"))
    for index in (0, 1, 9):
        (bank / f"patient_{index:02}_0.npz").write_bytes(body_file.read_bytes())

    written = list(write_held_out(bank, manifest, tmp_path / "scans"))

    assert [path.name for path in written] == [
        "patient_00_0000.nii.gz",
        "patient_09_0000.nii.gz",
    ]
    scan, _ = read_scan(written[0])
    labels, _ = read_scan(tmp_path / "scans" / "labels" / "patient_00.nii.gz")
    assert scan.geometry == labels.geometry
    assert scan.geometry.spacing_mm == pytest.approx((8.0, 4.0, 4.0))


def test_the_same_seed_gives_the_same_files_in_another_process(body_file, manifest, tmp_path):
    def written(folder):
        return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.nii.gz"))}

    bank, here, there, other = (tmp_path / name for name in ("bank", "here", "there", "other"))
    bank.mkdir()
    (bank / "patient_09_0.npz").write_bytes(body_file.read_bytes())
    np.random.seed(7)  # noqa: NPY002  what state the process is in must not matter
    list(write_held_out(bank, manifest, here, seed=3))
    list(write_held_out(bank, manifest, other, seed=4))
    words = ["synthesize", "--bank", bank, "--manifest", manifest, "--output", there, "--seed", 3]
    subprocess.run(
        [sys.executable, "-m", "app", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "1"},
        check=True,
    )

    assert sorted(written(here)) == ["patient_09.nii.gz", "patient_09_0000.nii.gz"]
    assert written(there) == written(here)
    assert written(other)["patient_09_0000.nii.gz"] != written(here)["patient_09_0000.nii.gz"]


def test_held_out_bones_have_the_density_of_an_age(body_file, dark_look, monkeypatch):
    """Also where the look of the scan had them as dark as air."""
    monkeypatch.setattr("app.synthesis.spine.draw_appearance", dark_look)
    body = read_body(body_file)
    view = FieldOfView(NATIVE_MM, before_mm=(0.0, 0.0, 0.0), after_mm=(0.0, 60.0, 0.0))

    hu, _ = scan_patient(body, view, np.random.default_rng(0))

    assert 0.001 < np.mean(hu > -300) < 0.2
