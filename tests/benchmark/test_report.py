import json
from pathlib import Path

import pytest
from full_disk import room_for

from app.benchmark.growth import Growth, fit_line, growth_table
from app.benchmark.plots import plot_growth
from app.benchmark.report import cost_table, ratio_table, step_table, write_curves, write_json
from app.errors import OutputError


@pytest.fixture
def result(make_run, make_result):
    steps = {
        "startup_seconds": {"import": 0.5, "compile": 0.25},
        "cases": [{"seconds": {"read": 0.5}, "num_patches": 5}],
    }
    ours = [make_run(wall_s=2.0, record=steps), make_run(wall_s=3.0, record=steps)]
    return make_result(ours, [make_run(wall_s=10.0, peak_mib=1600.0)] * 2, between={"liver": 0.5})


def cells(row):
    return [cell.strip() for cell in row.strip("|").split("|")]


README = Path(__file__).parents[2] / "README.md"


def test_tables_are_those_of_the_readme(result):
    """They are pasted there as they come out."""
    tables = (cost_table([result]), ratio_table([result]), growth_table([]))
    for head in (table.splitlines()[:2] for table in tables):
        assert "\n".join(head) in README.read_text(encoding="utf-8")


def test_cost_table_has_a_row_for_each_case_in_the_order_of_x_y_z(result):
    *_, row = cost_table([result]).splitlines()
    assert cells(row) == [
        "`median160`", "512×512×160", "0.7×0.8×2.5", "2.5 s", "0.75 s", "0.20 GiB", "2.5 CPU·s",
        "5",
    ]  # fmt: skip


def test_what_a_run_did_not_tell_is_a_dash(make_run, make_result):
    *_, row = cost_table([make_result([make_run(peak_mib=None)])], "scan").splitlines()
    assert cells(row)[-4:] == ["–", "–", "2.5 CPU·s", "–"]
    *_, row = ratio_table([make_result([make_run()])]).splitlines()
    assert cells(row)[1:] == ["–"] * 7


def test_ratio_table_gives_this_system_over_the_other_and_what_that_took(result):
    head, _, row = ratio_table([result], "scan", "other").splitlines()
    assert (cells(head)[0], cells(head)[-1]) == ("scan", "the other's")
    assert cells(row) == [
        "`median160`", "0.25 (of 10.0 s)", "0.12 (of 1.6 GiB)", "1.00", "1.00", "0.500", "–", "–",
    ]  # fmt: skip


def test_a_bar_in_a_name_is_no_new_column(make_run, make_result):
    *_, row = cost_table([make_result([make_run()], name="a|b")]).splitlines()
    assert row.startswith(r"| `a\|b` | 512")


def test_step_table_gives_what_was_recorded_and_the_rest(result):
    head, _, row, *_ = step_table([result]).splitlines()
    assert cells(head)[2:] == ["import", "compile", "read", "other"]
    # Of 2 and 3 s, compiling beside reading, 1.0 and 2.0 s are left.
    assert cells(row)[2:] == ["0.50 s", "0.25 s", "0.50 s", "1.50 s"]
    assert step_table([]) == ""


def test_step_table_says_whose_compiling_runs_beside_other_steps(make_run, make_result):
    startup = {"startup_seconds": {"compile": 1.0}, "cases": [{"seconds": {"read": 0.5}}]}
    in_turn = startup | {"startup_in_sequence": True}
    told = step_table([make_result([make_run(record=startup)], [make_run(record=in_turn)])])
    _, _, ours, theirs, _, sentence = told.splitlines()
    assert cells(ours)[2:] == ["1.00 s", "0.50 s", "2.50 s"]
    assert cells(theirs)[2:] == ["1.00 s", "0.50 s", "1.50 s"]
    assert sentence == "Compiling runs beside reading in ours: no part of a sum."


def test_json_holds_every_figure_and_every_sample(result, tmp_path):
    write_json(tmp_path / "benchmark.json", [result], {"machine": {"num_cpus": 2}})
    record = json.loads((tmp_path / "benchmark.json").read_text())
    assert record["machine"] == {"num_cpus": 2}
    case = record["cases"]["median160"]
    figures = ("seconds", "peak_mib", "reference_seconds", "reference_peak_mib", "time_ratio",
               "memory_ratio", "memory_area_ratio", "cpu_area_ratio")  # fmt: skip
    assert [case[name] for name in figures] == [2.5, 200.0, 10.0, 1600.0, 0.25, 0.125, 1.0, 1.0]
    assert (case["num_patches"], case["scan_sha256"]) == (5, "5ca9")
    assert case["dsc_between"] == {"liver": 0.5}
    assert len(case["runs"]) == 4
    assert case["runs"][0]["samples"]["memory_mib"] == [0.0, 100.0, 200.0]


def test_what_was_not_measured_is_null(make_run, make_result, tmp_path):
    write_json(tmp_path / "benchmark.json", [make_result([make_run()])], {})
    case = json.loads((tmp_path / "benchmark.json").read_text())["cases"]["median160"]
    names = ("reference_seconds", "reference_peak_mib", "time_ratio", "memory_ratio", "dsc_truth")
    assert [case[name] for name in names] == [None] * 5


def test_every_run_leaves_its_samples(result, tmp_path):
    write_curves(tmp_path, result)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"median160-{who}-{n}.csv" for who in ("ours", "other") for n in (1, 2)}


def test_a_full_disk_costs_no_figure_that_was_written_before(result, tmp_path):
    path = tmp_path / "benchmark.json"
    write_json(path, [result], {})
    before = path.read_text()
    with room_for(100), pytest.raises(OutputError, match=r"benchmark\.json: cannot be written"):
        write_json(path, [result, result], {})
    assert path.read_text() == before


def test_a_full_disk_costs_no_samples_and_no_plot_that_were_written_before(result, tmp_path):
    line = fit_line((1.0, 2.0), (3.0, 5.0))
    measured = {"axis": "slices", "unit": "100 slices", "measured_at": "", "size": (1.0, 2.0)}
    growth = Growth(**measured, seconds=line, cpu_s=line, peak_mib=line)
    write_curves(tmp_path, result)
    plot_growth(tmp_path / "growth.png", [growth])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with room_for(60), pytest.raises(OutputError, match=r"ours-1\.csv: cannot be written"):
        write_curves(tmp_path, result)
    with room_for(60), pytest.raises(OutputError, match=r"growth\.png: cannot be written"):
        plot_growth(tmp_path / "growth.png", [growth])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
