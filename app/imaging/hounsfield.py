"""Are these HU? What the numbers themselves tell, whatever the header says."""

import numpy as np

from app.imaging.geometry import ScanVolume

STORED_OFFSET_HU = 1024
"""Scanners store HU plus this, to do without a sign; some converters forget to take it off."""

BONE_HU = 150
"""The spine is in every scan of an abdomen, and brighter than this even where it is frail."""

# Muscle, organs and fat, and enhanced vessels: what fills most of a body.
_SOFT_TISSUE_HU = (-150, 250)
# Air around the body and what pads it hold the least number or nearly so.
_NEAR_LEAST_HU = 100
_LEAST_SHARE = 0.03


def settle_offset(scan: ScanVolume) -> tuple[str, ...]:
    """Bring a scan that was stored as HU + 1024 to HU, and say what is odd.

    It is shifted only where the numbers leave no doubt: none is negative, some
    lie at 0 (air), and soft tissue is found around 1024 and not where it belongs.

    Parameters
    ----------
    scan : (Z, Y, X) array of int16
        Changed in place.

    Returns
    -------
    tuple of str
        What a user should know; empty for a scan in HU.
    """
    sample = scan[:: _stride(scan, 0), :: _stride(scan, 1), :: _stride(scan, 2)]
    least, most = int(sample.min()), int(sample.max())
    if least == most and scan.min() == scan.max():
        return (f"all voxels hold the same number, {least}",)
    if 0 <= least <= _NEAR_LEAST_HU and _soft_tissue_lies_higher(sample) and scan.min() >= 0:
        scan -= STORED_OFFSET_HU
        return (f"stored as HU + {STORED_OFFSET_HU}, which was taken off",)
    if most < BONE_HU and scan.max() < BONE_HU:
        return (f"nothing above {BONE_HU} HU, so no bone is in it; a phantom, or not in HU",)
    return ()


def _soft_tissue_lies_higher(sample: ScanVolume) -> bool:
    """Compare how much looks like soft tissue as stored, and once shifted."""
    low, high = _SOFT_TISSUE_HU
    shifted = np.count_nonzero(
        (sample >= low + STORED_OFFSET_HU) & (sample <= high + STORED_OFFSET_HU)
    )
    # Air of a scan stored without its offset lies at 0 to 100 and must not count.
    as_stored = np.count_nonzero((sample > _NEAR_LEAST_HU) & (sample <= high))
    least = int(_LEAST_SHARE * sample.size)
    return int(shifted) > max(least, 3 * int(as_stored))


def _stride(scan: ScanVolume, axis: int) -> int:
    return max(1, int(scan.shape[axis]) // 64)
