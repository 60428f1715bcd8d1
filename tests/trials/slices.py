"""Draw slices of a scan, each beside the same with its label map: the model card's pictures.

Height 0 is the lowest slice of the scan, 1 the highest. Left in the picture is the
patient's right.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.imaging.io import read_scan
from app.labels import ORGANS

WINDOW_HU = (-160.0, 240.0)
OPACITY = 0.45


def draw(scan, labels, height, width):
    """Give a slice and the same with its labels, ``width`` pixels each, (rows, columns, 3)."""
    index = round(height * (scan.array.shape[0] - 1))
    _, step_y, step_x = scan.geometry.spacing_mm
    low, high = WINDOW_HU
    gray = np.clip((scan.array[index] - low) / (high - low), 0, 1)
    plain = np.repeat(255 * gray[..., None], 3, axis=2)
    colors = np.zeros((len(ORGANS) + 1, 3))
    for organ in ORGANS:
        colors[organ.value] = organ.color
    of_slice = labels.array[index]
    painted = (1 - OPACITY) * plain + OPACITY * colors[of_slice]
    painted = np.where(of_slice[..., None] > 0, painted, plain)
    rows, columns = of_slice.shape
    size = (width, round(width * rows * step_y / (columns * step_x)))
    pair = [
        np.asarray(Image.fromarray(half.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR))
        for half in (plain, painted)
    ]
    return np.concatenate(pair, axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--heights", type=float, nargs="+", required=True)
    parser.add_argument("--width", type=int, default=300, help="pixels of each of the two")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    (scan, _), (labels, _) = read_scan(options.scan), read_scan(options.labels)
    rows = [draw(scan, labels, height, options.width) for height in options.heights]
    picture = Image.fromarray(np.concatenate(rows))
    picture.quantize(method=Image.Quantize.MAXCOVERAGE).save(options.output, optimize=True)


if __name__ == "__main__":
    main()
