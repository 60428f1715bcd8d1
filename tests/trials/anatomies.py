"""How many label maps of real people are flagged, as they are, turned around and stretched.

No network is asked: this is what the checks of arrangement and proportions can tell where every
organ is labeled right. Each label map is taken whole and as slabs of few slices.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.cascade.arrangement import TURNS, better_turn
from app.cascade.plausibility import judge
from app.cascade.proportions import find_stretch
from app.imaging.io import read_scan
from app.imaging.organ_placement import measure_placement, thin

# Said of an organ, but telling how the scan lies.
OF_THE_SCAN = {"cut_by_field_of_view", "not_found"}
# What the header's distance between slices is, as a multiple of the true one.
STRETCHED = {"z_halved": 1 / 2, "z_by_two_thirds": 2 / 3, "z_by_1.5": 1.5, "z_doubled": 2.0}
WAYS = ("right", *TURNS, *STRETCHED)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anatomies", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th label map")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    told, num_odd, deviations = {}, {}, {}
    organ_flags = []
    for path in sorted(options.anatomies.glob("*.nii*"))[:: options.every]:
        volume, _ = read_scan(path)
        labels, spacing_mm = thin(volume.array.astype(np.uint8), volume.geometry.spacing_mm)
        for length_mm in (1000, 150, 90):
            num = min(len(labels), round(length_mm / spacing_mm[0]))
            first = int(rng.integers(0, len(labels) - num + 1))
            for way in options.ways:
                axes = [axis for axis, flip in enumerate(TURNS.get(way, ())) if flip]
                part = np.flip(labels[first : first + num], axes)
                told_mm = (spacing_mm[0] * STRETCHED.get(way, 1.0), *spacing_mm[1:])
                placements = measure_placement(part, told_mm)
                flags = judge(placements)
                codes = {flag.code for flag in flags}
                odd = "unlikely_arrangement" in codes
                named = odd and better_turn(placements) == way
                stretched = "odd_proportions" in codes
                told.setdefault((length_mm, way), []).append((odd, named, stretched))
                if way != "right":
                    continue
                odd_organs = {flag.organ for flag in flags if flag.code not in OF_THE_SCAN}
                num_odd.setdefault(length_mm, []).append(len(odd_organs - {None}))
                if (stretch := find_stretch(placements)) is not None:
                    deviations.setdefault(length_mm, []).append(stretch.deviation)
                if length_mm == 1000:
                    organ_flags += [flag.code for flag in flags if flag.organ]
                if stretched or (odd and length_mm == 1000):
                    print(f"flagged as it is: {path.name}, {length_mm} mm")
    for (length_mm, way), rows in told.items():
        odd, named, stretched = np.mean(rows, axis=0) * 100
        print(
            f"{length_mm:5d} mm {way:15s} {odd:5.1f} % flagged by arrangement, {named:5.1f} % by "
            f"name; {stretched:5.1f} % by proportions"
        )
    for length_mm, nums in num_odd.items():
        print(f"{length_mm:5d} mm as they are: at most {max(nums)} organs odd in themselves")
    for length_mm, found in deviations.items():
        low, high = np.min(found), np.max(found)
        print(
            f"{length_mm:5d} mm as they are: proportions of {len(found)}, {low:.2f} to {high:.2f}"
        )
    for code in sorted(set(organ_flags)):
        print(f"whole, as they are: {organ_flags.count(code)} x {code}")


if __name__ == "__main__":
    main()
