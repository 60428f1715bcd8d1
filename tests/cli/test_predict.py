import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from app.cli.cases import find_cases
from app.cli.folders import hand_over
from app.cli.main import main
from app.errors import UsageError
from app.manifest import sha256_of

ROOT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")


@pytest.fixture
def scans(tmp_path, body):
    """Give an input folder with two whole scans and a damaged one between them."""
    hu, _, spacing_mm = body
    folder = tmp_path / "scans"
    folder.mkdir()
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing_mm[::-1])
    sitk.WriteImage(image, folder / "a_0000.nii.gz")
    sitk.WriteImage(image, folder / "c.mha")
    content = (folder / "a_0000.nii.gz").read_bytes()
    (folder / "b_0000.nii.gz").write_bytes(content[: len(content) // 2])
    (folder / "notes.txt").write_text("not a scan")
    (folder / "._a_0000.nii.gz").write_bytes(b"left by a file manager")
    return folder


def predict(scans, output, weights, *more):
    return main(
        ["predict", "--input", str(scans), "--output", str(output), "--weights", str(weights)]
        + ["--threads", "1", "--precision", "f32", *more]
    )


def record_of(output):
    return json.loads((output / "run.json").read_text())


def test_record_tells_how_long_the_start_took(scans, tmp_path, stand_in_weights):
    (scans / "b_0000.nii.gz").unlink()
    assert predict(scans, tmp_path / "labels", stand_in_weights) == 0
    startup = record_of(tmp_path / "labels")["startup_seconds"]
    assert set(startup) == {"import", "compile"}
    assert startup["compile"] > 0
    # Where the system tells when a process began; this one has long been running.
    assert startup["import"] is None or startup["import"] > 0.1


def test_record_tells_the_threads_that_the_engine_takes(scans, tmp_path, stand_in_weights):
    wanted = str(4 * os.cpu_count())
    (scans / "b_0000.nii.gz").unlink()
    assert predict(scans, tmp_path / "labels", stand_in_weights, "--threads", wanted) == 0
    assert 1 <= record_of(tmp_path / "labels")["threads"] <= os.cpu_count()


def test_one_damaged_scan_does_not_stop_the_others(scans, tmp_path, stand_in_weights, capsys):
    output = tmp_path / "new" / "labels"
    assert predict(scans, output, stand_in_weights) == 1
    assert {path.name for path in output.iterdir()} == {
        "a.nii.gz", "c.nii.gz", "run.json", "labels.json", "labels.ctbl",
    }  # fmt: skip
    record = record_of(output)
    assert [case["status"] for case in record["cases"]] == ["ok", "failed", "ok"]
    assert "b_0000.nii.gz" in record["cases"][1]["error"]
    told = capsys.readouterr().out
    assert "[1/3] a:" in told
    assert "left" in told
    assert "b: FAILED" in told
    assert told.splitlines()[-1] == f"results are in {output}"


def test_record_tells_how_each_case_went(scans, tmp_path, stand_in_weights):
    assert predict(scans / "a_0000.nii.gz", tmp_path / "labels", stand_in_weights) == 0
    record = record_of(tmp_path / "labels")
    assert record["precision"] == "f32"
    assert record["threads"] == 1
    assert set(record["versions"]) == {"python", "numpy", "scipy", "simpleitk", "openvino"}
    (case,) = record["cases"]
    assert case["input"] == "a_0000.nii.gz"
    assert case["output"] == "a.nii.gz"
    assert set(case["seconds"]) == {"read", "locate", "segment", "restore", "check", "write"}
    assert case["total_seconds"] > 0
    assert case["peak_mib"] > 50
    assert len(case["box"]["start"]) == 3
    assert len(case["volumes_ml"]) == 13
    assert case["volumes_ml"]["liver"] > 100
    (flag,) = case["flags"]  # a ball of 137 ml is small for a liver
    assert (flag["code"], flag["organ"]) == ("volume_low", "liver")
    assert case["warnings"] == [f"smaller than usual: liver ({flag['text']})"]


def test_preview_draws_what_was_segmented_and_lists_what_was_not(
    scans, tmp_path, stand_in_weights, capsys
):
    output = tmp_path / "labels"
    assert predict(scans, output, stand_in_weights, "--preview") == 1
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == f"now open {output / 'report.html'} in a browser"
    labels = {"a.nii.gz", "c.nii.gz", "run.json", "labels.json", "labels.ctbl"}
    assert {path.name for path in output.iterdir()} == labels | {"a.png", "c.png", "report.html"}
    page = (output / "report.html").read_text()
    assert "b_0000.nii.gz" in page
    assert page.count('id="scan-') == 2


def test_label_map_is_uint8_on_the_scans_grid(scans, tmp_path, stand_in_weights):
    predict(scans / "c.mha", tmp_path / "labels", stand_in_weights)
    label_map = sitk.ReadImage(tmp_path / "labels" / "c.nii.gz")
    assert label_map.GetPixelID() == sitk.sitkUInt8
    assert label_map.GetSize() == (54, 62, 44)
    assert set(np.unique(sitk.GetArrayFromImage(label_map))) == {0, 1, 3}


def test_memory_limit_is_obeyed_case_by_case(scans, tmp_path, stand_in_weights):
    output = tmp_path / "labels"
    assert predict(scans, output, stand_in_weights, "--memory-limit", "64MiB") == 1
    assert {path.name for path in output.iterdir()} == {"run.json"}
    assert "0.1 GiB are allowed" in record_of(output)["cases"][0]["error"]


def test_unexpected_errors_fail_the_case_only(scans, tmp_path, stand_in_weights, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("app.cascade.pipeline.segment_scan", fail)
    assert predict(scans, tmp_path / "labels", stand_in_weights) == 1
    errors = [case["error"] for case in record_of(tmp_path / "labels")["cases"]]
    assert len(errors) == 3
    assert all("ZeroDivisionError: a bug" in error for error in errors)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--memory-limit", "plenty"), "8GiB"),
        (("--weights", "/nowhere"), "/nowhere"),
    ],
)
def test_wrong_use_is_said_before_any_work(
    scans, tmp_path, stand_in_weights, capsys, option, message
):
    assert predict(scans, tmp_path / "labels", stand_in_weights, *option) == 2
    assert message in capsys.readouterr().err


def test_empty_folder_is_wrong_use(tmp_path, stand_in_weights, capsys):
    (tmp_path / "scans").mkdir()
    assert predict(tmp_path / "scans", tmp_path / "labels", stand_in_weights) == 2
    assert "no scans found" in capsys.readouterr().err
    assert not (tmp_path / "labels").exists()


def test_missing_input_is_wrong_use(tmp_path, stand_in_weights, capsys):
    assert predict(tmp_path / "scans", tmp_path / "labels", stand_in_weights) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_output_that_is_a_file_is_wrong_use(scans, tmp_path, stand_in_weights, capsys):
    (tmp_path / "labels").write_text("in the way")
    assert predict(scans, tmp_path / "labels", stand_in_weights) == 2
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_unwritable_output_is_wrong_use(scans, tmp_path, stand_in_weights, capsys):
    (tmp_path / "labels").mkdir(mode=0o500)
    assert predict(scans, tmp_path / "labels", stand_in_weights) == 2
    assert "cannot be written to" in capsys.readouterr().err


@needs_root
def test_results_belong_to_the_owner_of_the_output_folder(scans, tmp_path, stand_in_weights):
    output = tmp_path / "labels"
    output.mkdir()
    os.chown(output, 1234, 2345)
    predict(scans / "c.mha", output, stand_in_weights)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in output.iterdir()}
    assert owners == {(1234, 2345)}


