"""Means with intervals: what the scores of these cases say about the next ones."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.evaluation.boxes import summarize_boxes
from app.evaluation.protocols import Protocol
from app.evaluation.score import Evaluation, OrganResult, find_differences
from app.imaging.io import atomic_path
from app.labels import ORGANS

NUM_RESAMPLES = 2000
CONFIDENCE_PERCENT = 95.0
SEED = 20240601
"""Fixed, so that the same scores always give the same intervals."""

DIGITS = 6

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean and how sure it is.

    Parameters
    ----------
    value : float
        The mean; NaN if nothing was scored.
    interval : (low, high) floats
        95 % bootstrap interval over cases.
    num_cases : int
        Cases that were scored.
    """

    value: float
    interval: Interval
    num_cases: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Means of one protocol.

    Parameters
    ----------
    dsc, nsd : Mean
        Over all organs: the mean of the organs' means, as the challenge takes it.
    organs : dict of str to (Mean, Mean)
        DSC and NSD of each organ.
    """

    dsc: Mean
    nsd: Mean
    organs: dict[str, tuple[Mean, Mean]]


def summarize(results: list[OrganResult]) -> Summary:
    """Take means over cases and organs, with bootstrap intervals.

    Cases are drawn with replacement, whole: the organs of one patient go
    together. What is not scored (NaN) is left out of every mean.

    Parameters
    ----------
    results : list of OrganResult
        Scores of one protocol; one for each case and organ.

    Returns
    -------
    Summary
    """
    cases = list(dict.fromkeys(result.case for result in results))
    names = [organ.name for organ in ORGANS]
    # Without any case, one that is not scored gives means that are not there.
    tables = np.full((2, max(len(cases), 1), len(names)), np.nan)
    for result in results:
        at = cases.index(result.case), names.index(result.organ)
        tables[0][at], tables[1][at] = result.score.dsc, result.score.nsd
    dsc, nsd = (_means(table) for table in tables)
    pairs = zip(dsc[1:], nsd[1:], strict=True)
    return Summary(dsc=dsc[0], nsd=nsd[0], organs=dict(zip(names, pairs, strict=True)))


def _means(table: npt.NDArray[np.float64]) -> list[Mean]:
    """Give the mean over all organs, then that of each column of a (cases, organs) table."""
    num_cases = len(table)
    rng = np.random.default_rng(SEED)
    shares = np.full(num_cases, 1 / num_cases)
    drawn = rng.multinomial(num_cases, shares, size=NUM_RESAMPLES)
    # Row 0 is the sample itself, the others tell how often each case was drawn again.
    weights = np.vstack([np.ones(num_cases), drawn])
    scored = ~np.isnan(table)
    organs = _quotient(weights @ np.where(scored, table, 0.0), weights @ scored)
    has_mean = ~np.isnan(organs)
    overall = _quotient(np.where(has_mean, organs, 0.0).sum(axis=1), has_mean.sum(axis=1))
    counts = [int(scored.any(axis=1).sum()), *scored.sum(axis=0).tolist()]
    columns = [overall, *organs.T]
    return [
        Mean(value=float(column[0]), interval=_interval(column[1:]), num_cases=count)
        for column, count in zip(columns, counts, strict=True)
    ]


def _quotient(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.floating[Any] | np.integer[Any]]
) -> npt.NDArray[np.float64]:
    """Divide, giving NaN where there is nothing to divide by."""
    quotients = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=quotients, where=counts > 0)
    return quotients


def _interval(means: npt.NDArray[np.float64]) -> Interval:
    means = means[~np.isnan(means)]
    if not means.size:
        return (float("nan"), float("nan"))
    tail = (100.0 - CONFIDENCE_PERCENT) / 2
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return (float(low), float(high))


def write_summary(
    path: Path,
    evaluation: Evaluation,
    summaries: dict[Protocol, Summary],
    protocol: Protocol,
) -> None:
    """Write the means as JSON; what is not scored is ``null``.

    Parameters
    ----------
    path : Path
        File to write.
    evaluation : Evaluation
        What the means were taken of; without boxes, the summary tells that there are none.
    summaries : dict of Protocol to Summary
        Means of both protocols.
    protocol : Protocol
        The one asked for; of the other only the means over all organs are told.
    """
    summary = summaries[protocol]
    record = {
        "protocol": protocol,
        "num_cases": len({result.case for result in evaluation.results[protocol]}),
        "mean_dsc": _number(summary.dsc.value),
        "mean_nsd": _number(summary.nsd.value),
        "mean_dsc_interval_95": _numbers(summary.dsc.interval),
        "mean_nsd_interval_95": _numbers(summary.nsd.interval),
        "organs": {
            name: {
                "num_cases": dsc.num_cases,
                "mean_dsc": _number(dsc.value),
                "dsc_interval_95": _numbers(dsc.interval),
                "mean_nsd": _number(nsd.value),
                "nsd_interval_95": _numbers(nsd.interval),
            }
            for name, (dsc, nsd) in summary.organs.items()
        },
        "boxes": asdict(summarize_boxes(evaluation.boxes)) if evaluation.boxes else None,
        "missing_predictions": evaluation.missing,
        "extra_predictions": [path.name for path in evaluation.extra],
        "problems": evaluation.problems[protocol],
        "protocols": {
            name: {"mean_dsc": _number(other.dsc.value), "mean_nsd": _number(other.nsd.value)}
            for name, other in summaries.items()
        },
        "protocol_differences": [
            {
                "case": difference.case,
                "organ": difference.organ,
                **{
                    name: {"dsc": _number(score.dsc), "nsd": _number(score.nsd)}
                    for name, score in difference.scores.items()
                },
            }
            for difference in find_differences(evaluation)
        ],
    }
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(value, DIGITS)


def _numbers(values: Interval) -> list[float | None]:
    return [_number(value) for value in values]
