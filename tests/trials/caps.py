"""How often the system ends the program for its memory: in control groups, and under `ulimit -v`.

Under each limit one `predict` gets all scans, from the smallest to the largest. A scan may be
done, or refused with the size it would need; anything else is a kill or a failure. Where a
scan was done, the table gives the memory planned and the process's highest use, in MiB.

Phantoms of the benchmark's sizes, made once in --work; --scans adds further ones. Making
groups needs root, and Linux with control groups of version 1 or 2.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.benchmark.cases import CASES, make_phantom
from app.cascade.memory import GIB, KIB

GROUPS = Path("/sys/fs/cgroup")
IN_GROUP = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
UNDER_ULIMIT = 'ulimit -v "$0" && exec "$@"'


@contextlib.contextmanager
def group(limit_bytes):
    """Make a control group with a memory limit."""
    is_old = (GROUPS / "memory").is_dir()
    folder = (GROUPS / "memory" if is_old else GROUPS) / f"abdomen-caps-{os.getpid()}"
    if not is_old:
        (GROUPS / "cgroup.subtree_control").write_text("+memory")
    folder.mkdir()
    try:
        name = "memory.limit_in_bytes" if is_old else "memory.max"
        (folder / name).write_text(str(int(limit_bytes)))
        with contextlib.suppress(OSError):  # no swap, where there is any
            (folder / "memory.swap.max").write_text("0")
        yield folder
    finally:
        folder.rmdir()


def num_kills(folder):
    """Read how often the system has ended a process of a group."""
    files = ("memory.events", "memory.oom_control")
    lines = [line for name in files for line in read(folder / name).splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def read(path):
    return path.read_text() if path.exists() else ""


def predict(wrapper, argument, scans, output, options):
    command = [sys.executable, "-m", "app", "predict", "--input", str(scans)]
    command += ["--output", str(output), "--threads", str(options.threads)]
    command += ["--precision", options.precision, *options.predict]
    return subprocess.run(
        ["sh", "-c", wrapper, str(argument), *command], capture_output=True, text=True
    )


def outcomes(finished, output, names):
    """Tell for every scan what became of it, and print it; give how many were lost."""
    path = output / "run.json"
    record = json.loads(path.read_text()) if path.exists() else {"cases": []}
    cases = {case["name"]: case for case in record["cases"]}
    num_lost = 0
    for name in names:
        case = cases.get(name)
        if case is None and finished.returncode == 2 and "the program alone" in finished.stderr:
            print(f"    {name:14s} refused before it started")
        elif case is None:
            num_lost += 1
            print(f"    {name:14s} LOST: exit code {finished.returncode} {finished.stderr[-200:]}")
        elif case["status"] == "ok":
            print(f"    {name:14s} done, planned {case['planned_mib']}, peak {case['peak_mib']}")
        elif "needs about" in case["error"]:
            print(f"    {name:14s} refused: needs about{case['error'].split('needs about')[1]}")
        else:
            num_lost += 1
            print(f"    {name:14s} FAILED: {case['error']}")
    return num_lost


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder to fill")
    parser.add_argument("--scans", type=Path, help="folder of further scans")
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--groups-gib", type=float, nargs="*", default=[1, 1.5, 2, 3, 4, 6, 8])
    parser.add_argument("--ulimits-gib", type=float, nargs="*", default=[1, 1.5, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="f32", help="f32 takes the most memory")
    parser.add_argument("--predict", nargs="*", default=[], help="further options, such as -- -v")
    options = parser.parse_args()
    scans = options.work / "scans"
    scans.mkdir(parents=True, exist_ok=True)
    phantoms = [make_phantom(case, options.work) for case in CASES if case.name in options.cases]
    found = [path for made in phantoms for path in made.folder.iterdir()]
    found += options.scans.iterdir() if options.scans else []
    found = sorted(found, key=lambda path: path.stat().st_size)
    # They are worked on in the order of their names: large ones find what small ones have left.
    for index, path in enumerate(found):
        link = scans / f"{index}_{path.name}"
        if not link.exists():
            link.hardlink_to(path.resolve())
    names = [path.name.partition("_0000")[0] for path in sorted(scans.iterdir())]
    num_killed = num_lost = num_runs = 0
    limits = [(IN_GROUP, gib) for gib in options.groups_gib]
    limits += [(UNDER_ULIMIT, gib) for gib in options.ulimits_gib]
    for wrapper, gib in limits:
        kind = "control group" if wrapper is IN_GROUP else "ulimit -v"
        output = options.work / f"labels-{kind.replace(' ', '-')}-{gib:g}"
        print(f"{kind} of {gib:g} GiB")
        with contextlib.ExitStack() as stack:
            argument = int(gib * GIB / KIB)
            folder = None
            if wrapper is IN_GROUP:
                argument = folder = stack.enter_context(group(gib * GIB))
            started = time.perf_counter()
            finished = predict(wrapper, argument, scans, output, options)
            killed = num_kills(folder) if folder else 0
        num_killed += max(killed, finished.returncode in (-9, 137))
        num_lost += outcomes(finished, output, names)
        num_runs += len(names)
        print(f"    {time.perf_counter() - started:.0f} s, {killed} kills", flush=True)
    print(f"{num_runs} scans under {len(limits)} limits: {num_killed} kills, {num_lost} lost")
    sys.exit(1 if num_killed or num_lost else 0)


if __name__ == "__main__":
    main()
