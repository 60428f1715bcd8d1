"""What a run may cost: memory in MiB for each case, time as a share of the reference's."""

from app.benchmark.compare import CaseResult, Runs
from app.benchmark.watch import KILLED

CAP_MIB = 8 * 1024
"""The challenge's memory: what a case without a budget of its own may take."""

MEMORY_BUDGETS_MIB = {"thick51": 1024, "median160": 1024, "headline597": 1250, "long1338": 1950}
"""The peaks measured in the container, 758, 820, 1084 and 1526 MiB in this order, the larger of
bf16 and f32, and 15 to 35 % more: room for another kernel or thread count, not for one more copy
of a long scan, which takes 298 MiB of `headline597` and 669 MiB of `long1338` in int16."""

TIME_BUDGETS = {
    "bf16": {"thick51": 0.5, "median160": 0.5, "headline597": 0.35, "long1338": 0.3},
    "f32": {"thick51": 0.75, "median160": 0.75, "headline597": 0.6, "long1338": 0.5},
}
"""Most time that this system may take of the reference's, by the precision it ran in and by case.
In bf16 it took 0.40, 0.37, 0.25 and 0.22 in this order, the less the longer the scan, since the
reference resamples the whole of it; in f32, on a processor with AVX2 alone, 0.48, 0.54, 0.42 and
0.37. Budgets are a quarter to a half more."""


def time_budget_of(result: CaseResult) -> float:
    """Give the time budget for a case and the precision that this system ran in.

    A precision that is not known has the laxer budget, and so has a scan that is no case.
    """
    precision = result.ours.measurements[0].record.get("precision")
    budgets = TIME_BUDGETS["bf16" if precision == "bf16" else "f32"]
    return budgets.get(result.scan.name, max(budgets.values()))


def misses(
    result: CaseResult,
    *,
    memory_budget_mib: float | None = None,
    time_budget: float | None = None,
) -> list[str]:
    """List what went wrong or over budget.

    Parameters
    ----------
    result : CaseResult
        What one scan gave.
    memory_budget_mib : float, optional
        Most memory, in MiB; by default the case's own budget, else 8 GiB.
    time_budget : float, optional
        Most time, as a share of the other system's; by default time is not judged.

    Returns
    -------
    list of str
        A sentence for each miss, with case, figure and budget; empty if all is well.
    """
    name = result.scan.name
    found = [failure for runs in (result.ours, result.theirs) if runs for failure in _failed(runs)]
    found += [f"{system} left no label map, or several" for system in result.without_labels]
    cap_mib = memory_budget_mib
    if cap_mib is None:
        cap_mib = MEMORY_BUDGETS_MIB.get(name, CAP_MIB)
    peak_mib, time_ratio = result.ours.peak_mib, result.time_ratio
    if peak_mib is None:
        found.append("peak memory is not known: neither kernel nor run.json tells it")
    elif peak_mib > cap_mib:
        found.append(f"peak memory {peak_mib:.0f} MiB, over the budget of {cap_mib:.0f} MiB")
    if time_budget is not None:
        if time_ratio is None:
            found.append(f"no time ratio to hold against the budget of {time_budget:g}")
        elif time_ratio > time_budget:
            found.append(
                f"time ratio {time_ratio:.2f} ({result.ours.seconds:.1f} s), over the budget of "
                f"{time_budget:g} times {result.theirs.system if result.theirs else 'nothing'}"
            )
    return [f"{name}: {miss}" for miss in found]


def _failed(runs: Runs) -> list[str]:
    codes = sorted({run.exit_code for run in runs.measurements} - {0})
    return [
        f"{runs.system} ended with exit code {code}"
        + (": killed, out of memory" if code == KILLED else "")
        for code in codes
    ]
