"""An array together with the grid it lies on."""

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from app.errors import UsageError
from app.imaging.geometry import Geometry


@dataclass(frozen=True, slots=True)
class Volume:
    """An array of voxels and where they lie.

    Parameters
    ----------
    array : (Z, Y, X) ndarray
        int16 HU for a scan, uint8 for a label map, bool for a mask.
    geometry : Geometry
        The grid; its shape is the array's.

    Raises
    ------
    UsageError
        If array and geometry differ in shape.
    """

    array: npt.NDArray[Any]
    geometry: Geometry

    def __post_init__(self) -> None:
        """Check that array and grid agree."""
        if self.array.shape != self.geometry.shape:
            raise UsageError(
                f"array of shape {self.array.shape} on a grid of shape {self.geometry.shape}"
            )
