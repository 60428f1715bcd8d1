import pytest

from app.benchmark.budget import CAP_MIB, MEMORY_BUDGETS_MIB, misses, time_budget_of
from app.cli.benchmark import CAP_GIB, CASE_NAMES


def test_every_case_has_a_budget_within_the_challenges_memory():
    assert set(MEMORY_BUDGETS_MIB) == set(CASE_NAMES)
    assert max(MEMORY_BUDGETS_MIB.values()) < CAP_MIB == CAP_GIB * 1024


def test_within_its_budgets_nothing_is_missed(make_run, make_result):
    result = make_result([make_run(peak_mib=1024.0)], [make_run(wall_s=6.0)])
    assert misses(result, time_budget=0.5) == []


def test_a_miss_names_case_figure_and_budget(make_run, make_result):
    result = make_result([make_run(peak_mib=1025.0)], [make_run(wall_s=5.0)])
    memory, time = misses(result, time_budget=0.5)
    assert memory == "median160: peak memory 1025 MiB, over the budget of 1024 MiB"
    assert time == "median160: time ratio 0.60 (3.0 s), over the budget of 0.5 times theirs"


@pytest.mark.parametrize(
    ("record", "budget"), [({"precision": "bf16"}, 0.5), ({"precision": "f32"}, 0.75), ({}, 0.75)]
)
def test_time_budget_knows_the_precision(make_run, make_result, record, budget):
    assert time_budget_of(make_result([make_run(record=record)])) == budget


def test_an_own_scan_may_take_the_challenges_memory_or_what_is_asked(make_run, make_result):
    result = make_result([make_run(peak_mib=8193.0)], name="mine")
    (miss,) = misses(result)
    assert "over the budget of 8192 MiB" in miss
    assert misses(result, memory_budget_mib=9000) == []


def test_runs_that_fail_on_either_side_are_told(make_run, make_result):
    result = make_result([make_run(exit_code=137), make_run()], [make_run(exit_code=1)])
    killed, failed = misses(result)
    assert "ours ended with exit code 137: killed, out of memory" in killed
    assert "theirs ended with exit code 1" in failed


def test_a_build_that_leaves_nothing_keeps_no_budget(make_run, make_result):
    (miss,) = misses(make_result([make_run()], without_labels=("ours",)))
    assert miss == "median160: ours left no label map, or several"


def test_a_figure_that_is_missing_keeps_no_budget(make_run, make_result):
    unknown, no_ratio = misses(make_result([make_run(peak_mib=None)]), time_budget=0.5)
    assert "not known" in unknown
    assert "no time ratio" in no_ratio
