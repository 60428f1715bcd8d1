import json

from app.benchmark.cases import CASES
from app.benchmark.probe import Measurement
from app.benchmark.report import as_table, misses, write_json
from app.cli.benchmark import CASE_NAMES

MEDIAN = CASES[0]


def measured(**changes):
    figures = {"case": "median160", "exit_code": 0, "wall_s": 12.34, "peak_mib": 1536.0}
    return Measurement(**{**figures, "case_record": {"status": "ok"}, **changes})


def test_within_budget_nothing_is_missed():
    assert misses([measured()], budget_mib=1536) == []


def test_each_way_to_miss_is_named():
    over, killed, failed, unknown = misses(
        [
            measured(peak_mib=1537.0),
            measured(exit_code=137),
            measured(exit_code=1),
            measured(peak_mib=None),
        ],
        budget_mib=1536,
    )
    assert "1537 MiB, over the 1536 allowed" in over
    assert "out of memory" in killed
    assert "exit code 1" in failed
    assert "does not tell" in unknown


def test_table_has_a_row_for_each_case_in_the_order_of_x_y_z():
    *_, row = as_table([MEDIAN], [measured()]).splitlines()
    assert row == "| median160 | 512x512x160 | 0.8x0.8x2.5 | 12.3 s | 1.50 GiB |"


def test_json_holds_figures_and_what_they_were_measured_on(tmp_path):
    path = tmp_path / "benchmark.json"
    write_json(path, [measured()], {"machine": {"num_cpus": 2}})
    record = json.loads(path.read_text())
    assert record["machine"] == {"num_cpus": 2}
    assert record["cases"][0]["peak_mib"] == 1536.0


def test_command_line_offers_every_case():
    assert tuple(case.name for case in CASES) == CASE_NAMES
