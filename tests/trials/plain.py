"""How far `predict` is from the plain way of computing the same, on a folder of scans.

    python tests/trials/plain.py --scans FOLDER --work FOLDER [--precision f32] [--weights weights]

For each NIfTI scan the DSC of every organ between the label map that `predict` writes and the one
of `tests/plain_pipeline.py`: 0.995 is asked for, 0.99 of adrenal glands and gallbladder. The exit
code is 1 where one is below. The plain way takes minutes a scan, and all its class scores at once:
some GiB for a long one.
"""

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.benchmark.compare import dice_per_organ
from app.config import DEFAULT_WEIGHTS
from app.imaging.io import read_scan
from app.labels import ORGANS
from tests.plain_pipeline import plain_labels

SMALL_ORGANS = {"right_adrenal_gland", "left_adrenal_gland", "gallbladder"}


def is_low(organ, dsc):
    """Tell whether the agreement on an organ misses what is asked for."""
    return dsc < (0.99 if organ in SMALL_ORGANS else 0.995)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path, required=True, help="folder of .nii.gz files")
    parser.add_argument("--work", type=Path, required=True, help="folder for the label maps")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--precision", default="f32")
    options = parser.parse_args()
    command = [sys.executable, "-m", "app", "predict", "--input", str(options.scans)]
    command += ["--output", str(options.work), "--weights", str(options.weights)]
    subprocess.run([*command, "--precision", options.precision], check=True)
    worst, missed = {}, 0
    for path in sorted(options.scans.glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz").removesuffix("_0000")
        found, _ = read_scan(options.work / f"{name}.nii.gz")
        agreement = dice_per_organ(found.array, plain_labels(path, options.weights))
        told = []
        for organ in ORGANS:
            dsc = agreement[organ.name]
            if dsc is None:
                continue
            missed += is_low(organ.name, dsc)
            worst[organ.name] = min(dsc, worst.get(organ.name, 1.0))
            told.append(f"{organ.name} {dsc:.4f}{' LOW' if is_low(organ.name, dsc) else ''}")
        print(f"{name}: {', '.join(told) or 'no organs'}", flush=True)
    print("| organ | least DSC |", "|---|---|", sep="\n")
    for organ, dsc in worst.items():
        print(f"| {organ.replace('_', ' ')} | {dsc:.4f} |")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
