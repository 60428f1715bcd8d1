"""The whole command on stand-in systems: a slowed or bloated build makes it fail."""

import json
import os
import shutil
import sys
import tempfile
from dataclasses import replace

import numpy as np
import pytest
from dicom_series import write_series
from label_files import write_labels

from app.benchmark import systems
from app.benchmark.cases import lay_out
from app.benchmark.curve import Curve, Sample
from app.benchmark.systems import Measurement
from app.cli.main import main

# Starts as many programs, one after another, as its first argument says, holds as many MiB as its
# second says for a moment, and gives the scan, which is all zeros, as its label map.
BUILD = """
import pathlib, shutil, subprocess, sys, time
for _ in range(int(sys.argv[1])):
    subprocess.run([sys.executable, "-c", "sum(range(1_000_000))"], check=True)
block = bytearray(int(sys.argv[2]) * 1024 * 1024)
block[::4096] = b"x" * len(block[::4096])
time.sleep(0.5 if block else 0)
for scan in pathlib.Path(sys.argv[3]).iterdir():
    shutil.copy(scan, sys.argv[4])
"""


@pytest.fixture
def bench(tmp_path):
    """Give a function that runs the command on one small scan and gives exit code and figures."""
    scans = tmp_path / "scans"
    scans.mkdir()
    write_labels(scans / "small_0000.nii.gz", np.zeros((3, 4, 5), np.int16))

    def run(*options):
        output = tmp_path / "made" / "anew" / "benchmark.json"
        code = main(["benchmark", "--input", str(scans), "--output", str(output), *options])
        return code, json.loads(output.read_text())

    return run


@pytest.fixture
def build(tmp_path):
    """Give a function that gives the command line of a build: how much work, how many MiB."""
    path = tmp_path / "build.py"
    path.write_text(BUILD)

    def command(*, work=1, mib=0):
        return f"{sys.executable} {path} {work} {mib} {{input}} {{output}}"

    return command


@pytest.fixture
def _reference_of_work(build, monkeypatch):
    """Let a stand-in of eight units of work be the reference."""
    stand_in = systems.parse_command(build(work=8))
    monkeypatch.setattr(systems, "reference", lambda *, weights: stand_in)


@pytest.mark.usefixtures("_reference_of_work")
def test_a_slowed_build_misses_the_time_budget(bench, build, capsys):
    code, figures = bench("--system", build(work=16), "--against", "reference")
    assert code == 1
    assert figures["cases"]["small"]["time_ratio"] > 0.75
    assert figures["budgets"]["time_ratio"]["f32"]["thick51"] == 0.75
    told = capsys.readouterr().out
    assert "MISSED  small: time ratio" in told
    assert "over the budget of 0.75 times" in told


@pytest.mark.usefixtures("_reference_of_work")
def test_a_swift_build_keeps_all_budgets(bench, build, capsys):
    code, figures = bench("--system", build(work=0), "--against", "reference", "--repeat", "2")
    assert (code, figures["missed"]) == (0, [])
    assert "MISSED" not in capsys.readouterr().out
    assert len(figures["cases"]["small"]["runs"]) == 4


def test_a_bloated_build_misses_the_memory_budget(bench, build, capsys):
    budget = ("--memory-budget", "200")
    assert bench("--system", build(mib=0), *budget)[0] == 0
    code, figures = bench("--system", build(mib=300), *budget)
    assert code == 1
    assert figures["cases"]["small"]["peak_mib"] > 300
    assert "over the budget of 200 MiB" in capsys.readouterr().out


def test_a_build_that_fails_fails_the_benchmark(bench):
    code, figures = bench("--system", f"{sys.executable} -c 1/0 {{input}} {{output}}")
    assert code == 1
    failed, without, *_ = figures["missed"]
    assert "ended with exit code 1" in failed
    assert "left no label map" in without


@pytest.mark.parametrize(("instructions", "code"), [("avx2", 0), ("all", 1)])
def test_instructions_are_hidden_from_both_systems_and_that_is_told(
    bench, tmp_path, monkeypatch, instructions, code
):
    for name in systems.AVX2_ALONE:
        monkeypatch.delenv(name, raising=False)
    limited = tmp_path / "limited.py"
    asks = f"{systems.AVX2_ALONE!r}.items() <= os.environ.items() or sys.exit(3)"
    limited.write_text(f"import os, sys, shutil\n{asks}\nshutil.copytree(*sys.argv[1:], "
                       "dirs_exist_ok=True)\n")  # fmt: skip
    command = f"{sys.executable} {limited} {{input}} {{output}}"

    found, figures = bench(
        "--system", command, "--against", command, "--instructions", instructions
    )

    assert (found, figures["instructions"]) == (code, instructions)
    assert sum("ended with exit code 3" in sentence for sentence in figures["missed"]) == 2 * code


