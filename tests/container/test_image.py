"""The image as its users meet it. Every test here starts a container."""

import json
import os
import subprocess

import pytest
import SimpleITK as sitk

from app import __version__

pytestmark = pytest.mark.container

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")


def mounts(inputs, outputs):
    return ("-v", f"{inputs}:/inputs:ro", "-v", f"{outputs}:/outputs")


def owners(folder):
    return {(entry.stat().st_uid, entry.stat().st_gid) for entry in folder.iterdir()}


def give(folder, owner):
    os.chown(folder, *owner)


def assert_segmented(finished, inputs, outputs):
    assert finished.returncode == 0, finished.stdout + finished.stderr
    scan = sitk.ReadImage(str(inputs / "body_0000.nii.gz"))
    label_map = sitk.ReadImage(str(outputs / "body.nii.gz"))
    assert label_map.GetSize() == scan.GetSize()
    assert label_map.GetSpacing() == pytest.approx(scan.GetSpacing())
    assert label_map.GetPixelID() == sitk.sitkUInt8
    statistics = sitk.StatisticsImageFilter()
    statistics.Execute(label_map)
    assert 1 <= statistics.GetMaximum() <= 13


def test_scans_in_inputs_become_label_maps_in_outputs(run_container, folders):
    inputs, outputs = folders
    finished = run_container(*mounts(inputs, outputs))
    assert_segmented(finished, inputs, outputs)
    names = {path.name for path in outputs.iterdir()}
    assert names == {"body.nii.gz", "run.json", "labels.json", "labels.ctbl"}


@pytest.mark.parametrize("owner", [None, pytest.param((1234, 2345), marks=needs_root)])
def test_the_challenge_calls_it_its_own_way(docker, image, folders, owner):
    inputs, outputs = folders
    if owner is not None:
        give(outputs, owner)
    finished = subprocess.run(
        [docker, "container", "run", "-m", "8G", "--rm"]
        + ["-v", f"{inputs}/:/workspace/inputs/", "-v", f"{outputs}/:/workspace/outputs/"]
        + [image, "/bin/bash", "-c", "sh predict.sh"],
        capture_output=True,
        text=True,
    )
    assert_segmented(finished, inputs, outputs)
    assert owner is None or owners(outputs) == {owner}


def test_pictures_and_page_are_made_in_the_container(run_container, folders):
    inputs, outputs = folders
    finished = run_container(*mounts(inputs, outputs), command=("--preview",))
    assert_segmented(finished, inputs, outputs)
    expected = {
        "body.nii.gz", "body.png", "labels.ctbl", "labels.json", "report.html", "run.json"
    }  # fmt: skip
    assert {path.name for path in outputs.iterdir()} == expected


@needs_root
def test_any_user_may_run_it(run_container, folders):
    inputs, outputs = folders
    give(outputs, (12345, 23456))
    finished = run_container("--user", "12345:23456", *mounts(inputs, outputs))
    assert_segmented(finished, inputs, outputs)
    assert owners(outputs) == {(12345, 23456)}


@needs_root
def test_it_needs_no_privilege_at_all(run_container, folders):
    inputs, outputs = folders
    give(outputs, (12345, 23456))
    # No network and a read-only root file system come with run_container.
    nothing = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")
    finished = run_container(*nothing, "--user", "12345:23456", *mounts(inputs, outputs))
    assert_segmented(finished, inputs, outputs)
    assert owners(outputs) == {(12345, 23456)}


def test_it_has_none_of_what_was_taken_from_it(run_container):
    status = "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; touch /left 2>&1; ls /sys/class/net"
    nothing = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "12345:23456")
    told = run_container(*nothing, command=("sh", "-c", status)).stdout
    assert told.split()[:4] == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
    assert "Read-only file system" in told
    assert told.split()[-1] == "lo"


@pytest.mark.parametrize(("memory", "is_done"), [("1g", True), ("512m", False)])
def test_no_limit_of_the_container_is_exceeded(run_container, folders, memory, is_done):
    inputs, outputs = folders
    # The last -m counts. A limit asked for beyond the container's own is not believed.
    options = ("-m", memory, *mounts(inputs, outputs))
    finished = run_container(*options, command=("--memory-limit", "8GiB"))
    if is_done:
        assert_segmented(finished, inputs, outputs)
    else:
        assert finished.returncode == 2
        assert "memory limit of 512 MiB: the program alone needs" in finished.stderr


