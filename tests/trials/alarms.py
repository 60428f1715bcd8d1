"""Which flags on organs are right, where references are at hand?

Reads the record of a `predict` and the scores that `evaluate` made of its label maps.
A flag on an organ is a false alarm if the organ agrees well with the reference; an
organ that agrees badly and has no flag is a miss. Organs that neither has are `nowhere`.
"""

import argparse
import collections
import csv
import json
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.trials.turned import SCAN_CODES

WELL, BADLY = 0.8, 0.5
# Said of the scan rather than of the label map: true however well the organ agrees.
ABOUT_THE_SCAN = {"cut_by_field_of_view"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, required=True, help="run.json")
    parser.add_argument("--scores", type=Path, required=True, help="scores.csv")
    options = parser.parse_args()
    with options.scores.open(newline="") as file:
        rows = list(csv.DictReader(file))
    dice = {(row["case"], row["organ"]): float(row["dsc"]) for row in rows if row["dsc"]}
    flags, whole = collections.defaultdict(list), []
    cases = [c for c in json.loads(options.record.read_text())["cases"] if c["status"] == "ok"]
    for case in cases:
        for flag in case["flags"]:
            if flag["code"] in SCAN_CODES:
                whole.append((case["name"], flag["code"]))
            elif (place := (case["name"], flag["organ"])) in dice:
                flags[flag["code"]].append(place)
    organs = [place for place in dice if place[0] in {case["name"] for case in cases}]
    print(f"{len(cases)} scans, {len(organs)} organs; flagged as a whole: {whole or 'none'}")
    print(f"{'code':22s} flags  DSC {WELL} and above  below {BADLY}  nowhere")
    for code, places in sorted(flags.items()):
        scores = [dice[place] for place in places]
        well, badly = sum(one >= WELL for one in scores), sum(one < BADLY for one in scores)
        nowhere = sum(math.isnan(one) for one in scores)
        print(f"{code:22s} {len(places):5d}  {well:17d}  {badly:9d}  {nowhere:7d}")
    told = {place for code, places in flags.items() if code not in ABOUT_THE_SCAN
            for place in places}  # fmt: skip
    for name, group in (
        (f"of DSC {WELL} and above", [place for place in organs if dice[place] >= WELL]),
        (f"of DSC below {BADLY}", [place for place in organs if dice[place] < BADLY]),
    ):
        print(f"{len(group)} organs {name}: {len(told.intersection(group))} flagged")


if __name__ == "__main__":
    main()
