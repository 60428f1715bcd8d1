"""What a prediction must never do, watched in every process that it starts.

Python's own audit events tell what Python code does. What native libraries do by themselves
they do not tell; so the system is asked to kill whatever process opens a socket.
"""

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import write_series
from pydicom.uid import RLELossless

from app.imaging.dicom_pixels import DECODER

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"

# Python runs a module of this name when it starts, the decoder of compressed slices too.
WATCH = """
import ctypes, json, platform, sys

# pydicom imports it where it is, to fetch examples when asked to; it tries out a socket at once.
# Tools for developers bring it, requirements/run.txt does not.
sys.modules["requests"] = None

def watch(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "pickle.",
                         "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork",
                         "os.spawn", "pty.spawn", "webbrowser.")):
        started = [str(part) for part in arguments[1]] if event == "subprocess.Popen" else []
        with open(TOLD, "a") as told:
            told.write(json.dumps([event, *started]) + "\\n")

class Step(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("if_so", ctypes.c_uint8), ("if_not", ctypes.c_uint8),
                ("value", ctypes.c_uint32)]

class Steps(ctypes.Structure):
    _fields_ = [("count", ctypes.c_uint16), ("first", ctypes.POINTER(Step))]

SOCKET = {"x86_64": 41, "aarch64": 198}.get(platform.machine())
if sys.platform == "linux" and SOCKET:
    steps = (Step * 4)(
        Step(0x20, 0, 0, 0),  # take the number of the system call
        Step(0x15, 0, 1, SOCKET),  # go on if it is this one, pass over one step if not
        Step(0x06, 0, 0, 0x80000000),  # kill the process
        Step(0x06, 0, 0, 0x7FFF0000),  # allow it
    )
    system = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, filter_calls, by_steps = 38, 22, 2
    assert system.prctl(no_new_privileges, 1, 0, 0, 0) == 0
    program = Steps(len(steps), steps)
    assert system.prctl(filter_calls, by_steps, ctypes.byref(program), 0, 0) == 0
sys.addaudithook(watch)
"""


@pytest.fixture
def watched(tmp_path):
    """Run Python under the watch; give what it returned and the events, each with its arguments."""
    folder = tmp_path / "watch"
    folder.mkdir()
    told = folder / "told"
    told.touch()
    (folder / "sitecustomize.py").write_text(f"TOLD = {str(told)!r}\n{WATCH}")

    def run(*arguments):
        finished = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
        )
        return finished, [json.loads(line) for line in told.read_text().splitlines()]

    return run


def predict(scans, output, weights=WEIGHTS, *more):
    fixed = ["-m", "app", "predict", "--input", scans, "--output", output, "--weights", weights]
    return [*fixed, "--threads", "1", *more]


def test_predicting_opens_no_socket_starts_no_program_and_unpickles_nothing(
    tmp_path, body, watched
):
    hu, _, spacing_mm = body
    # A name that a shell would run, if one ever saw it.
    path = tmp_path / "$(touch hacked); `touch hacked` & x_0000.nii.gz"
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    sitk.WriteImage(image, path)
    finished, events = watched(*predict(path, tmp_path / "labels"))
    assert (finished.returncode, events) == (0, []), finished.stderr
    assert not list(ROOT.glob("hacked")) + list(tmp_path.rglob("hacked"))
    assert (tmp_path / "labels" / "$(touch hacked); `touch hacked` & x.nii.gz").exists()


def test_nothing_else_that_is_read_or_written_does_either(
    tmp_path, body, stand_in_weights, watched
):
    hu, _, spacing_mm = body
    scans, output = tmp_path / "scans", tmp_path / "labels"
    write_series(scans / "plain", hu, spacing_mm=spacing_mm)
    for path in write_series(scans / "packed", hu, spacing_mm=spacing_mm):
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    everything = ["--preview", "--statistics", "--confidence", "--formats", "seg.nrrd,dicom-seg"]
    finished, events = watched(*predict(scans, output, stand_in_weights, *everything))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    # One process decodes all slices of the series; started again for its picture.
    started = {tuple(event[:4]) for event in events}
    assert started == {("subprocess.Popen", sys.executable, "-P", str(DECODER))}
    for end in (".nii.gz", ".seg.nrrd", ".seg.dcm", ".png"):
        assert {path.name for path in output.glob(f"*{end}")} == {f"plain{end}", f"packed{end}"}
    assert np.array_equal(
        *(sitk.GetArrayFromImage(sitk.ReadImage(output / f"{name}.nii.gz"))
          for name in ("plain", "packed"))
    )  # fmt: skip


def test_what_opens_sockets_by_being_imported_is_not_installed_with_the_program():
    pins = (ROOT / "requirements" / "run.txt").read_text().splitlines()
    names = {pin.partition("==")[0] for pin in pins}
    assert "pydicom" in names
    assert not {"requests", "urllib3"} & names


def test_the_watch_would_notice(watched):
    program = "import pickle, subprocess, sys; pickle.loads(pickle.dumps(print))"
    finished, events = watched("-c", f"{program}; subprocess.run([sys.executable, '--version'])")
    assert finished.returncode == 0
    assert {event[0] for event in events} == {"pickle.find_class", "subprocess.Popen"}


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the number of the system call is known for these machines only",
)
def test_a_socket_that_python_does_not_tell_of_ends_the_process(watched):
    # As a native library would open one.
    program = "import ctypes; ctypes.CDLL(None).socket(2, 1, 0)"
    finished, events = watched("-c", program)
    assert (finished.returncode, events) == (-signal.SIGSYS, [])


def test_telemetry_is_not_loaded():
    program = (
        "import sys, app.cascade.engine\n"
        "sys.exit(sys.modules.get('openvino_telemetry') is not None)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
