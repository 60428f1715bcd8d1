"""What a prediction must never do, watched by Python's own audit events in a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"

WATCHED = """
import json, sys
told = []
def watch(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "pickle.", "subprocess.", "os.system",
                         "os.exec", "os.posix_spawn", "os.fork", "marshal.loads")):
        told.append(event)
sys.addaudithook(watch)
from app.cli.main import main
code = main({arguments!r})
if {provoke!r}:
    import pickle, socket
    pickle.loads(pickle.dumps(print))
    socket.socket().close()
print(json.dumps(sorted(set(told))))
sys.exit(code)
"""


def watched(arguments, provoke=False):
    program = WATCHED.format(arguments=[str(part) for part in arguments], provoke=provoke)
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    # Compiled modules are marshaled code of the installation, not of any input.
    return set(json.loads(finished.stdout.splitlines()[-1])) - {"marshal.loads"}


@pytest.fixture
def scan(tmp_path, body):
    hu, _, spacing_mm = body
    # A name that a shell would run, if one ever saw it.
    path = tmp_path / "$(touch hacked); `touch hacked` & x_0000.nii.gz"
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    sitk.WriteImage(image, path)
    return path


def predict(scan, output, weights=WEIGHTS):
    fixed = ["predict", "--input", scan, "--output", output, "--weights", weights]
    return [*fixed, "--threads", "1"]


def test_predicting_opens_no_socket_starts_no_program_and_unpickles_nothing(scan, tmp_path):
    assert watched(predict(scan, tmp_path / "labels")) == set()
    assert not list(ROOT.glob("hacked")) + list(tmp_path.rglob("hacked"))
    assert (tmp_path / "labels" / "$(touch hacked); `touch hacked` & x.nii.gz").exists()


def test_the_watch_would_notice(scan, tmp_path):
    seen = watched(predict(scan, tmp_path / "labels"), provoke=True)
    assert {"pickle.find_class", "socket.__new__"} <= seen


def test_telemetry_is_not_loaded():
    program = (
        "import sys, app.cascade.engine\n"
        "sys.exit(sys.modules.get('openvino_telemetry') is not None)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
