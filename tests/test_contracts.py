"""Contracts that only a fresh interpreter can check; the static ones are in pyproject.toml."""

import json
import pkgutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAYS_HOME = {"torch", "monai", "numba", "safetensors", "PIL", "highdicom"}


def modules_loaded_by(*names, whole=False):
    """Import modules in a new interpreter and give the top-level names that came with them.

    Their whole names, if asked for.
    """
    program = (
        "import importlib, json\n"
        "before = set(sys.modules)\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "new = set(sys.modules) - before\n"
        "print(json.dumps(sorted(new)))"
    )
    finished = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(finished.stdout)
    return set(loaded) if whole else {name.partition(".")[0] for name in loaded}


def modules_in(room):
    folder = resources.files(room)
    return [f"{room}.{found.name}" for found in pkgutil.iter_modules([str(folder)])]


def test_what_ships_loads_neither_torch_nor_monai():
    shipped = [
        "app.cli.main",
        "app.cli.predict",
        "app.cli.info",
        "app.cli.batch",
        "app.cli.cases",
        "app.cli.extras",
        "app.cli.preview",
        "app.cli.progress",
        "app.api",
        "app.cli.record",
        *modules_in("app.cascade"),
    ]
    # They draw with Pillow, write with highdicom or read with pydicom, and only when asked to.
    apart = {"app.imaging.picture", "app.outputs.dicom_seg"}
    apart |= {f"app.imaging.dicom{part}" for part in ("", "_series", "_frames", "_pixels")}
    shipped += [
        name
        for room in ("app.imaging", "app.outputs")
        for name in modules_in(room)
        if name not in apart
    ]
    loaded = modules_loaded_by(*shipped)
    assert not loaded & STAYS_HOME
    assert "pydicom" not in loaded  # nobody pays for DICOM who reads none
    # pydicom takes Pillow where it is installed.
    assert not modules_loaded_by("app.imaging.dicom") & (STAYS_HOME - {"PIL"})


@pytest.mark.parametrize(
    "name",
    [
        "app",
        "app.errors",
        "app.labels",
        "app.config",
        "app.manifest",
        "app.terminology",
        "app.control_groups",
    ],
)
def test_base_needs_the_standard_library_only(name):
    assert modules_loaded_by(name) <= {*sys.stdlib_module_names, "app"}


def test_predict_does_not_wait_for_what_it_does_not_use():
    loaded = modules_loaded_by("app.cli.main", "app.cli.batch", whole=True)
    assert "openvino" in loaded
    unused = {"openvino.tools.ovc", "scipy.stats", "scipy.spatial", "scipy.optimize"}
    # One writes other formats than NIfTI, one reads DICOM, one draws pages, one measures.
    unused |= {"SimpleITK", "pydicom", "matplotlib", "psutil"}
    assert not loaded & unused
    # Imported while the networks compile.
    assert not {name for name in loaded if name.partition(".")[0] == "scipy"}


def test_command_line_loads_no_room_before_a_command_is_chosen():
    heavy = {"numpy", "scipy", "SimpleITK", "openvino"} | STAYS_HOME
    assert not modules_loaded_by("app.cli.main") & heavy
