"""What the choices of `predict` save and cost: the table of docs/site/outputs.md.

Each choice segments the same scans in a process of its own, one after the other. Processor
time is that of the whole process, start-up and reading included: on a busy machine it
says more than wall time. DSC is the mean over the organs that a reference holds, then over cases;
without references there is none.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

CHOICES = {
    "all 13 organs": [],
    "`--statistics`": ["--statistics"],
    "`--confidence`": ["--confidence"],
    "`--organs liver,spleen`": ["--organs", "liver,spleen"],
    "`--fast`": ["--fast"],
    "`--boxes-only`": ["--boxes-only"],
}
HEAD = ("", "processor s", "wall s", "peak MiB", "patches", "mean DSC")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path, required=True, help="folder of scans, or one scan")
    parser.add_argument("--references", type=Path, help="their label maps, and no others")
    parser.add_argument("--work", type=Path, required=True, help="folder for the results")
    parser.add_argument("--threads", default="1")
    options = parser.parse_args()
    print(row(HEAD), row("---" for _ in HEAD), sep="\n")
    for number, (choice, flags) in enumerate(CHOICES.items()):
        folder = options.work / str(number)
        figures = measure(options, folder, flags)
        print(row([choice, *figures, mean_dsc(folder, options.references, flags)]), flush=True)


def measure(options, folder, flags):
    """Segment all scans; give processor and wall seconds, peak MiB and patches."""
    command = [sys.executable, "-m", "app", "predict", "--input", str(options.scans)]
    command += ["--output", str(folder), "--threads", options.threads, *flags]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)}: exit code {os.waitstatus_to_exitcode(status)}")
    cases = json.loads((folder / "run.json").read_text())["cases"]
    return (
        f"{usage.ru_utime + usage.ru_stime:.1f}",
        f"{wall_s:.1f}",
        max(case["peak_mib"] for case in cases),
        sum(case["num_patches"] for case in cases),
    )


def mean_dsc(folder, references, flags):
    """Score the label maps, if all organs were asked for and there is something to score by."""
    if references is None or "--organs" in flags or "--boxes-only" in flags:
        return ""
    command = [sys.executable, "-m", "app", "evaluate", "--protocol", "strict"]
    command += ["--predictions", str(folder), "--references", str(references)]
    subprocess.run(
        [*command, "--output", str(folder / "scores")], check=True, stdout=subprocess.DEVNULL
    )
    by_case = {}
    with (folder / "scores" / "scores.csv").open(newline="") as file:
        for score in csv.DictReader(file):
            if float(score["volume_ref_ml"]) > 0:
                by_case.setdefault(score["case"], []).append(float(score["dsc"]))
    means = [sum(scores) / len(scores) for scores in by_case.values()]
    return f"{sum(means) / len(means):.3f}"


def row(cells):
    """Give a row of a table in Markdown."""
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
