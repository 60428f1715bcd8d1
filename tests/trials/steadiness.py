"""How much the labels of a scan move when it differs in what should not matter.

Each scan is written as it is and changed: thicker slices, coarser planes, more noise, a softer
kernel, brighter or darker by a few HU, half of its height, turned or tilted as patients lie,
moved by part of a patch, told to be smaller or larger. All are segmented by one `predict`, and
the label maps are brought back onto the scan's own grid and compared with those of the scan as
it is. That takes no reference, so it tells something of scans that nobody labeled. Where there
is one (--references), the Dice against it is printed, too.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.benchmark.compare import dice_per_organ, mean_dice
from app.imaging.geometry import Geometry
from app.imaging.io import read_scan, write_volume
from app.imaging.volume import Volume
from app.labels import ORGANS

AIR_HU = -1024
AS_IT_IS = "as_it_is"
THICK_MM, NOISE_HU, SOFT_MM, OFF_HU = 6.0, 25.0, 1.2, 15.0
TURN_DEG, TILT_DEG = 12.0, 10.0
SMALLER, LARGER = 0.85, 1.18
MOVED = (1, 5, 7)  # voxels cut off at the beginning of z, y, x


@dataclass
class Changed:
    """A changed scan and how its labels come back onto the grid of the scan as it is.

    ``make`` works the scan out, ``kept`` is the part of that grid that the labels then lie on.
    """

    make: object
    spacing_mm: tuple
    back: object
    kept: tuple = ()


def same(labels):
    return labels


def averaged(hu, spacing_mm, every):
    """Average groups of voxels, as thicker slices do; an incomplete last one is dropped."""
    size = [length // count * count for length, count in zip(hu.shape, every, strict=True)]
    kept = tuple(slice(length) for length in size)
    groups = [
        part for length, count in zip(size, every, strict=True) for part in (length // count, count)
    ]

    def make():
        return hu[kept].reshape(groups).mean(axis=(1, 3, 5), dtype=np.float32)

    def back(labels):
        for axis, count in enumerate(every):
            labels = np.repeat(labels, count, axis=axis)
        return labels

    wide = tuple(step * count for step, count in zip(spacing_mm, every, strict=True))
    return Changed(make, wide, back, kept)


def rotated(hu, spacing_mm, degrees, axes):
    """Turn the patient about the middle of the scan, in mm."""
    angle, (first, second) = np.deg2rad(degrees), axes
    step = np.array(spacing_mm)

    def turn(array, angle, **how):
        matrix = np.eye(3)
        matrix[first, first] = matrix[second, second] = np.cos(angle)
        matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix * step[None, :] / step[:, None]
        middle = (np.array(array.shape) - 1) / 2
        return ndimage.affine_transform(array, matrix, middle - matrix @ middle, **how)

    def make():
        return turn(hu.astype(np.float32), angle, order=1, cval=AIR_HU)

    return Changed(make, spacing_mm, lambda labels: turn(labels, -angle, order=0))


def noisy(hu, spacing_mm):
    def make():
        noise = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=hu.shape), 0.6)
        return hu + NOISE_HU * noise / noise.std()

    return Changed(make, spacing_mm, same)


def softer(hu, spacing_mm):
    width = [0.0, SOFT_MM / spacing_mm[1], SOFT_MM / spacing_mm[2]]
    return Changed(lambda: ndimage.gaussian_filter(hu.astype(np.float32), width), spacing_mm, same)


def cut(hu, spacing_mm, *kept):
    return Changed(lambda: hu[kept], spacing_mm, same, kept)


def scaled(hu, spacing_mm, by):
    return Changed(lambda: hu, tuple(step * by for step in spacing_mm), same)


def shifted(hu, spacing_mm, by_hu):
    return Changed(lambda: hu + by_hu, spacing_mm, same)


CHANGES = {
    AS_IT_IS: lambda hu, mm: scaled(hu, mm, 1),
    "moved": lambda hu, mm: cut(hu, mm, *(slice(first, None) for first in MOVED)),
    "thicker": lambda hu, mm: averaged(hu, mm, (max(1, round(THICK_MM / mm[0])), 1, 1)),
    "coarser": lambda hu, mm: averaged(hu, mm, (1, 2, 2)),
    "noisy": noisy,
    "softer": softer,
    "brighter": lambda hu, mm: shifted(hu, mm, OFF_HU),
    "darker": lambda hu, mm: shifted(hu, mm, -OFF_HU),
    "upper_half": lambda hu, mm: cut(hu, mm, slice(len(hu) // 2, None)),
    "lower_half": lambda hu, mm: cut(hu, mm, slice(len(hu) // 2)),
    "turned": lambda hu, mm: rotated(hu, mm, TURN_DEG, (1, 2)),
    "tilted": lambda hu, mm: rotated(hu, mm, TILT_DEG, (0, 1)),
    "smaller": lambda hu, mm: scaled(hu, mm, SMALLER),
    "larger": lambda hu, mm: scaled(hu, mm, LARGER),
}


def write(changed, path):
    hu = np.clip(np.rint(changed.make()), AIR_HU, 3071).astype(np.int16)
    geometry = Geometry(shape=hu.shape, spacing_mm=changed.spacing_mm)
    write_volume(Volume(np.ascontiguousarray(hu), geometry), path)


def labels_at(path):
    return read_scan(path)[0].array.astype(np.uint8)


def changes_of(options):
    """Yield scan, its name, and by name what is asked for."""
    for path in sorted(options.scans.glob("*_0000.nii.gz")):
        scan, _ = read_scan(path)
        name = path.name.removesuffix("_0000.nii.gz")
        for change in dict.fromkeys([AS_IT_IS, *options.changes]):
            yield name, change, CHANGES[change](scan.array, scan.geometry.spacing_mm)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=Path, required=True, help="folder of *_0000.nii.gz")
    parser.add_argument("--references", type=Path, help="folder of label maps, for some of them")
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=CHANGES)
    parser.add_argument("--work", type=Path, required=True, help="folder to fill")
    parser.add_argument("--predict", nargs="*", default=[], help="further options, such as -- -v")
    options = parser.parse_args()
    scans, labels = options.work / "scans", options.work / "labels"
    scans.mkdir(parents=True, exist_ok=True)
    for name, change, changed in changes_of(options):
        if not (path := scans / f"{name}__{change}_0000.nii.gz").exists():
            write(changed, path)
    command = [sys.executable, "-m", "app", "predict", "--input", str(scans), "--resume"]
    subprocess.run([*command, "--output", str(labels), *options.predict], check=False)
    report(options, labels)


def report(options, labels):
    agreement = {change: {} for change in CHANGES}
    correct = {change: {} for change in CHANGES}
    for name, change, changed in changes_of(options):
        found = changed.back(labels_at(labels / f"{name}__{change}.nii.gz"))
        plain = labels_at(labels / f"{name}__{AS_IT_IS}.nii.gz")[changed.kept]
        agreement[change][name] = dice_per_organ(found, plain)
        reference = options.references and options.references / f"{name}.nii.gz"
        if reference and reference.exists():
            correct[change][name] = dice_per_organ(found, labels_at(reference)[changed.kept])
    print_table("Dice against the labels of the scan as it is", agreement)
    if any(correct.values()):
        print_table("Dice against the reference", correct)


def print_table(title, by_change):
    """Print the mean over organs of each scan, of all, and the organ that fares worst."""
    names = sorted({name for scores in by_change.values() for name in scores})
    print(f"\n{title}\n\n| change | {' | '.join(names)} | all | least organ |")
    print("|---" * (3 + len(names)) + "|")
    for change, scores in by_change.items():
        if not scores:
            continue
        of_scans = {name: mean_dice(scores.get(name)) for name in names}
        of_organs = {
            organ.name: mean_dice({name: scores[name][organ.name] for name in scores})
            for organ in ORGANS
        }
        worst = min((score, name) for name, score in of_organs.items() if score is not None)
        means = (*of_scans.values(), mean_dice(of_scans))
        cells = ["–" if score is None else f"{score:.3f}" for score in means]
        print(f"| {change} | {' | '.join(cells)} | {worst[0]:.3f} {worst[1]} |")


if __name__ == "__main__":
    main()
