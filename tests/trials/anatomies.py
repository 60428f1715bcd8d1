"""How many label maps of real people are flagged, as they are and turned around.

No network is asked: this is what the check of the arrangement can tell where every
organ is labeled right. Each label map is taken whole and as slabs of few slices.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.cascade.arrangement import TURNS, better_turn
from app.cascade.plausibility import judge
from app.imaging.io import read_scan
from app.imaging.organ_placement import measure_placement, thin

# Said of an organ, but telling how the scan lies.
OF_THE_SCAN = {"cut_by_field_of_view", "not_found"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anatomies", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th label map")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    told, num_odd = {}, {}
    organ_flags = []
    for path in sorted(options.anatomies.glob("*.nii*"))[:: options.every]:
        volume, _ = read_scan(path)
        labels, spacing_mm = thin(volume.array.astype(np.uint8), volume.geometry.spacing_mm)
        for length_mm in (1000, 150, 90):
            num = min(len(labels), round(length_mm / spacing_mm[0]))
            first = int(rng.integers(0, len(labels) - num + 1))
            for turn, flips in {"right": (False,) * 3, **TURNS}.items():
                axes = [axis for axis, flip in enumerate(flips) if flip]
                part = np.flip(labels[first : first + num], axes)
                placements = measure_placement(part, spacing_mm)
                flags = judge(placements)
                odd = any(flag.code == "unlikely_arrangement" for flag in flags)
                named = odd and better_turn(placements) == turn
                told.setdefault((length_mm, turn), []).append((odd, named))
                if turn == "right":
                    odd_organs = {flag.organ for flag in flags if flag.code not in OF_THE_SCAN}
                    num_odd.setdefault(length_mm, []).append(len(odd_organs - {None}))
                if length_mm == 1000 and turn == "right":
                    organ_flags += [flag.code for flag in flags if flag.organ]
                    if odd:
                        print(f"flagged as it is: {path.name}")
    for (length_mm, turn), rows in told.items():
        odd, named = np.mean(rows, axis=0) * 100
        print(f"{length_mm:5d} mm {turn:14s} {odd:5.1f} % flagged, {named:5.1f} % by name")
    for length_mm, nums in num_odd.items():
        print(f"{length_mm:5d} mm as they are: at most {max(nums)} organs odd in themselves")
    for code in sorted(set(organ_flags)):
        print(f"whole, as they are: {organ_flags.count(code)} x {code}")


if __name__ == "__main__":
    main()
