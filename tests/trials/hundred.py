"""Does memory grow from scan to scan? A hundred small scans in one process.

Ten phantoms of different sizes, each linked ten times, are segmented by one
`predict`; the memory it holds is read from outside after each scan.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from resident import resident_after_each, slope

from app.imaging.geometry import Geometry
from app.imaging.io import write_volume
from app.imaging.volume import Volume
from app.synthesis.phantom import make_phantom

NUM_PHANTOMS = 10


def write_scans(folder, num_rounds):
    """Write phantoms, so that each round has one of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(NUM_PHANTOMS):
        path = folder / f"00_{seed}_0000.nii.gz"
        if not path.exists():
            shape, spacing_mm = (28 + seed, 48 + seed, 60 - seed), (7.0, 6.0, 6.0)
            hu, _ = make_phantom(shape=shape, spacing_mm=spacing_mm, seed=seed)
            write_volume(Volume(hu, Geometry(shape=shape, spacing_mm=spacing_mm)), path)
        for num in range(1, num_rounds):
            link = folder / f"{num:02d}_{seed}_0000.nii.gz"
            if not link.exists():
                link.hardlink_to(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder to fill")
    parser.add_argument("--rounds", type=int, default=10, help="scans of each phantom")
    parser.add_argument("options", nargs="*", help="for predict, such as -- --fast")
    options = parser.parse_args()
    write_scans(options.work / "scans", options.rounds)
    resident_mib = []
    folders = (options.work / "scans", options.work / "labels")
    for mib in resident_after_each(*folders, *options.options):
        resident_mib.append(mib)
        if len(resident_mib) % NUM_PHANTOMS == 0:
            of_round = resident_mib[-NUM_PHANTOMS:]
            mean = sum(of_round) / NUM_PHANTOMS
            print(f"{len(resident_mib)} scans: {mean:.1f} MiB resident", end="", flush=True)
            print(f" in the mean of the last {NUM_PHANTOMS}, most {max(of_round):.1f}", flush=True)
    growth = slope(resident_mib, NUM_PHANTOMS)
    print(f"{growth * 1024:+.1f} KiB a scan after the first {NUM_PHANTOMS}")


if __name__ == "__main__":
    main()
