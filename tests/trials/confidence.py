"""How often a label is right, by how sure the network said it was.

Takes what `predict --confidence` wrote and the references of the same scans, and counts the
voxels that were given to an organ, over all cases.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.imaging.io import read_scan

EDGES = (0, 40, 60, 80, 95, 101)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, required=True, help="the folder predict wrote to")
    parser.add_argument("--references", type=Path, required=True)
    options = parser.parse_args()
    counts = np.zeros((len(EDGES) - 1, 2), int)
    for path in sorted(options.references.glob("*.nii.gz")):
        places = (options.labels, options.labels / "confidence", options.references)
        found, percent, wanted = (read_scan(folder / path.name)[0].array for folder in places)
        organs = found > 0
        for right in (True, False):
            of_these = percent[organs & ((found == wanted) == right)]
            counts[:, int(right)] += np.histogram(of_these, EDGES)[0]
    print("| confidence | organ voxels | right |", "|---|---|---|", sep="\n")
    for low, high, (wrong, right) in zip(EDGES, EDGES[1:], counts, strict=False):
        share = f"{right / (right + wrong):.0%}" if right + wrong else ""
        print(f"| {low} to {high - 1} | {right + wrong:,} | {share} |")


if __name__ == "__main__":
    main()
