"""What phase two costs and labels with other overlaps of its patches than the shipped one.

    python tests/trials/overlap.py --scans DIR [--overlaps 0.125 0.25 0.5] [--weights DIR]
        [--output DIR]

Without --output the patches of the first look are counted, which takes phase one alone. With it
scans are segmented, second looks included, and label maps go to DIR/<overlap>; `python -m app
evaluate` scores them.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.cascade.bundle import Cascade, open_cascade
from app.cascade.locate import locate
from app.cascade.pipeline import segment_scan
from app.cascade.placement import place_patches
from app.cascade.segment import _wanted, reach_down, reach_out, region_of
from app.imaging.io import read_scan


def main() -> None:
    """Print patches per scan and overlap, then their means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--overlaps", type=float, nargs="+", default=[0.125, 0.25, 0.5])
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    cascade = open_cascade(options.weights, memory_limit_bytes=8 * 2**30, precision="f32")
    print(f"{'overlap':16}", *(f"{overlap:6.3f}" for overlap in options.overlaps))
    counts = []
    for path in sorted(options.scans.glob("*_0000.nii.gz")):
        row = [
            _count(path, cascade, overlap)
            if options.output is None
            else _segment(path, cascade, overlap, options.output)
            for overlap in options.overlaps
        ]
        counts.append(row)
        name = path.name.removesuffix("_0000.nii.gz")
        print(f"{name:16}", *(f"{count:6d}" for count in row), flush=True)
    print(f"{'mean':16}", *(f"{mean:6.2f}" for mean in np.mean(counts, axis=0)))


def _with_overlap(cascade: Cascade, overlap: float) -> Cascade:
    config = replace(cascade.segment.config, overlap=overlap)
    return replace(cascade, segment=replace(cascade.segment, config=config))


def _segment(path: Path, cascade: Cascade, overlap: float, output: Path) -> int:
    target = output / f"{overlap}" / path.name.replace("_0000", "")
    target.parent.mkdir(parents=True, exist_ok=True)
    return segment_scan(path, target, _with_overlap(cascade, overlap)).num_patches


def _count(path: Path, cascade: Cascade, overlap: float) -> int:
    config = _with_overlap(cascade, overlap).segment.config
    found = locate(read_scan(path)[0], cascade.locate)
    if found is None:
        return 0
    region = region_of(found, config)
    reached = reach_out(found, region, config)
    lower = reach_down(found, reached, region, config)
    wanted = _wanted(*(lower or (reached, region)))
    return len(place_patches(wanted, config.patch_shape, overlap))


if __name__ == "__main__":
    main()
