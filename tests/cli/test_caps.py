"""A limit from outside is kept: small scans are done, too large ones refused unread.

tests/trials/caps.py tries more limits, control groups and sizes, with the shipped networks.
"""

import json
import resource
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from stand_ins import BRIGHT_HU, TISSUE_HU

from app.cascade.memory import GIB, MIB


@pytest.fixture
def small_and_large(tmp_path):
    """Give a folder with a small scan, and with one of 2.1 GiB that takes no room on the disk."""
    scans = tmp_path / "scans"
    scans.mkdir()
    hu = np.full((36, 50, 40), TISSUE_HU, np.int16)
    hu[:2] = -1000
    hu[8:28, 10:40, 10:30] = BRIGHT_HU
    affine = np.diag([-3.0, -3.0, 4.0, 1.0])
    nib.save(nib.Nifti1Image(hu, affine), scans / "small.nii")
    sizes = (900, 800, 1600)
    large = nib.Nifti1Header()
    large.set_data_dtype(np.int16)
    large.set_data_shape(sizes)
    large.set_sform(np.diag([-0.5, -0.4, 0.6, 1.0]), code=1)
    large["vox_offset"], large["magic"] = 352, b"n+1"
    with (scans / "large.nii").open("wb") as file:
        file.write(large.binaryblock)
        file.truncate(352 + 2 * int(np.prod(sizes)))
    return scans


def predict(scans, output, weights, *options, addresses=None):
    def limit():
        if addresses is not None:
            resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))

    command = [sys.executable, "-m", "app", "predict", "--input", scans, "--output", output]
    command += ["--weights", weights, "--threads", "1", "--precision", "f32", *options]
    return subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("addresses", "options"),
    [(3 * GIB, ()), (3 * GIB, ("--memory-limit", "8GiB")), (None, ("--memory-limit", "2GiB"))],
)
def test_small_scan_is_done_and_large_one_refused(
    small_and_large, tmp_path, stand_in_weights, addresses, options
):
    output = tmp_path / "labels"
    finished = predict(small_and_large, output, stand_in_weights, *options, addresses=addresses)
    assert finished.returncode == 1, finished.stderr
    large, small = json.loads((output / "run.json").read_text())["cases"]
    assert (small["name"], small["status"]) == ("small", "ok")
    assert small["peak_mib"] < small["planned_mib"]
    assert "large.nii: needs about 3." in large["error"]
    assert large["peak_mib"] == 0  # it was not read


def test_limit_that_the_program_alone_exceeds_is_refused_at_once(
    small_and_large, tmp_path, stand_in_weights
):
    output = tmp_path / "labels"
    finished = predict(small_and_large, output, stand_in_weights, addresses=1500 * MIB)
    assert finished.returncode == 2
    assert "the program alone needs" in finished.stderr
    assert not (output / "run.json").exists()
