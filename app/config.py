"""What a phase of the cascade is: its grid, its intensity window, its network.

A :class:`PhaseConfig` is stored in the manifest beside the weights it was
trained with, so that training and runtime cannot disagree. All tuples are
(z, y, x).
"""

from dataclasses import dataclass
from pathlib import Path

from app.errors import UsageError
from app.labels import CLASS_NAMES

_INSTALLED_WEIGHTS = Path(__file__).resolve().parent / "weights"

DEFAULT_WEIGHTS = (
    _INSTALLED_WEIGHTS
    if _INSTALLED_WEIGHTS.is_dir()
    else Path(__file__).resolve().parents[1] / "weights"
)
"""The weights that came with the program: beside this package, or in it where it is installed."""

PREPROCESSING_VERSION = 1
"""Raised whenever resampling or intensity scaling changes; other weights are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseConfig:
    """One phase of the cascade.

    Parameters
    ----------
    name : str
        ``"locate"`` or ``"segment"``.
    class_names : tuple of str
        Meaning of the network's output channels, background first.
    spacing_mm : (z, y, x) floats
        Grid the network works on, in mm.
    patch_shape : (z, y, x) ints
        Size of one patch, in voxels; a multiple of ``patch_divisor``.
    patch_divisor : int
        The factor by which the network shrinks a patch, in voxels.
    overlap : float
        Least share of a patch that neighboring patches have in common, 0 to below 1.
    window_hu : (low, high) floats
        Intensities mapped linearly to -2 ... 2 and clipped there, in HU.
    widths, depths : tuples of int
        Channels and number of blocks of each encoder stage.
    preprocessing_version : int
        Version of the code that makes the network's input.
    """

    name: str
    class_names: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    patch_shape: tuple[int, int, int]
    patch_divisor: int
    overlap: float
    window_hu: tuple[float, float]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    preprocessing_version: int = PREPROCESSING_VERSION

    def __post_init__(self) -> None:
        """Check that the fields agree with each other."""
        if any(size <= 0 or size % self.patch_divisor for size in self.patch_shape):
            raise UsageError(
                f"patch_shape {self.patch_shape} must be positive multiples of {self.patch_divisor}"
            )
        if any(step <= 0 for step in self.spacing_mm):
            raise UsageError(f"spacing_mm {self.spacing_mm} must be positive")
        if not 0 <= self.overlap < 1:
            raise UsageError(f"overlap {self.overlap} must be at least 0 and below 1")
        if self.window_hu[0] >= self.window_hu[1]:
            raise UsageError(f"window_hu {self.window_hu} must rise")
        if len(self.widths) != len(self.depths):
            raise UsageError(
                f"widths {self.widths} and depths {self.depths} must be of equal length"
            )


LOCATE = PhaseConfig(
    name="locate",
    class_names=("background", "organs"),
    spacing_mm=(4.0, 4.0, 4.0),
    patch_shape=(128, 128, 128),
    patch_divisor=32,
    overlap=0.25,
    window_hu=(-250.0, 350.0),
    widths=(32, 64, 128, 256),
    depths=(2, 2, 2, 2),
)

SEGMENT = PhaseConfig(
    name="segment",
    class_names=CLASS_NAMES,
    spacing_mm=(2.0, 2.0, 2.0),
    patch_shape=(96, 96, 96),
    patch_divisor=16,
    overlap=0.25,
    window_hu=(-250.0, 350.0),
    widths=(60, 120, 240, 480),
    depths=(2, 2, 2, 2),
)
"""What the weights were trained with. The published grid is 2.0 x 1.5 x 1.5 mm with patches of
96³. The weights learnt at 3 mm first, whole organs in patches of 192 mm, which two CPU cores can
learn in an hour, then at 2.4 mm, then at 2.0 mm, patches of 160 mm first and of 192 mm now. Patches
are as large in use as they were in training: with others the same weights lose up to four points
of DSC on a real scan, since instance norms depend on what a patch holds."""
