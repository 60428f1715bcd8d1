"""A small report of three cases, as predict would write it, and a browser to open it in."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from app.labels import ORGANS
from app.report.writer import ReportWriter

SPACING_MM = (4.0, 2.5, 3.0)
SHAPE = (20, 30, 26)
LIVER, SPLEEN = 1, 3

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# WebGL 2 on the processor, and no word to the network.
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --use-gl=angle --use-angle=swiftshader "
    "--enable-unsafe-swiftshader --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE_MS = 240_000


@pytest.fixture(scope="module")
def browser():
    """Give a headless Chromium; skip the test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium (or your system's way)")
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM, args=OPTIONS, timeout=PATIENCE_MS
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def anatomy():
    """Give a box of a body: liver on the right in front, spleen on the left behind."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[:, 3:27, 2:24] = 40
    labels = np.zeros(SHAPE, np.uint8)
    labels[8:16, 6:16, 4:12] = LIVER
    labels[10:14, 18:24, 16:22] = SPLEEN
    hu[labels == LIVER], hu[labels == SPLEEN] = 120, 180
    return hu, labels


def write(path, array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING_MM[::-1])
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory, anatomy):
    """Give a folder with label maps, pictures and report.html."""
    hu, labels = anatomy
    folder = tmp_path_factory.mktemp("report #1, 50% done")
    scans = tmp_path_factory.mktemp("scans")
    with ReportWriter(folder) as report:
        for name, warnings in (("b & co", ["the liver may be cut off"]), ("<i>a", [])):
            stem = "b" if warnings else "a"
            write(scans / f"{stem}.nii.gz", hu)
            write(folder / f"{stem}.nii.gz", labels)
            entry = {
                "name": name,
                "status": "ok",
                "total_seconds": 12.5 if warnings else 3.25,
                "peak_mib": 600,
                "warnings": warnings,
                "flags": 2 * [{"code": "cut_by_box"}] if warnings else [],
            }
            report.add(entry, scans / f"{stem}.nii.gz", folder / f"{stem}.nii.gz")
        report.add_undrawn({"name": "c", "status": "failed", "error": "c.nii.gz: cut <short>"})
        report.write({})
    return folder


@pytest.fixture(scope="session")
def report_of_one(tmp_path_factory, anatomy):
    """Give a folder with the page of a single case, in which every organ is large."""
    hu, labels = anatomy
    folder = tmp_path_factory.mktemp("one")
    write(folder / "scan.nii.gz", hu)
    write(folder / "a.nii.gz", labels)
    entry = {
        "name": "a",
        "status": "ok",
        "total_seconds": 123.4,
        "peak_mib": 1234,
        "volumes_ml": {organ.name: 1234.5 for organ in ORGANS},
    }
    with ReportWriter(folder) as report:
        report.add(entry, folder / "scan.nii.gz", folder / "a.nii.gz")
        report.write({})
    return folder