@needs_root
def test_new_output_folder_belongs_to_the_owner_of_the_folder_above(
    scans, tmp_path, stand_in_weights
):
    above = tmp_path / "home"
    above.mkdir()
    os.chown(above, 1234, 2345)
    predict(scans / "c.mha", above / "deep" / "labels", stand_in_weights)
    made = [above / "deep", above / "deep" / "labels", above / "deep" / "labels" / "c.nii.gz"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(1234, 2345)}


def test_file_that_cannot_be_handed_over_is_no_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("not allowed")

    monkeypatch.setattr("app.cli.folders._user_id", lambda: 0)
    monkeypatch.setattr("os.chown", refuse)
    (tmp_path / "file").touch()
    hand_over(tmp_path / "file")


def test_two_scans_of_one_name_are_wrong_use(tmp_path):
    for name in ("x.nii.gz", "x_0000.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match="both become"):
        find_cases(tmp_path, tmp_path / "labels")


def test_label_map_never_replaces_its_scan(tmp_path):
    (tmp_path / "x.nii.gz").touch()
    with pytest.raises(UsageError, match="another --output"):
        find_cases(tmp_path, tmp_path)


def test_predicting_loads_neither_torch_nor_monai(scans, tmp_path, stand_in_weights):
    arguments = ["predict", "--threads", "1", "--weights", str(stand_in_weights)]
    arguments += ["--input", str(scans / "c.mha"), "--output", str(tmp_path / "labels")]
    program = (
        "import sys\n"
        "from app.cli.main import main\n"
        f"code = main({arguments!r})\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "unwanted = loaded & {'torch', 'monai', 'numba', 'PIL', 'safetensors'}\n"
        "sys.exit(f'loaded {unwanted}' if unwanted else code)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


def test_a_picture_that_fails_costs_the_picture_alone(
    scans, tmp_path, stand_in_weights, monkeypatch, capsys
):
    from app.report import writer

    draw_picture = writer.draw_picture

    def fail(*volumes, title, **options):
        if title == "a":
            raise ZeroDivisionError("a bug")
        return draw_picture(*volumes, title=title, **options)

    output = tmp_path / "labels"
    with monkeypatch.context() as patched:
        patched.setattr(writer, "draw_picture", fail)
        assert predict(scans, output, stand_in_weights, "--preview") == 1  # b is damaged
    first, _, third = record_of(output)["cases"]
    assert (first["status"], third["status"]) == ("ok", "ok")
    assert first["warnings"][-1] == "no picture: unexpected ZeroDivisionError: a bug"
    assert {path.name for path in output.glob("*.png")} == {"c.png"}
    assert first["warnings"][-1] in (output / "report.html").read_text()
    assert first["warnings"][-1] in capsys.readouterr().out
    # Drawn after all, it is no longer told of.
    assert predict(scans, output, stand_in_weights, "--preview", "--resume") == 1
    assert not any("no picture" in warning for warning in record_of(output)["cases"][0]["warnings"])
    assert (output / "a.png").exists()


def test_a_page_that_fails_costs_the_page_alone(scans, tmp_path, stand_in_weights, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("app.report.writer.page_parts", fail)
    assert predict(scans / "c.mha", tmp_path / "labels", stand_in_weights, "--preview") == 0
    assert not (tmp_path / "labels" / "report.html").exists()
    assert (tmp_path / "labels" / "c.png").exists()


def test_record_names_the_weights(scans, tmp_path, stand_in_weights):
    weights = tmp_path / "weights"
    shutil.copytree(stand_in_weights, weights)
    manifest = json.loads((weights / "segment" / "manifest.json").read_text())
    manifest["files"]["checkpoint.safetensors"] = 32 * "ab"
    (weights / "segment" / "manifest.json").write_text(json.dumps(manifest))
    assert predict(scans / "c.mha", tmp_path / "labels", weights) == 0
    record = record_of(tmp_path / "labels")
    assert record["weights"] == {"locate": None, "segment": 32 * "ab"}
    assert record["manifests"] == {
        phase: sha256_of(weights / phase / "manifest.json") for phase in ("locate", "segment")
    }
