"""A small report of three cases, as predict would write it."""

import numpy as np
import pytest
import SimpleITK as sitk

from app.report.writer import ReportWriter

SPACING_MM = (4.0, 2.5, 3.0)
SHAPE = (20, 30, 26)
LIVER, SPLEEN = 1, 3


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
    folder = tmp_path_factory.mktemp("report")
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
        report.add_failed({"name": "c", "status": "failed", "error": "c.nii.gz: cut <short>"})
        report.write({})
    return folder