def test_samples_and_a_plot_lie_beside_the_figures(bench, build, tmp_path):
    bench("--system", build(), "--against", build())
    names = {path.name for path in (tmp_path / "made" / "anew" / "benchmark").iterdir()}
    assert names == {"small-ours-1.csv", "small-other-1.csv", "small.png", "tables.md"}


@pytest.fixture
def _nothing_runs(monkeypatch):
    """Let whatever would be measured fail at once: a test of refusals must measure nothing."""

    def refuse(*_, **__):
        raise AssertionError("something was made or run")

    monkeypatch.setattr(systems.Image, "is_ready", lambda _: False)
    for name in (
        "app.benchmark.cases.make_phantom", "app.benchmark.systems.watch_process",
        "app.benchmark.systems.watch_container",
    ):  # fmt: skip
        monkeypatch.setattr(name, refuse)


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cases", "thick51", "--growth"), "exclude each other"),
        (("--references", "labels"), "only with --input"),
        (("--time-budget", "0.5"), "add --against"),
        (("--cases", "thick51,thick50"), "thick50"),
        (("--against", "tool {input}"), "{output} expected"),
        (("--against", "no-such-tool {input} {output}"), "no-such-tool: cannot be started"),
        (("--system", "no-such-tool {input} {output}"), "no-such-tool: cannot be started"),
        (("--against", "reference", "--weights", "none"), "none"),
        (("--input", "none"), "--input none: no such file or folder"),
        (("--input", ".", "--references", "none"), "--references none: no such folder"),
    ],
)
def test_wrong_use_is_exit_code_2(options, said, tmp_path, capsys):
    assert main(["benchmark", "--output", str(tmp_path / "out.json"), *options]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert "Measuring" not in told.out


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize(
    ("in_the_way", "is_folder", "output"),
    [
        ("taken", False, "taken/out.json"),
        ("taken", False, "taken/new/out.json"),
        ("out", False, "out.json"),  # where curves and tables go
        ("out.json", True, "out.json"),
    ],
)
def test_output_that_cannot_be_written_is_told_before_anything_is_measured(
    in_the_way, is_folder, output, tmp_path, capsys
):
    taken = tmp_path / in_the_way
    taken.mkdir() if is_folder else taken.write_text("a file")
    assert main(["benchmark", "--output", str(tmp_path / output)]) == 2
    told = capsys.readouterr()
    assert f"--output {tmp_path / output}: " in told.err
    assert "cannot be made or written to" in told.err
    assert "Measuring" not in told.out


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
def test_output_in_a_folder_that_is_read_only_is_told(tmp_path, capsys):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert main(["benchmark", "--output", str(tmp_path / "locked" / "out.json")]) == 2
    assert "cannot be made or written to" in capsys.readouterr().err


class StandIn:
    """A system of known cost: it writes an empty label map and takes no time."""

    def __init__(self, name, measurement, weights=None):
        self.name, self.measurement, self.weights = name, measurement, weights

    def check(self):
        pass

    def checkpoints(self):
        return self.weights

    def run(self, scans, results):
        (scan,) = scans.iterdir()
        shutil.copy(scan, results)
        return self.measurement


CURVE = Curve(
    (
        Sample(seconds=0.0, memory_mib=0.0, cpu_s=0.0),
        Sample(seconds=2.0, memory_mib=512.0, cpu_s=3.0),
    )
)
RECORD = {
    "version": "1.2",
    "versions": {"openvino": "2030.1"},
    "precision": "bf16",
    "threads": 2,
    "cases": [
        {"seconds": {"read": 0.5}, "num_patches": 5, "box": {"start": [0] * 3, "stop": [3, 4, 5]}}
    ],
}


def measurement(wall_s, *, peak_mib=512.0, record=RECORD):
    return Measurement(
        exit_code=0, wall_s=wall_s, peak_mib=peak_mib, curve=CURVE, record=dict(record)
    )


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Give a function that runs the command on the scan ``name`` and systems of known cost."""

    def run(ours, reference=None, *options, name="small"):
        scans = tmp_path / f"scans of {name}"
        scans.mkdir(exist_ok=True)
        write_labels(scans / f"{name}_0000.nii.gz", np.zeros((3, 4, 5), np.int16))
        monkeypatch.setattr(systems, "local_installation", lambda **_: ours)
        monkeypatch.setattr(systems, "reference", lambda **_: reference)
        output = tmp_path / "benchmark.json"
        against = ("--against", "reference") if reference else ()
        where = () if "--growth" in options else ("--input", str(scans))
        code = main(["benchmark", "--local", "--output", str(output), *where, *against, *options])
        return code, json.loads(output.read_text())

    return run


def test_a_slowed_build_misses_the_time_budget_of_its_own_case(measure, capsys):
    """Twice as slow on a long scan as today, it is no slower than a short scan's budget."""
    reference = StandIn("reference", measurement(10.0))
    slowed = StandIn("ours", measurement(4.5))
    assert measure(slowed, reference, name="median160")[0] == 0
    code, figures = measure(slowed, reference, name="headline597")
    assert code == 1
    assert figures["missed"] == [
        "headline597: time ratio 0.45 (4.5 s), over the budget of 0.35 times reference"
    ]
    assert measure(StandIn("ours", measurement(3.4)), reference, name="headline597")[0] == 0


def test_a_bloated_build_misses_the_memory_budget_of_its_own_case(measure):
    bloated = StandIn("ours", measurement(1.0, peak_mib=1300.0))
    assert measure(bloated, name="long1338")[0] == 0
    code, figures = measure(bloated, name="headline597")
    assert code == 1
    assert figures["missed"] == ["headline597: peak memory 1300 MiB, over the budget of 1250 MiB"]


def test_figures_tell_machine_versions_and_precision(measure):
    record = RECORD | {"versions": {"torch": "2.9"}, "precision": "f32"}
    _, figures = measure(
        StandIn("ours", measurement(1.0)), StandIn("reference", measurement(10.0, record=record))
    )
    assert set(figures["machine"]) == {"cpu", "num_cpus", "memory_gib", "system"}
    assert figures["machine"]["num_cpus"] == os.cpu_count()
    assert figures["machine"]["cpu"]
    assert figures["machine"]["memory_gib"] > 0
    told = {name: figures[name] for name in ("version", "versions", "precision", "threads")}
    assert told == {
        "version": "1.2", "versions": {"openvino": "2030.1"}, "precision": "bf16", "threads": 2,
    }  # fmt: skip
    assert figures["reference"]["versions"] == {"torch": "2.9"}
    assert figures["reference"]["precision"] == "f32"
    assert len(figures["cases"]["small"]["scan_sha256"]) == 64


def test_another_tools_record_ends_nothing(measure):
    for record in ({"cases": [{"id": 1}]}, {"startup_seconds": None, "cases": [{"seconds": 1}]}):
        code, figures = measure(StandIn("ours", measurement(1.0, record=record)))
        assert (code, figures["cases"]["small"]["steps_s"]) == (0, {})


WEIGHTS = {"locate": "a" * 64, "segment": "b" * 64}


def test_a_build_of_other_weights_than_the_references_is_missed(measure, capsys):
    reference = StandIn("reference", measurement(10.0), WEIGHTS)
    code, figures = measure(StandIn("ours", measurement(1.0), dict(WEIGHTS)), reference)
    assert (code, figures["weights"]) == (0, {"ours": WEIGHTS, "reference": WEIGHTS})
    old = WEIGHTS | {"segment": "c" * 64}
    code, figures = measure(StandIn("image x", measurement(1.0), old), reference)
    assert code == 1
    (miss,) = figures["missed"]
    assert miss.startswith("weights: image x does not run the reference's weights")
    assert f"MISSED  {miss}" in capsys.readouterr().out
    assert measure(StandIn("image x", measurement(1.0)), reference)[0] == 1
    assert measure(StandIn("image x", measurement(1.0), old))[0] == 0  # beside nothing


def test_the_command_writes_the_readmes_tables(measure, tmp_path, capsys):
    reference = StandIn("reference", measurement(10.0, peak_mib=2048.0))
    measure(StandIn("ours", measurement(2.0)), reference)
    tables = (tmp_path / "benchmark" / "tables.md").read_text(encoding="utf-8")
    assert tables == (
        "| scan | voxels (x, y, z) | mm (x, y, z) | time | start-up | peak memory "
        "| processor time | patches |\n"
        "|---|---|---|---|---|---|---|---|\n"
        "| `small` | 5×4×3 | 1×2×3 | 2.0 s | – | 0.50 GiB | 3.0 CPU·s | 5 |\n"
        "\n"
        "| scan | time | peak memory | area below memory | processor time "
        "| DSC between the two | DSC against truth | the reference's |\n"
        "|---|---|---|---|---|---|---|---|\n"
        "| `small` | 0.20 (of 10.0 s) | 0.25 (of 2.0 GiB) | 1.00 | 1.00 | – | – | – |\n"
    )
    assert tables in capsys.readouterr().out


def test_what_lies_beside_the_figures_is_replaced_not_written_over(measure, tmp_path):
    """A kill in the middle leaves the earlier file."""
    written = []
    for _ in range(2):
        measure(StandIn("ours", measurement(2.0)), None)
        folder = tmp_path / "benchmark"
        written.append({path.name: path.stat().st_ino for path in folder.iterdir()})
    first, second = written
    assert first.keys() == second.keys() == {"small-ours-1.csv", "small.png", "tables.md"}
    assert all(first[name] != second[name] for name in first)


def test_growth_has_its_table_too(measure, tmp_path, monkeypatch, capsys):
    def phantom(case, folder):
        write_labels(folder / "scan.nii.gz", np.zeros((3, 4, 5), np.int16))
        scan = lay_out(case.name, folder / "scan.nii.gz", None, folder)
        return replace(scan, shape=case.shape)

    monkeypatch.setattr("app.benchmark.cases.make_phantom", phantom)
    _, figures = measure(StandIn("ours", measurement(2.0)), None, "--growth")
    tables = (tmp_path / "benchmark" / "tables.md").read_text(encoding="utf-8")
    assert tables.startswith("| phantom |")
    assert "| slices of 512×512, one body | 80 to 640 slices | 2.0 s + 0.0 per 100" in tables
    assert tables in capsys.readouterr().out
    assert len(figures["cases"]) == 7
    assert (tmp_path / "benchmark" / "growth.png").exists()


def test_folder_holds_any_scan_that_predict_reads_and_one_that_is_broken_ends_nothing(
    tmp_path, build, capsys
):
    scans, references = tmp_path / "scans", tmp_path / "labels"
    for folder in (scans, references):
        folder.mkdir()
    hu = np.zeros((3, 4, 5), np.int16)
    for name in ("mha.mha", "mhd.mhd", "nhdr.nhdr", "5:30 costs $^.nii"):
        write_labels(scans / name, hu)
    write_series(scans / "dicom" / "below", hu, spacing_mm=(3.0, 2.0, 1.0))
    (scans / "broken.nii.gz").write_text("no image")
    write_labels(references / "mhd.nii.gz", hu)
    output = tmp_path / "benchmark.json"
    code = main(
        ["benchmark", "--input", str(scans), "--references", str(references),
         "--output", str(output), "--system", build()]
    )  # fmt: skip
    figures = json.loads(output.read_text())
    assert code == 1
    names = {"mha", "mhd", "nhdr", "5:30 costs $^", "dicom_below"}
    assert set(figures["cases"]) == names
    (missed,) = figures["missed"]
    assert missed.startswith("broken: not measured: ")
    assert missed in capsys.readouterr().out
    assert figures["cases"]["dicom_below"]["voxels_zyx"] == [3, 4, 5]
    assert figures["cases"]["mhd"]["dsc_truth"]["liver"] is None  # both empty
    assert figures["cases"]["mha"]["dsc_truth"] is None  # no label map to compare to
    assert {path.stem for path in (tmp_path / "benchmark").glob("*.png")} == names


def test_scans_lie_in_scratch_one_at_a_time(tmp_path, monkeypatch):
    scans, scratch = tmp_path / "scans", tmp_path / "scratch"
    for folder in (scans, scratch):
        folder.mkdir()
    for name in ("a.mha", "b.mha"):
        write_labels(scans / name, np.zeros((3, 4, 5), np.int16))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    seen = []

    class Watching(StandIn):
        def run(self, scans, results):
            seen.append(sorted(path.name for path in scratch.rglob("*.nii.gz")))
            return super().run(scans, results)

    ours = Watching("ours", measurement(1.0))
    monkeypatch.setattr(systems, "local_installation", lambda **_: ours)
    output = tmp_path / "benchmark.json"
    assert main(["benchmark", "--local", "--input", str(scans), "--output", str(output)]) == 0
    assert seen == [["a_0000.nii.gz"], ["b_0000.nii.gz"]]
    assert list(scratch.iterdir()) == []


def test_where_no_scan_can_be_read_the_figures_say_so(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "broken.nii.gz").write_text("no image")
    output = tmp_path / "benchmark.json"
    words = f"{sys.executable} -c pass {{input}} {{output}}"
    code = main(
        ["benchmark", "--input", str(tmp_path / "scans"), "--output", str(output),
         "--system", words]
    )  # fmt: skip
    figures = json.loads(output.read_text())
    assert (code, figures["cases"], len(figures["missed"])) == (1, {}, 1)
