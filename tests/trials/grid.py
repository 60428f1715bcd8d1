"""What phase two's grid alone costs: label maps taken to it and back, with nothing to recognize.

    python tests/trials/grid.py --references DIR --output DIR [--spacings 1.5 2.0 2.4 3.0]

The labels of the nearest voxel are put on an isotropic grid, as in training, and brought back as
scores are (`app/cascade/restore.py`). They go to OUTPUT/<spacing>; `python -m app evaluate`
tells how well they agree with the references: no network on that grid can be expected to do better.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.imaging.crop import bounding_box
from app.imaging.io import write_label_map
from app.imaging.label_maps import read_label_map
from app.imaging.resample import resample_linear, resample_nearest
from app.labels import NUM_CLASSES


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--spacings", type=float, nargs="+", default=[1.5, 2.0, 2.4, 3.0])
    options = parser.parse_args()
    for path in sorted(options.references.glob("*.nii.gz")):
        reference = read_label_map(path)
        labels, spacing_mm = reference.in_lps, reference.source.geometry.spacing_mm
        part = bounding_box(labels > 0, spacing_mm, margin_mm=10.0).slices
        for spacing in options.spacings:
            taken = np.zeros_like(labels)
            taken[part] = there_and_back(labels[part], spacing_mm, (spacing,) * 3)
            target = options.output / f"{spacing}" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            write_label_map(taken, reference.source, target)
        print(path.name, flush=True)


def there_and_back(labels, spacing_mm, grid_mm):
    """Take labels to a grid and back, the largest share of the voxels around deciding."""
    coarse = resample_nearest(labels, spacing_mm, grid_mm)
    best = np.zeros(labels.shape, np.float32)
    decided = np.zeros(labels.shape, np.uint8)
    for value in range(NUM_CLASSES):
        share = (coarse == value).astype(np.float32)
        share = resample_linear(share, grid_mm, spacing_mm, labels.shape)
        more = share > best
        best[more] = share[more]
        decided[more] = value
    return decided


if __name__ == "__main__":
    main()