@needs_root
def test_results_belong_to_the_owner_of_the_output_folder(run_container, folders):
    inputs, outputs = folders
    give(outputs, (1234, 2345))
    finished = run_container(*mounts(inputs, outputs))
    assert_segmented(finished, inputs, outputs)
    assert owners(outputs) == {(1234, 2345)}


@needs_root
def test_results_are_handed_over_where_only_root_may_read_the_scans(run_container, folders):
    inputs, outputs = folders
    inputs.chmod(0o700)
    give(outputs, (1234, 2345))
    finished = run_container(*mounts(inputs, outputs))
    assert_segmented(finished, inputs, outputs)
    assert owners(outputs) == {(1234, 2345)}


def test_options_go_to_predict_and_a_damaged_scan_does_not_stop_the_others(run_container, folders):
    inputs, outputs = folders
    (inputs / "damaged_0000.nii.gz").write_bytes(b"no scan")
    finished = run_container(*mounts(inputs, outputs), command=("--threads", "1"))
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert (outputs / "body.nii.gz").exists()
    assert not (outputs / "damaged.nii.gz").exists()


def test_without_folders_it_says_what_to_mount(run_container):
    finished = run_container()
    assert finished.returncode == 2
    assert "/outputs" in finished.stderr


def test_info_knows_both_networks(run_container):
    finished = run_container(command=("info", "--json"))
    assert finished.returncode == 0, finished.stderr
    phases = json.loads(finished.stdout)["phases"]
    assert phases["locate"]["parameters"] == 1_367_618
    assert phases["segment"]["parameters"] == 9_373_994


def test_neither_torch_nor_compiler_nor_cache_ships(run_container):
    find = (
        "import importlib.util as util, shutil; from pathlib import Path;"
        "left = (Path('~root/.cache').expanduser(), Path('/wheels'), Path('/opt/venv'));"
        "print([name for name in ('torch', 'monai', 'pygments') if util.find_spec(name)],"
        "[name for name in ('gcc', 'cc', 'g++', 'make') if shutil.which(name)],"
        "[str(path) for path in left if path.exists()])"
    )
    assert run_container(command=("python3", "-c", find)).stdout.split() == ["[]", "[]", "[]"]


def test_nothing_that_a_prediction_imports_is_compiled_at_its_start(run_container):
    program = (
        "import sys; from pathlib import Path; import app.api, app.cli.main, app.cli.batch; "
        "told = {name: getattr(one, '__cached__', None) for name, one in sys.modules.items()}; "
        "print(len(told), *[name for name, at in told.items() if at and not Path(at).exists()])"
    )
    num_modules, *compiled_anew = run_container(command=("python3", "-c", program)).stdout.split()
    assert int(num_modules) > 300
    assert compiled_anew == []


def test_only_the_rooms_that_ship_are_there(run_container):
    listed = run_container(command=("sh", "-c", "ls /workspace /workspace/app /workspace/app/cli"))
    names = set(listed.stdout.split()) - {"__pycache__"}
    rooms = {"cascade", "cli", "imaging", "outputs", "report"}
    base = ("api", "errors", "labels", "config", "control_groups", "manifest", "terminology")
    files = {f"{name}.py" for name in base}
    names_of_commands = ("main", "predict", "extras", "preview", "progress", "batch", "cases")
    commands = {
        f"{name}.py"
        for name in (*names_of_commands, "console", "record", "info", "folders", "numbers")
    }
    headings = {"/workspace:", "/workspace/app:", "/workspace/app/cli:"}
    top = {"app", "weights", "predict.sh", "LICENSE"}
    assert names == headings | top | rooms | files | commands | {"__init__.py", "__main__.py"}


def test_networks_ship_converted_and_without_their_checkpoints(run_container):
    listed = run_container(command=("sh", "-c", "ls /workspace/weights/*/"))
    assert listed.stdout.count("model.xml") == listed.stdout.count("model.bin") == 2
    assert "safetensors" not in listed.stdout


def test_image_is_small_and_says_what_it_is(docker, image):
    inspected = subprocess.run(
        [docker, "image", "inspect", image], capture_output=True, text=True, check=True
    )
    (about,) = json.loads(inspected.stdout)
    assert about["Size"] < 800e6
    labels = about["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0 AND CC-BY-NC-4.0"
