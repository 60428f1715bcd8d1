"""How real scans and synthetic ones look to a network: tissue by tissue, noise, histogram.

``python tests/trials/appearance.py --real SCANS LABELS --synthetic SCANS LABELS --output DIR``

A folder of scans and one of label maps of the same names for each side; label maps of real
scans may come from `predict`. For each organ's inside the mean HU, and for the liver the
standard deviation and mean frequency of the noise, from the power spectra of squares of
32 mm within single slices; a linear trend is taken out of each. Writes `appearance.csv`
(a row per scan) and `appearance.png` (histograms, spectra), prints medians and ranges.
"""

import argparse
import csv
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage, signal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.imaging.io import read_scan
from app.labels import ORGANS

TISSUES = ("liver", "spleen", "left_kidney", "aorta", "pancreas")
VALUES = {organ.name: organ.value for organ in ORGANS}
INSIDE_MM = 4.0
SQUARE_MM = 32.0
EDGES_HU = np.arange(-200, 301, 5)
FREQUENCIES = np.linspace(0.04, 0.5, 25)  # cycles per mm
MOST_SQUARES = 200


def cases(folders):
    """Yield name, HU, labels and spacing of every labeled scan."""
    scans, labels = folders
    for path in sorted(scans.glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz").removesuffix("_0000")
        found = [labels / f"{name}.nii.gz", labels / name / f"{name}.nii.gz"]
        label_path = next((one for one in found if one.exists()), None)
        if label_path is None or path.name.endswith("_labels.nii.gz"):
            continue
        (scan, _), (label_map, _) = read_scan(path), read_scan(label_path)
        yield name, scan.array, label_map.array, scan.geometry.spacing_mm


def inside(mask, spacing_mm):
    """Leave out what lies near an organ's surface."""
    reach = [max(1, round(INSIDE_MM / step)) for step in spacing_mm]
    return ndimage.binary_erosion(mask, np.ones([2 * size + 1 for size in reach]))


def spectrum(hu, liver, spacing_mm):
    """Give noise power in HU² mm² over frequency, averaged over squares of the liver."""
    step = spacing_mm[1]
    size = round(SQUARE_MM / step)
    powers, rng = [], np.random.default_rng(0)
    whole = ndimage.minimum_filter(liver.view(np.uint8), (1, size, size)).astype(bool)
    places = np.argwhere(whole)
    for z, y, x in rng.permutation(places)[:MOST_SQUARES]:
        top, left = y - size // 2, x - size // 2
        square = hu[z, top : top + size, left : left + size].astype(float)
        square = signal.detrend(signal.detrend(square, axis=0), axis=1)
        powers.append(np.abs(np.fft.fft2(square)) ** 2 * step**2 / size**2)
    if not powers:
        return None
    fy, fx = np.meshgrid(*[np.fft.fftfreq(size, step)] * 2, indexing="ij")
    radius, power = np.hypot(fy, fx).ravel(), np.mean(powers, axis=0).ravel()
    which = np.digitize(radius, FREQUENCIES)
    return np.array(
        [power[which == one].mean() if (which == one).any() else np.nan for one in range(1, 25)]
    )


def measure(hu, labels, spacing_mm):
    """Give a row of figures, the histogram of the body, and the noise spectrum."""
    row = {}
    for tissue in TISSUES:
        core = inside(labels == VALUES[tissue], spacing_mm)
        row[f"{tissue}_hu"] = float(hu[core].mean()) if core.sum() > 50 else np.nan
    liver = inside(labels == VALUES["liver"], spacing_mm)
    power = spectrum(hu, liver, spacing_mm)
    middles = (FREQUENCIES[:-1] + FREQUENCIES[1:]) / 2
    row["noise_hu"] = row["noise_per_mm"] = np.nan
    if power is not None:
        # Rings of the plane: power times circumference integrates to the variance.
        rings = np.nan_to_num(power) * 2 * np.pi * middles
        row["noise_hu"] = float(np.sqrt(rings.sum() * (FREQUENCIES[1] - FREQUENCIES[0])))
        row["noise_per_mm"] = float((rings * middles).sum() / rings.sum())
    within = np.flatnonzero((labels > 0).any((1, 2)))
    body = hu[within[0] : within[-1] + 1]
    counts, _ = np.histogram(body, EDGES_HU, density=True)
    return row, counts, power


def main():
    """Measure both sides, and show them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    for side in ("real", "synthetic"):
        parser.add_argument(f"--{side}", type=Path, nargs=2, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    _, (histogram_axes, noise_axes) = plt.subplots(1, 2, figsize=(11, 4))
    middles = (FREQUENCIES[:-1] + FREQUENCIES[1:]) / 2
    rows = []
    for side, color in (("synthetic", "0.6"), ("real", "tab:red")):
        for name, *case in cases(getattr(options, side)):
            row, counts, power = measure(*case)
            rows.append({"side": side, "case": name, **row})
            histogram_axes.plot(EDGES_HU[:-1] + 2.5, counts, color=color, lw=0.9)
            if power is not None:
                noise_axes.loglog(middles, power, color=color, lw=0.9)
        histogram_axes.plot([], color=color, label=side)
    histogram_axes.set(xlabel="HU", ylabel="share per HU", title="slices with organs")
    noise_axes.set(xlabel="cycles per mm", ylabel="HU² mm²", title="noise power in the liver")
    histogram_axes.legend()
    plt.tight_layout()
    plt.savefig(options.output / "appearance.png", dpi=110)
    with (options.output / "appearance.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"{'':16s} {'real: median (range)':32s} synthetic: median (range)")
    for key in list(rows[0])[2:]:
        told = []
        for side in ("real", "synthetic"):
            found = np.array([row[key] for row in rows if row["side"] == side])
            found = found[np.isfinite(found)]
            told.append(
                f"{np.median(found):.3g} ({found.min():.3g} ... {found.max():.3g}), {len(found)}"
            )
        print(f"{key:16s} {told[0]:32s} {told[1]}")


if __name__ == "__main__":
    main()
