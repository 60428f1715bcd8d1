"""What the networks make of a real scan that is stored otherwise, cut, spoiled or none at all.

One scan of a torso is written in many ways, and all are segmented by one `predict`. Each row of
the table tells the volume of all organs, the mean Dice against the label map of the whole scan
(of the part that is left of it), and what `run.json` warns of.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pydicom.uid import JPEG2000Lossless

from app.benchmark.compare import dice_per_organ, mean_dice
from app.imaging.geometry import Geometry
from app.imaging.io import read_scan, write_volume
from app.imaging.volume import Volume
from tests import dicom_files

WHOLE = "whole"
METAL_HU, METAL_RADIUS_MM = 3071, 18.0
UPPER_MM, LOWER_MM = 45.0, 75.0


def metal(hu, spacing_mm):
    """Put two balls into the sides of the body, half way up."""
    spoiled = hu.copy()
    places = np.ogrid[tuple(slice(size) for size in hu.shape)]
    for x in (0.25, 0.75):
        center = np.multiply(hu.shape, (0.5, 0.5, x))
        apart = [
            (one - at) * step for one, at, step in zip(places, center, spacing_mm, strict=True)
        ]
        spoiled[sum(one**2 for one in apart) < METAL_RADIUS_MM**2] = METAL_HU
    return spoiled


def water(hu, spacing_mm):
    """Fill a cylinder with noisy water."""
    _, y, x = np.ogrid[tuple(slice(size) for size in hu.shape)]
    _, height, width = hu.shape
    inside = ((y / height - 0.5) ** 2 + (x / width - 0.5) ** 2 < 0.16) & np.ones(hu.shape, bool)
    noise = np.random.default_rng(3).normal(0, 15, hu.shape)
    return np.where(inside, noise, -1000).astype(np.int16)


def magnetic(hu, spacing_mm):
    """Give numbers without a sign that spread widely, as those of MR do."""
    return np.clip(1.5 * np.clip(hu, -200, 300) + 300, 0, None).astype(np.int16)


# Other numbers on the same grid; parts of the grid; other ways to store the whole.
SPOILED = {
    "metal": metal,
    "water": water,
    "all_zero": lambda hu, _: np.zeros_like(hu),
    "like_mr": magnetic,
    "scaled_0_to_1": lambda hu, _: ((np.clip(hu, -1000, 1000) + 1000) / 2000).astype(np.float32),
}
CUT = {
    "right_half": lambda hu, _: (slice(None), slice(None), slice(hu.shape[2] // 2)),
    "upper_45_mm": lambda _, spacing_mm: (slice(-round(UPPER_MM / spacing_mm[0]), None),),
    "lower_75_mm": lambda _, spacing_mm: (slice(round(LOWER_MM / spacing_mm[0])),),
    "one_slice": lambda hu, _: (slice(len(hu) // 2, len(hu) // 2 + 1),),
}
STORED = ("dicom", "jpeg2000", "offset_1024")
WAYS = (WHOLE, *STORED, *SPOILED, *CUT)


def write(way, hu, spacing_mm, folder):
    path = folder / f"{way}_0000.nii.gz"
    if way in ("dicom", "jpeg2000"):
        if not (folder / way).exists():
            packed = JPEG2000Lossless if way == "jpeg2000" else None
            whole = np.clip(hu, -dicom_files.OFFSET, 3071)  # what 12 bits hold
            dicom_files.write_series(folder / way, whole, spacing_mm, compress=packed)
        return
    if path.exists():
        return
    if way == "offset_1024":
        stored = np.clip(hu.astype(np.int32) + 1024, 0, None).astype(np.uint16)
        save(stored, spacing_mm, path)
    elif way in SPOILED:
        save(SPOILED[way](hu, spacing_mm), spacing_mm, path)
    else:
        array = hu[CUT[way](hu, spacing_mm)] if way in CUT else hu
        geometry = Geometry(shape=array.shape, spacing_mm=spacing_mm)
        write_volume(Volume(np.ascontiguousarray(array), geometry), path)


def save(array, spacing_mm, path):
    """Write numbers of any type on a grid in LPS."""
    z, y, x = spacing_mm
    nib.save(nib.Nifti1Image(array.T, np.diag([-x, -y, z, 1.0])), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scan", type=Path, required=True, help="a real torso")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--work", type=Path, required=True, help="folder to fill")
    parser.add_argument("--predict", nargs="*", default=[], help="further options, such as -- -v")
    options = parser.parse_args()
    scan, _ = read_scan(options.scan)
    hu, spacing_mm = np.ascontiguousarray(scan.array), scan.geometry.spacing_mm
    scans, labels = options.work / "scans", options.work / "labels"
    scans.mkdir(parents=True, exist_ok=True)
    ways = list(dict.fromkeys([WHOLE, *options.ways]))
    for way in ways:
        write(way, hu, spacing_mm, scans)
    command = [sys.executable, "-m", "app", "predict", "--input", str(scans), "--resume"]
    subprocess.run([*command, "--output", str(labels), *options.predict], check=False)
    whole = read_scan(labels / f"{WHOLE}.nii.gz")[0].array.astype(np.uint8)
    print("| scan | organs found | Dice | told |\n|---|---|---|---|")
    for case in json.loads((labels / "run.json").read_text())["cases"]:
        if case["status"] != "ok":
            print(f"| {case['name']} | failed: {case['error']} | | |")
            continue
        found = read_scan(labels / f"{case['name']}.nii.gz")[0].array.astype(np.uint8)
        kept = CUT[case["name"]](hu, spacing_mm) if case["name"] in CUT else ()
        dice = mean_dice(dice_per_organ(found, whole[kept]))
        same = ", every voxel equal" if np.array_equal(found, whole[kept]) else ""
        told = "; ".join(case["warnings"]) or "nothing"
        organs_ml = sum(case["volumes_ml"].values())
        print(f"| {case['name']} | {organs_ml:,.0f} ml | {dice or 0:.3f}{same} | {told} |")


if __name__ == "__main__":
    main()
