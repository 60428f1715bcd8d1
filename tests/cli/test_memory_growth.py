"""Many scans in one process take no more memory than few; tests/trials/hundred.py tries more."""

import numpy as np
import pytest
import SimpleITK as sitk
from resident import resident_after_each, slope
from stand_ins import BRIGHT_HU, TISSUE_HU

NUM_SCANS = 20


def test_slope_is_that_within_a_kind():
    large_and_small = np.array([90.0, 1.0, 10.0, 5.0, 12.0, 7.0, 14.0, 9.0])
    assert slope(large_and_small, 2) == pytest.approx(1.0, abs=0.3)
    assert slope(np.tile([10.0, 5.0], 4), 2) == pytest.approx(0)


def test_memory_does_not_grow_from_scan_to_scan(tmp_path, stand_in_weights):
    scans = tmp_path / "scans"
    scans.mkdir()
    for kind, depth in enumerate((40, 60)):
        hu = np.full((depth, 130, 150), TISSUE_HU, np.int16)
        hu[:, :2] = -1000
        hu[10:30, 30:90, 30:90] = BRIGHT_HU
        image = sitk.GetImageFromArray(hu)
        image.SetSpacing((0.7, 0.8, 2.0))
        sitk.WriteImage(image, scans / f"00_{kind}.nii.gz")
        for num in range(1, NUM_SCANS // 2):
            (scans / f"{num:02d}_{kind}.nii.gz").hardlink_to(scans / f"00_{kind}.nii.gz")
    options = ("--weights", str(stand_in_weights), "--precision", "f32")
    resident_mib = list(resident_after_each(scans, tmp_path / "labels", *options))
    assert len(resident_mib) == NUM_SCANS
    # The smaller scan takes 1.5 MiB, its label map half of it.
    assert slope(resident_mib, 2) < 0.2
