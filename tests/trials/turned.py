"""How many scans stored mirrored, turned or stretched are flagged, and how many good ones are.

Each scan is written as it is and against its header in several ways: mirrored and turned, with
two axes exchanged, with slices said to lie half or twice as far apart. Then all are segmented
by `predict` in one process. A scan counts as caught if a flag about the whole scan is raised,
and as named if the flag tells the turn. Wrong spacing may show in the organs' sizes alone, so
the flags on organs are counted, too. With --judge-again nothing is segmented: label maps that
are there already are judged by today's checks, besides what their record tells.

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
from app.cascade.plausibility import judge
from app.imaging.geometry import Geometry
from app.imaging.io import read_scan, write_volume
from app.imaging.organ_placement import measure_placement, thin
from app.imaging.volume import Volume
from app.synthesis.appearance import draw_appearance, render
from app.synthesis.bank import read_body
from app.synthesis.phantom import make_phantom

SCAN_CODES = {
    *TURNS,
    "unlikely_arrangement",
    "many_odd_organs",
    "odd_proportions",
    "little_labeled",
    "no_abdomen",
    "no_organs",
}
# Coarse and quick: the networks work at 3 mm and more.
PHANTOM_SHAPE, PHANTOM_SPACING_MM = (90, 110, 130), (4.0, 3.2, 3.2)
# The axis of the scan (z, y, x) that each axis of the file is filled with.
EXCHANGED = {"planes_transposed": (0, 2, 1), "z_y_exchanged": (1, 0, 2), "z_x_exchanged": (2, 1, 0)}
# What the header's distance between slices is, as a multiple of the true one.
STRETCHED = {"z_halved": 0.5, "z_doubled": 2.0}
TURNED = ("right", *TURNS, *EXCHANGED, *STRETCHED)


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
            array, told_mm = turned(hu, spacing_mm, turn)
            geometry = Geometry(shape=array.shape, spacing_mm=told_mm)
            write_volume(Volume(array, geometry), path)


def turned(hu, spacing_mm, turn):
    """Give the scan as it is stored against its header, and the spacing that this tells."""
    flipped = [axis for axis, flip in enumerate(TURNS.get(turn, ())) if flip]
    array = np.flip(hu, flipped).transpose(EXCHANGED.get(turn, (0, 1, 2)))
    return array, (spacing_mm[0] * STRETCHED.get(turn, 1.0), *spacing_mm[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path)
    parser.add_argument("--phantoms", type=int, default=0)
    parser.add_argument("--bank", type=Path)
    parser.add_argument("--bodies", type=int, default=12)
    parser.add_argument("--turns", nargs="+", choices=TURNED, default=TURNED)
    parser.add_argument("--work", type=Path, required=True, help="folder to fill")
    parser.add_argument("--predict", nargs="*", default=[], help="further options, such as -- -v")
    parser.add_argument("--judge-again", action="store_true", help="predict nothing")
    options = parser.parse_args()
    labels = options.work / "labels"
    if options.judge_again:
        report(list(judged_again(labels)))
        return
    write_turned(options, options.work / "scans")
    command = [sys.executable, "-m", "app", "predict", "--threads", "1", "--resume"]
    command += ["--input", str(options.work / "scans"), "--output", str(labels)]
    command += options.predict
    subprocess.run(command, check=False)
    report(json.loads((labels / "run.json").read_text())["cases"])


def judged_again(labels):
    for case in json.loads((labels / "run.json").read_text())["cases"]:
        volume, _ = read_scan(labels / f"{case['name']}.nii.gz")
        coarse = thin(volume.array.astype(np.uint8), volume.geometry.spacing_mm)
        anew = [
            {"code": flag.code, "organ": flag.organ} for flag in judge(measure_placement(*coarse))
        ]
        yield case | {"flags": case["flags"] + anew}


def report(cases):
    told = {turn: [] for turn in TURNED}
    for case in cases:
        turn = case["name"].rpartition("__")[2]
        codes = {flag["code"] for flag in case["flags"]}
        organs = {flag["organ"] for flag in case["flags"]} - {None}
        told[turn].append((bool(codes & SCAN_CODES), turn in codes, case["name"], len(organs)))
    for turn, rows in told.items():
        flagged, named = sum(row[0] for row in rows), sum(row[1] for row in rows)
        if not rows:
            continue
        organs = sum(row[3] for row in rows) / len(rows)
        print(
            f"{turn:17s} {len(rows):3d} scans, {flagged:3d} flagged, {named:3d} by name; "
            f"organs flagged {organs:.1f} of 13"
        )
        wrong = [row[2] for row in rows if row[0] == (turn == "right")]
        print(
            "  " + ("flagged: " if turn == "right" else "missed: ") + (", ".join(wrong) or "none")
        )


if __name__ == "__main__":
    main()
