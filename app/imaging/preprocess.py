"""From a scan to what a network sees: one definition for training and runtime."""

from app.config import PhaseConfig
from app.imaging.geometry import Box, FloatVolume
from app.imaging.intensity import INPUT_LIMIT, normalize
from app.imaging.resample import resample_linear
from app.imaging.volume import Volume

AIR = -INPUT_LIMIT
"""What a network sees beyond the edge of the scan."""


def network_input(scan: Volume, config: PhaseConfig, part: Box | None = None) -> FloatVolume:
    """Resample a scan to a phase's spacing, then scale its intensities.

    Parameters
    ----------
    scan : Volume of int16 or float32
        HU, in canonical orientation.
    config : PhaseConfig
        Gives spacing and intensity window.
    part : Box, optional
        The part of the phase's grid that is wanted; by default all of it.

    Returns
    -------
    (Z, Y, X) array of float32
        On the grid of ``config.spacing_mm`` that shares the scan's center, or on that part.
    """
    resampled = resample_linear(scan.array, scan.geometry.spacing_mm, config.spacing_mm, part=part)
    return normalize(resampled, config.window_hu)
