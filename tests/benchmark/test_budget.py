import pytest

from app.benchmark.budget import (
    CAP_MIB,
    MEMORY_BUDGETS_MIB,
    TIME_BUDGETS,
    misses,
    time_budget_of,
)
from app.cli.benchmark import CAP_GIB, CASE_NAMES


def test_every_case_has_a_budget_within_the_challenges_memory():
    assert set(MEMORY_BUDGETS_MIB) == set(CASE_NAMES)
    assert [set(budgets) for budgets in TIME_BUDGETS.values()] == [set(CASE_NAMES)] * 2
    assert max(MEMORY_BUDGETS_MIB.values()) < CAP_MIB == CAP_GIB * 1024


def test_within_its_budgets_nothing_is_missed(make_run, make_result):
    result = make_result([make_run(peak_mib=1024.0)], [make_run(wall_s=6.0)])
    assert misses(result, time_budget=0.5) == []


def test_a_miss_names_case_figure_and_budget(make_run, make_result):
    result = make_result([make_run(peak_mib=1025.0)], [make_run(wall_s=5.0)])
    memory, time = misses(result, time_budget=0.5)
    assert memory == "median160: peak memory 1025 MiB, over the budget of 1024 MiB"
    assert time == "median160: time ratio 0.60 (3.0 s), over the budget of 0.5 times theirs"


@pytest.mark.parametrize("precision", ["bf16", "f32", "f16", ["odd"], None])
@pytest.mark.parametrize(
    ("name", "bf16", "f32"),
    [
        ("thick51", 0.5, 0.75),
        ("median160", 0.5, 0.75),
        ("headline597", 0.35, 0.6),
        ("long1338", 0.3, 0.5),
        ("mine", 0.5, 0.75),
    ],
)
def test_time_budget_knows_case_and_precision(make_run, make_result, precision, name, bf16, f32):
    result = make_result([make_run(record={"precision": precision})], name=name)
    assert time_budget_of(result) == (bf16 if precision == "bf16" else f32)


# Beside a reference of 10 s: as slow as another case may be, but not this one.
@pytest.mark.parametrize(
    ("name", "kept_s", "slowed_s", "other"),
    [
        ("thick51", 4.9, 5.1, None),
        ("median160", 4.9, 5.1, None),
        ("headline597", 3.4, 3.6, "median160"),
        ("long1338", 2.9, 3.1, "headline597"),
    ],
)
def test_a_slowed_build_misses_the_budget_of_its_own_case(
    make_run, make_result, name, kept_s, slowed_s, other
):
    def missed_by(case, wall_s):
        ours = make_run(wall_s=wall_s, record={"precision": "bf16"})
        result = make_result([ours], [make_run(wall_s=10.0)], name=case)
        return misses(result, time_budget=time_budget_of(result))

    assert missed_by(name, kept_s) == []
    (miss,) = missed_by(name, slowed_s)
    assert miss.startswith(f"{name}: time ratio")
    assert other is None or missed_by(other, slowed_s) == []


@pytest.mark.parametrize(
    ("name", "cap_mib"),
    [("thick51", 1024), ("median160", 1024), ("headline597", 1250), ("long1338", 1950)],
)
def test_a_bloated_build_misses_the_budget_of_its_own_case(make_run, make_result, name, cap_mib):
    assert misses(make_result([make_run(peak_mib=float(cap_mib))], name=name)) == []
    (miss,) = misses(make_result([make_run(peak_mib=cap_mib + 1.0)], name=name))
    assert miss.endswith(f"over the budget of {cap_mib} MiB")


def test_a_budget_of_nothing_is_a_budget(make_run, make_result):
    assert len(misses(make_result([make_run()]), memory_budget_mib=0.0)) == 1


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
