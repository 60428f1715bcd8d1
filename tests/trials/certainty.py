"""Does what the network says of its own certainty tell bad organs from good ones?

For each organ found in scans with references: its DSC, the mean probability of its own voxels
(what `low_confidence` goes by), and the DSC that the network itself expects, that is
2 * sum(p over its voxels) / (sum(p over all voxels) + number of its voxels). Rows go to a table as
they come; a run that was ended goes on, and with --table alone an earlier run is summed up.

A limit that is chosen on the scans it is tried on flatters itself, so it is also chosen on every
second scan and tried on the others. With the record of a `predict` of the same scans (--record) it
is told how many would have `many_odd_organs` if that counted uncertain organs, which it does not.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.benchmark.compare import dice_per_organ
from app.cascade.bundle import open_cascade
from app.cascade.memory import parse_bytes
from app.cascade.patches import STEPS_PER_LOGIT
from app.cascade.pipeline import label_scan, score_scan
from app.cascade.plausibility import LEAST_CONFIDENCE, MANY_ODD
from app.cascade.report import CaseReport
from app.cascade.segment import mean_confidence
from app.config import DEFAULT_WEIGHTS
from app.imaging.io import read_scan
from app.labels import CLASS_NAMES
from tests.trials.anatomies import OF_THE_SCAN

COLUMNS = ("case", "organ", "dsc", "mean_probability", "expected_dsc")
WELL, BELOW, FALSE_ALARMS = 0.8, (0.5, 0.7), 0.02
LIMITS = (0.6, 0.7, 0.75, 0.8, 0.85, 0.875, 0.9, 0.925, 0.95)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path, help="folder of X_0000.nii.gz")
    parser.add_argument("--references", type=Path, help="folder of X.nii.gz")
    parser.add_argument("--names", nargs="+", help="of scans, in this order; all by default")
    parser.add_argument("--table", type=Path, required=True, help="CSV to write, or to sum up")
    parser.add_argument("--record", type=Path, help="run.json of a predict of the same scans")
    options = parser.parse_args()
    if options.scans:
        collect(options)
    rows = read(options.table)
    sum_up(rows)
    try_limits(rows, odd_organs(options.record) if options.record else None)


def read(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def collect(options):
    cascade = open_cascade(
        DEFAULT_WEIGHTS, memory_limit_bytes=parse_bytes("8GiB"), threads=1, precision="f32"
    )
    done = {row["case"] for row in read(options.table)} if options.table.exists() else set()
    found = sorted(options.scans.glob("*_0000.nii.gz"))
    names = options.names or [path.name.removesuffix("_0000.nii.gz") for path in found]
    with options.table.open("a", newline="") as file:
        table = csv.writer(file)
        if not done:
            table.writerow(COLUMNS)
        for name in names:
            if name in done:
                continue
            scan, source = read_scan(options.scans / f"{name}_0000.nii.gz")
            report = CaseReport()
            scores = score_scan(scan, source, cascade, report)
            labels = label_scan(scores, source, report)
            wanted, _ = read_scan(options.references / f"{name}.nii.gz")
            dice = dice_per_organ(labels, wanted.array)
            sure, expected = mean_confidence(scores), expected_dice(scores)
            for organ, told in sure.items():
                dsc = dice[organ] or 0.0
                table.writerow((name, organ, f"{dsc:.4f}", f"{told:.4f}", f"{expected[organ]:.4f}"))
            file.flush()
            print(f"{name}: {len(sure)} organs", flush=True)


def expected_dice(scores):
    inside, everywhere, voxels = np.zeros((3, len(CLASS_NAMES)))
    for plane in np.moveaxis(scores.steps, 1, 0):
        logits = plane.reshape(len(CLASS_NAMES), -1).astype(np.float32) / STEPS_PER_LOGIT
        probability = np.exp(logits - logits.max(axis=0))
        probability /= probability.sum(axis=0)
        labels = logits.argmax(axis=0)
        everywhere += probability.sum(axis=1, dtype=float)
        inside += np.bincount(labels, probability.max(axis=0), len(CLASS_NAMES))
        voxels += np.bincount(labels, minlength=len(CLASS_NAMES))
    return dict(zip(CLASS_NAMES, 2 * inside / (everywhere + voxels), strict=True))


def sum_up(rows):
    dsc = np.array([float(row["dsc"]) for row in rows])
    organs = np.array([row["organ"] for row in rows])
    well, levels = dsc >= WELL, [low for low in BELOW if (dsc < low).any()]
    counts = ", ".join(f"{(dsc < low).sum()} below {low}" for low in BELOW)
    print(f"{len(rows)} organs of {len({row['case'] for row in rows})} scans: {well.sum()} of DSC "
          f"{WELL} and above, {counts}")  # fmt: skip
    print("AUC: how often a bad organ has less of it than a good one, 0.5 by chance")
    for name in COLUMNS[3:]:
        told = np.array([float(row[name]) for row in rows])
        # What is usual differs from organ to organ: the same, against that organ's good ones.
        ways = {name: told, f"{name} less its organ's": told - usual(told, organs, well)}
        for way, values in ways.items():
            limit = np.quantile(values[well], FALSE_ALARMS)
            caught = ", ".join(
                f"DSC < {low}: AUC {auc(values[dsc < low], values[well]):.2f}, caught "
                f"{(values[dsc < low] < limit).sum()}" for low in levels
            )  # fmt: skip
            print(f"{way:32s} limit {limit:6.3f}, {(values[well] < limit).sum()} false; {caught}")
    told = np.array([float(row["mean_probability"]) for row in rows]) < LEAST_CONFIDENCE
    caught = ", ".join(f"DSC < {low}: {(told & (dsc < low)).sum()}" for low in BELOW)
    print(f"the rule that stands, below {LEAST_CONFIDENCE}: {(told & well).sum()} false; {caught}")


def odd_organs(record):
    """List the organs of each scan that count for `many_odd_organs`, those uncertain left out."""
    return {
        case["name"]: {
            flag["organ"]
            for flag in case["flags"]
            if flag["code"] not in (*OF_THE_SCAN, "low_confidence")
        }
        - {None}
        for case in json.loads(record.read_text())["cases"]
    }


def try_limits(rows, odd):
    """Tell what limits on the mean probability do: on all scans, and chosen on half of them."""
    print("limit on the mean probability: what it flags")
    for limit in LIMITS:
        print(f"  {limit:.3f}: {told_by(rows, limit)}{more_doubted(rows, limit, odd)}")
    cases = sorted({row["case"] for row in rows})
    for name, chosen_on in (("even", cases[::2]), ("odd", cases[1::2])):
        here = [row for row in rows if row["case"] in chosen_on]
        there = [row for row in rows if row["case"] not in chosen_on]
        well = [float(row["mean_probability"]) for row in here if float(row["dsc"]) >= WELL]
        if not well or not there:
            continue
        limit = float(np.quantile(well, FALSE_ALARMS))
        print(
            f"{limit:.3f}, chosen on the {name}-numbered {len(chosen_on)}: {told_by(here, limit)}"
        )
        print(f"       tried on the others: {told_by(there, limit)}")


def told_by(rows, limit):
    """Count what a limit flags among good and bad organs."""
    counts = []
    for name, low, high in [("good", WELL, 2.0), *((f"DSC < {most}", -1, most) for most in BELOW)]:
        group = [row for row in rows if low <= float(row["dsc"]) < high]
        flagged = sum(float(row["mean_probability"]) < limit for row in group)
        counts.append(f"{flagged} of {len(group)} {name}")
    return ", ".join(counts)


def more_doubted(rows, limit, odd):
    """Count the scans that the limit would give too many odd organs."""
    if odd is None:
        return ""
    uncertain = {case: set(organs) for case, organs in odd.items()}
    for row in rows:
        if float(row["mean_probability"]) < limit:
            uncertain[row["case"]].add(row["organ"])
    cases = {row["case"] for row in rows}
    before = sum(len(odd[case]) >= MANY_ODD for case in cases)
    after = sum(len(uncertain[case]) >= MANY_ODD for case in cases)
    return f"; scans with {MANY_ODD} odd organs: {before} before, {after} with it"


def usual(values, organs, well):
    """Give for each organ what its good ones have in the middle, or all if it has none."""
    middle = {}
    for organ in np.unique(organs):
        good = values[well & (organs == organ)]
        middle[organ] = np.median(good if good.size else values[well])
    return np.array([middle[organ] for organ in organs])


def auc(bad, good):
    less = bad[:, None] < good[None, :]
    return float(np.mean(less + 0.5 * (bad[:, None] == good[None, :])))


if __name__ == "__main__":
    main()
