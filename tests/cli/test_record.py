"""Nothing finished is lost, whatever ends the batch."""

import csv
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import write_series

from app.cli import batch
from app.cli.main import main
from app.cli.record import state_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scans(tmp_path, body):
    """Give an input folder with three scans."""
    hu, _, spacing_mm = body
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "abc":
        image = sitk.GetImageFromArray(hu)
        image.SetSpacing(spacing_mm[::-1])
        sitk.WriteImage(image, folder / f"{name}_0000.nii.gz")
    return folder


def arguments(scans, output, weights, *more):
    fixed = ["predict", "--input", str(scans), "--output", str(output)]
    return [*fixed, "--weights", str(weights), "--threads", "1", "--precision", "f32", *more]


def record_of(output):
    return json.loads((output / "run.json").read_text())


def untouched(path):
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_ino, path.read_bytes()


def start(scans, output, weights, *more):
    """Start a batch whose second case stops in the middle of a call that Python cannot leave."""
    program = (
        "import ctypes, sys\n"
        "from pathlib import Path\n"
        "import app.cascade.pipeline as pipeline\n"
        "from app.cli.main import main\n"
        "from app.imaging.io import atomic_path\n"
        "segment = pipeline.segment_scan\n"
        "def stuck(scan_path, label_path, cascade, **options):\n"
        "    if not scan_path.name.startswith('b'):\n"
        "        return segment(scan_path, label_path, cascade, **options)\n"
        "    with atomic_path(label_path) as partial:\n"
        "        partial.write_bytes(b'half a label map')\n"
        "        print('stuck', flush=True)\n"
        "        while True: ctypes.CDLL(None).sleep(600)\n"  # one call, as a patch is
        "pipeline.segment_scan = stuck\n"
        f"sys.exit(main({arguments(scans, output, weights, *more)!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process.stdout:
        assert any(line.startswith("stuck") for line in process.stdout)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_batch_with_its_record_written(scans, tmp_path, stand_in_weights, number):
    output = tmp_path / "labels"
    process = start(scans, output, stand_in_weights)
    process.send_signal(number)
    assert process.wait(timeout=5) == 128 + number  # the promise: within 5 s
    record = record_of(output)
    assert record["ended_by"] == number.name
    assert [case["name"] for case in record["cases"]] == ["a"]
    tables = {"labels.json", "labels.ctbl"}
    assert {path.name for path in output.iterdir()} == {"a.nii.gz", "run.json"} | tables


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_second_run_into_a_folder_is_refused_and_touches_nothing(
    scans, tmp_path, stand_in_weights, capsys, more
):
    output = tmp_path / "labels"
    process = start(scans, output, stand_in_weights)
    try:
        before = {path.name: untouched(path) for path in output.iterdir()}
        assert any(name.startswith(".partial") for name in before)
        assert main(arguments(scans, output, stand_in_weights, *more)) == 2
        told = capsys.readouterr().err
        assert f"--output {output}: another run writes to it; wait until that ends" in told
        assert {path.name: untouched(path) for path in output.iterdir()} == before
    finally:
        process.kill()
        process.wait()
    assert main(arguments(scans, output, stand_in_weights, *more)) == 0


def test_folder_that_cannot_be_locked_is_written_to(scans, tmp_path, stand_in_weights, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert main(arguments(scans, tmp_path / "labels", stand_in_weights)) == 0


def test_rows_that_another_run_wrote_while_scans_were_looked_for_stay(
    scans, tmp_path, stand_in_weights, monkeypatch
):
    output = tmp_path / "labels"
    assert main(arguments(scans / "a_0000.nii.gz", output, stand_in_weights, "--statistics")) == 0
    earlier = (output / "organs.csv").read_text()
    (output / "organs.csv").unlink()
    find_cases = batch.find_cases

    def find_slowly(*given):
        (output / "organs.csv").write_text(earlier)
        return find_cases(*given)

    monkeypatch.setattr(batch, "find_cases", find_slowly)
    assert main(arguments(scans / "b_0000.nii.gz", output, stand_in_weights, "--statistics")) == 0
    with (output / "organs.csv").open(newline="") as file:
        assert {row["case"] for row in csv.DictReader(file)} == {"a", "b"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_resume_finishes_what_was_ended_and_touches_nothing_finished(
    scans, tmp_path, stand_in_weights, number, capsys
):
    output = tmp_path / "labels"
    process = start(scans, output, stand_in_weights)
    process.send_signal(number)
    process.wait(timeout=60)
    before = untouched(output / "a.nii.gz")
    assert main(arguments(scans, output, stand_in_weights, "--resume")) == 0
    assert untouched(output / "a.nii.gz") == before
    record = record_of(output)
    assert "ended_by" not in record
    assert [(case["name"], case["status"]) for case in record["cases"]] == [
        ("a", "ok"),
        ("b", "ok"),
        ("c", "ok"),
    ]
    assert (output / "b.nii.gz").read_bytes() == (output / "a.nii.gz").read_bytes()
    assert "1 of them finished before" in capsys.readouterr().out


@pytest.fixture
def finished(scans, tmp_path, stand_in_weights):
    output = tmp_path / "labels"
    assert main(arguments(scans, output, stand_in_weights)) == 0
    return output


def test_resume_does_again_what_is_damaged_missing_or_new(scans, finished, stand_in_weights):
    kept = untouched(finished / "c.nii.gz")
    content = (finished / "a.nii.gz").read_bytes()
    (finished / "a.nii.gz").write_bytes(content[:-1])
    scan = sitk.ReadImage(scans / "b_0000.nii.gz")
    sitk.WriteImage(scan * 0 + 50, scans / "b_0000.nii.gz")  # plain tissue: no organs now
    assert main(arguments(scans, finished, stand_in_weights, "--resume")) == 0
    assert (finished / "a.nii.gz").read_bytes() == content
    assert not sitk.GetArrayFromImage(sitk.ReadImage(finished / "b.nii.gz")).any()
    assert untouched(finished / "c.nii.gz") == kept


def test_without_resume_everything_is_done_again(scans, finished, stand_in_weights):
    before = untouched(finished / "a.nii.gz")
    assert main(arguments(scans, finished, stand_in_weights)) == 0
    after = untouched(finished / "a.nii.gz")
    assert after[2] == before[2]
    assert after[:2] != before[:2]


def test_record_that_cannot_be_read_is_wrong_use(scans, finished, stand_in_weights, capsys):
    (finished / "run.json").write_text("{")
    assert main(arguments(scans, finished, stand_in_weights, "--resume")) == 2
    assert "without --resume" in capsys.readouterr().err


def later(path):
    """Write a file anew: the same bytes, at another time."""
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))


def test_state_of_a_scan_follows_the_file_of_its_voxels(tmp_path):
    path = tmp_path / "scan.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), path)
    before = state_of(path)
    later(tmp_path / "scan.raw")
    assert state_of(path) != before


def test_state_of_a_series_follows_all_its_files_and_no_other(tmp_path):
    hu = np.zeros((4, 16, 17), np.int16)
    for series in (1, 2):
        folder = tmp_path / f"written{series}"
        write_series(folder, hu, (3.0, 2.0, 1.5), series=series)
        for path in folder.iterdir():
            (tmp_path / "both").mkdir(exist_ok=True)
            shutil.copy2(path, tmp_path / "both" / f"{series}_{path.name}")
    first, *_, last = sorted((tmp_path / "both").glob("1_*"))
    before = state_of(first)
    assert before["files"] == 4
    later(next((tmp_path / "both").glob("2_*")))
    assert state_of(first) == before
    later(last)
    assert state_of(first) != before
    last.unlink()
    assert state_of(first)["files"] == 3


def test_output_folder_that_vanishes_fails_the_cases_and_nothing_else(
    scans, tmp_path, stand_in_weights, monkeypatch, capsys
):
    from app.cascade import pipeline

    segment_scan = pipeline.segment_scan

    def removing(scan_path, label_path, cascade, **options):
        if scan_path.name.startswith("b"):
            shutil.rmtree(label_path.parent)
        return segment_scan(scan_path, label_path, cascade, **options)

    monkeypatch.setattr(pipeline, "segment_scan", removing)
    output = tmp_path / "labels"
    assert main(arguments(scans, output, stand_in_weights)) == 1
    assert not output.exists()
    assert "run.json: cannot be written" in capsys.readouterr().err


def test_full_disk_leaves_no_half_label_map(scans, tmp_path, stand_in_weights):
    # A limit on the size of files is met by the same error path as a full disk.
    output = tmp_path / "labels"
    program = (
        "import resource, signal, sys\n"
        "from app.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
        f"sys.exit(main({arguments(scans, output, stand_in_weights)!r}))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 1, finished.stderr
    assert list(output.iterdir()) == []
    assert "cannot be written" in finished.stdout


def fill(path):
    """Write until the file system has no room left."""
    with path.open("wb", buffering=0) as stream, suppress(OSError):
        while stream.write(b"x" * 4096):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_full_file_system_keeps_what_was_finished(scans, tmp_path, stand_in_weights):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        assert main(arguments(scans / "a_0000.nii.gz", disk, stand_in_weights)) == 0
        before = untouched(disk / "a.nii.gz")
        fill(disk / "filler")
        assert main(arguments(scans, disk, stand_in_weights, "--resume")) == 1
        assert untouched(disk / "a.nii.gz") == before
        assert not [path for path in disk.iterdir() if path.name.startswith(".partial")]
        # The record could not be written either: that of the first run still stands.
        assert [case["name"] for case in record_of(disk)["cases"]] == ["a"]
        (disk / "filler").unlink()
        assert main(arguments(scans, disk, stand_in_weights, "--resume")) == 0
        assert untouched(disk / "a.nii.gz") == before
        assert len(record_of(disk)["cases"]) == 3
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_kills_at_any_moment_leave_whole_files_or_none(scans, tmp_path, stand_in_weights):
    """Kill a batch again and again, each time a little later, until one run gets through."""
    output = tmp_path / "labels"
    expected = tmp_path / "expected"
    assert main(arguments(scans, expected, stand_in_weights)) == 0
    command = [sys.executable, "-m", "app", *arguments(scans, output, stand_in_weights, "--resume")]
    process, patience_s = None, 0.5
    while process is None or process.returncode != 0:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            patience_s *= 1.6
        for path in output.glob("*.nii.gz") if output.exists() else []:
            assert path.read_bytes() == (expected / path.name).read_bytes()
        if (output / "run.json").exists():
            record_of(output)
    assert {case["status"] for case in record_of(output)["cases"]} == {"ok"}
    assert {path.name for path in output.iterdir()} == {path.name for path in expected.iterdir()}


@pytest.mark.parametrize("changed", ["version", "precision", "manifests"])
def test_resume_does_again_what_other_weights_or_another_program_made(
    scans, finished, stand_in_weights, changed
):
    before = untouched(finished / "a.nii.gz")
    record = record_of(finished)
    record[changed] = {"locate": "0", "segment": "0"} if changed == "manifests" else "another"
    (finished / "run.json").write_text(json.dumps(record))
    assert main(arguments(scans, finished, stand_in_weights, "--resume")) == 0
    assert untouched(finished / "a.nii.gz")[:2] != before[:2]


def test_resume_with_other_weights_does_all_again(scans, finished, stand_in_weights, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(stand_in_weights, other)
    manifest = json.loads((other / "locate" / "manifest.json").read_text())
    (other / "locate" / "manifest.json").write_text(json.dumps(manifest | {"parameters": 4}))
    before = untouched(finished / "a.nii.gz")
    assert main(arguments(scans, finished, other, "--resume")) == 0
    assert untouched(finished / "a.nii.gz")[:2] != before[:2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_leaves_the_page_of_what_was_finished(scans, tmp_path, stand_in_weights, number):
    output = tmp_path / "labels"
    process = start(scans, output, stand_in_weights, "--preview")
    process.send_signal(number)
    assert process.wait(timeout=5) == 128 + number
    page = (output / "report.html").read_text()
    assert page.count('id="scan-') == 1
    assert page.rstrip().endswith("</html>")
    assert (output / "a.png").exists()
    assert not list(output.glob(".partial*"))
