"""What `evaluate` costs for one pair of label maps: seconds and peak MiB of a fresh process.

    python tests/trials/evaluation.py --work FOLDER [--size 512x512x600] [--protocol strict]

The reference is the label map of a phantom, all 13 organs at the size they have in people. The
prediction is the same moved by one voxel along each axis, so that next to no piece of a surface
lies on the other's and each has to be searched for: the dearest case. On two cores, 512x512x600
must take less than 20 s and 2 GiB; the exit code is 1 if it takes more.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.benchmark.cases import PhantomCase, make_phantom
from app.benchmark.watch import watch_process
from app.imaging.io import read_scan, write_volume
from app.imaging.volume import Volume

MOST_S, MOST_MIB = 20.0, 2048.0
# Of a scan as long as the headline scan, whatever the number of its voxels.
EXTENT_MM = (750.0, 459.8, 459.8)


def make_pair(folder, size_xyz):
    """Give the folders of predictions and references, made unless they are there."""
    shape = tuple(int(num) for num in reversed(size_xyz.split("x")))
    z, y, x = (round(mm / num, 4) for mm, num in zip(EXTENT_MM, shape, strict=True))
    case = PhantomCase(name=f"pair{size_xyz}", shape=shape, spacing_mm=(z, y, x))
    truth = make_phantom(case, folder).truth
    predictions = truth.parent.parent / "predictions"
    predictions.mkdir(exist_ok=True)
    moved = predictions / truth.name
    if not moved.exists() or moved.stat().st_mtime < truth.stat().st_mtime:
        labels, _ = read_scan(truth)
        array = np.roll(labels.array.astype(np.uint8), (1, 1, 1), axis=(0, 1, 2))
        write_volume(Volume(array, labels.geometry), moved)
    return predictions, truth.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder to fill")
    parser.add_argument("--size", default="512x512x600", help="voxels (x, y, z)")
    parser.add_argument("--protocol", default="flare24")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    predictions, references = make_pair(options.work, options.size)
    command = [sys.executable, "-m", "app", "evaluate", "--protocol", options.protocol]
    command += ["--predictions", str(predictions), "--references", str(references)]
    command += ["--output", str(options.work / "scores")]
    missed = False
    for _ in range(options.repeat):
        watched = watch_process(command)
        if watched.exit_code:
            raise SystemExit(f"{' '.join(command)}: exit code {watched.exit_code}")
        print(
            f"{options.size}: {watched.wall_s:.1f} s, {watched.curve.cpu_area_s:.1f} CPU·s, "
            f"peak {watched.peak_mib:.0f} MiB",
            flush=True,
        )
        missed |= watched.wall_s > MOST_S or watched.peak_mib > MOST_MIB
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
