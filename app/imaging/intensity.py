"""From HU to network input: one definition for training and runtime.

The published pipeline scales by percentiles of the whole array, which depend on
field of view, padding value and table. HU are calibrated, so a fixed window
needs none of that: the same tissue gives the same input in every scan.
"""

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import FloatVolume

INPUT_LIMIT = 2.0
"""Network inputs lie in -2 ... 2."""


def normalize(
    hu: npt.NDArray[np.int16] | FloatVolume, window_hu: tuple[float, float]
) -> FloatVolume:
    """Map an intensity window linearly to -2 ... 2 and clip what lies outside.

    Parameters
    ----------
    hu : ndarray of any shape, int16 or float32
        Intensities in HU.
    window_hu : (low, high) floats
        The HU that become -2 and 2.

    Returns
    -------
    ndarray of float32, the input's shape
        What the network sees. Air outside the scan is -2.
    """
    low, high = window_hu
    scaled = np.clip(hu, low, high).astype(np.float32, copy=False)
    scaled -= (low + high) / 2
    scaled *= 2 * INPUT_LIMIT / (high - low)
    return scaled
