"""How many scans stored mirrored or turned are flagged, and how many good ones are.

Each scan is written as it is and turned against its header in several ways, then
segmented by `predict` in one process. A scan counts as caught if a flag about the
whole scan is raised, and as named if the flag tells the turn.

Scans: .nii.gz files in a folder, phantoms (--phantoms N), bodies of a bank (--bank).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.cascade.arrangement import TURNS
from app.imaging.geometry import Geometry
from app.imaging.io import read_scan, write_volume
from app.imaging.volume import Volume
from app.synthesis.appearance import draw_appearance, render
from app.synthesis.bank import read_body
from app.synthesis.phantom import make_phantom

SCAN_CODES = {
    *TURNS,
    "unlikely_arrangement",
    "many_odd_organs",
    "little_labeled",
    "no_abdomen",
    "no_organs",
}
# Coarse and quick: the networks work at 3 mm and more.
PHANTOM_SHAPE, PHANTOM_SPACING_MM = (90, 110, 130), (4.0, 3.2, 3.2)
TURNED = {"right": (False, False, False), **TURNS}


def scans(options):
    """Yield name, HU and spacing of every scan asked for."""
    for path in sorted(options.scans.glob("*_0000.nii.gz")) if options.scans else []:
        scan, _ = read_scan(path)
        every = [max(1, round(1.6 / step)) for step in scan.geometry.spacing_mm]
        hu = scan.array[:: every[0], :: every[1], :: every[2]]
        spacing_mm = np.multiply(scan.geometry.spacing_mm, every)
        yield path.name.removesuffix("_0000.nii.gz"), hu, tuple(spacing_mm.tolist())
    for seed in range(options.phantoms):
        hu, _ = make_phantom(shape=PHANTOM_SHAPE, spacing_mm=PHANTOM_SPACING_MM, seed=seed)
        yield f"phantom_{seed}", hu, PHANTOM_SPACING_MM
    bodies = sorted(options.bank.glob("*.npz")) if options.bank else []
    for seed, path in enumerate(bodies[:: max(1, len(bodies) // max(1, options.bodies))]):
        body = read_body(path)
        tissues = body.tissues[::2, ::2, ::2]
        spacing_mm = tuple(2 * step for step in body.spacing_mm)
        rng = np.random.default_rng(seed)
        hu = render(tissues, spacing_mm, draw_appearance(rng), rng)
        yield f"body_{body.name}", np.rint(hu).astype(np.int16), spacing_mm


def write_turned(options, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, hu, spacing_mm in scans(options):
        for turn in options.turns:
            path = folder / f"{name}__{turn}_0000.nii.gz"
            if path.exists():
                continue
            axes = [axis for axis, flip in enumerate(TURNED[turn]) if flip]
            geometry = Geometry(shape=hu.shape, spacing_mm=spacing_mm)
            write_volume(Volume(np.flip(hu, axes), geometry), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--phantoms", type=int, default=0)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--bodies", type=int, default=12)
    parser.add_argument("--turns", nargs="+", choices=TURNED, default=list(TURNED))
    parser.add_argument("--work", type=Path, required=True, help="folder to fill")
    parser.add_argument("--predict", nargs="*", default=[], help="further options, such as -- -v")
    options = parser.parse_args()
    write_turned(options, options.work / "scans")
    command = [sys.executable, "-m", "app", "predict", "--threads", "1", "--resume"]
    command += ["--input", str(options.work / "scans"), "--output", str(options.work / "labels")]
    command += options.predict
    subprocess.run(command, check=False)
    report(json.loads((options.work / "labels" / "run.json").read_text())["cases"])


def report(cases):
    told = {turn: [] for turn in TURNED}
    for case in cases:
        turn = case["name"].rpartition("__")[2]
        codes = {flag["code"] for flag in case["flags"]}
        told[turn].append((bool(codes & SCAN_CODES), turn in codes, case["name"], len(codes)))
    for turn, rows in told.items():
        flagged, named = sum(row[0] for row in rows), sum(row[1] for row in rows)
        print(f"{turn:14s} {len(rows):3d} scans, {flagged:3d} flagged, {named:3d} by name")
        wrong = [row[2] for row in rows if row[0] == (turn == "right")]
        print(
            "  " + ("flagged: " if turn == "right" else "missed: ") + (", ".join(wrong) or "none")
        )


if __name__ == "__main__":
    main()
