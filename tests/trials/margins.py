"""What phase one's box holds of the organs, and how large it is, by the room left around them.

    python tests/trials/margins.py --scans DIR --references DIR [--weights DIR]
        [--margins Z,Y,X ...]

Recall is the share of the organs' voxels that lie in the box; the ratio is its volume by that of
the smallest box that holds them all. A look of phase two beyond the box is not in these figures.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.cascade.bundle import open_phase
from app.cascade.locate import Abdomen, locate
from app.imaging.crop import bounding_box, box_on_grid
from app.imaging.geometry import Box, SpacingZYX
from app.imaging.io import read_scan

MARGINS_MM = ("20,15,15", "16,12,12", "12,12,12", "8,8,8")


def main() -> None:
    """Print a row per scan and margin, then a row per margin."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--references", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--margins", nargs="+", default=MARGINS_MM)
    options = parser.parse_args()
    margins = [tuple(map(float, margin.split(","))) for margin in options.margins]
    phase = open_phase(options.weights / "locate", "locate")
    rows = {margin: [] for margin in margins}
    for path in sorted(options.references.glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        organs = read_scan(path, as_labels=True)[0].array > 0
        scan, _ = read_scan(options.scans / f"{name}_0000.nii.gz")
        ideal = bounding_box(organs, scan.geometry.spacing_mm)
        found, cells = locate(scan, phase), []
        for margin in margins:
            box = _box(found, margin) if found else None
            recall = organs[box.slices].sum() / organs.sum() if box else 0.0
            ratio = np.prod(box.shape) / np.prod(ideal.shape) if box else np.nan
            rows[margin].append((recall, ratio))
            cells.append(f"{recall:.4f} {ratio:5.2f}")
        print(f"{name:16}", "   ".join(cells), flush=True)
    for margin, scores in rows.items():
        recall, ratio = np.array(scores).T
        print(
            f"margin {margin} mm: least recall {recall.min():.4f}, "
            f"{np.mean(recall < 0.999):.0%} below 0.999; "
            f"ratio at most {np.nanmax(ratio):.2f}, mean {np.nanmean(ratio):.2f}"
        )


def _box(found: Abdomen, margin_mm: SpacingZYX) -> Box:
    """Give the box that phase one would have made with another margin."""
    coarse, grid = found.foreground, found.geometry
    organs = bounding_box(coarse, found.spacing_mm)
    return box_on_grid(
        organs, coarse.shape, found.spacing_mm, grid.shape, grid.spacing_mm, margin_mm
    )


if __name__ == "__main__":
    main()
