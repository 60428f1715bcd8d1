"""A piece of a body about to be scanned, and how to find one's way in it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import BoolVolume, FloatVolume, LabelVolume, SpacingZYX
from app.synthesis.fields import distance_mm, smooth_noise
from app.synthesis.tissues import Tissue, look_up


def _marks(kinds: Iterable[Tissue]) -> npt.NDArray[np.bool_]:
    """Make a table that is true at the values of some tissues."""
    table = np.zeros(256, bool)
    table[list(kinds)] = True
    return table


@dataclass(frozen=True, slots=True)
class Scene:
    """A piece of a body about to be scanned.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Changed in place.
    spacing_mm : (z, y, x) floats
        Its grid, in mm.
    rng : numpy Generator
        Source of randomness.
    """

    tissues: LabelVolume
    spacing_mm: SpacingZYX
    rng: np.random.Generator

    def noise(self, node_mm: float) -> FloatVolume:
        """Draw a field of unit variance that changes over the given distance."""
        return smooth_noise(self.tissues.shape, self.spacing_mm, node_mm, self.rng)

    def where(self, kinds: Iterable[Tissue]) -> BoolVolume:
        """Mark the voxels of some tissues."""
        return look_up(_marks(kinds), self.tissues)

    def turn(self, mask: BoolVolume, tissue: Tissue) -> None:
        """Make the marked voxels another tissue."""
        self.tissues[mask] = tissue

    def crowding(self, mask: BoolVolume, reach_mm: float) -> FloatVolume:
        """Give the share of marked voxels in a cube around each voxel, worked out coarsely."""
        coarse = mask[::2, ::2, ::2].astype(np.float32)
        size = [max(1, round(reach_mm / step)) for step in self.spacing_mm]
        return self._refined(ndimage.uniform_filter(coarse, size, mode="nearest"))

    def distance_mm(self, kinds: Iterable[Tissue]) -> FloatVolume:
        """Give each voxel's distance to some tissues, worked out coarsely; far without any."""
        z, y, x = self.spacing_mm
        coarse = self.where(kinds)[::2, ::2, ::2]
        return self._refined(distance_mm(coarse, (2 * z, 2 * y, 2 * x)))

    def _refined(self, coarse: FloatVolume) -> FloatVolume:
        """Bring what was worked out on every second voxel back to the grid."""
        for axis in range(3):
            coarse = coarse.repeat(2, axis)
        return coarse[tuple(slice(size) for size in self.tissues.shape)]

    def around(
        self, center: npt.NDArray[np.integer], reach_mm: float
    ) -> tuple["Scene", npt.NDArray[np.int64]]:
        """Give the piece of the scene about a voxel, and where that voxel lies in it.

        What is turned in the piece is turned in the scene: small things need no look at all of it.
        """
        reach = np.ceil(reach_mm / np.array(self.spacing_mm)).astype(np.int64)
        first = np.maximum(center - reach, 0)
        window = tuple(map(slice, first, center + reach + 1))
        return Scene(self.tissues[window], self.spacing_mm, self.rng), center - first

    def ball(self, center: npt.NDArray[np.integer], radius_mm: float) -> BoolVolume:
        """Mark a lumpy ellipsoid."""
        stretch = self.rng.uniform(0.7, 1.4, 3)
        squared = np.zeros((1, 1, 1), np.float32)
        for axis, (size, step) in enumerate(zip(self.tissues.shape, self.spacing_mm, strict=True)):
            off = (np.arange(size, dtype=np.float32) - center[axis]) * step
            off = (off / (radius_mm * stretch[axis])) ** 2
            squared = squared + np.expand_dims(off, [a for a in range(3) if a != axis])
        lumps = 0.25 * self.noise(max(0.8 * radius_mm, 6.0))
        marked: BoolVolume = squared < 1.0 + lumps
        return marked

    def tube_depth_mm(
        self, center: npt.NDArray[np.integer], radius_mm: float, length_mm: float
    ) -> FloatVolume:
        """Give the depth below the surface of a lumpy tube that runs anywhere; negative outside."""
        axis = self.rng.standard_normal(3)
        axis /= np.linalg.norm(axis)
        offsets = [
            np.expand_dims(
                (np.arange(size, dtype=np.float32) - at) * np.float32(step),
                [a for a in range(3) if a != dim],
            )
            for dim, (size, at, step) in enumerate(
                zip(self.tissues.shape, center, self.spacing_mm, strict=True)
            )
        ]
        along = sum(off * np.float32(part) for off, part in zip(offsets, axis, strict=True))
        along = np.clip(along, -length_mm / 2, length_mm / 2)
        squared = sum(
            (off - along * np.float32(part)) ** 2 for off, part in zip(offsets, axis, strict=True)
        )
        lumps = 0.12 * radius_mm * self.noise(max(1.2 * radius_mm, 6.0))
        depth: FloatVolume = radius_mm + lumps - np.sqrt(squared)
        return depth

    def place(
        self, kinds: Iterable[Tissue], near: Tissue | None = None, reach_mm: float = 40.0
    ) -> npt.NDArray[np.int64] | None:
        """Choose a voxel of some tissues, near another if told; None where there is none."""
        # Every third voxel along each axis tells as well where a tissue lies.
        thinned = self.tissues[::3, ::3, ::3]
        marked = look_up(_marks(kinds), thinned)
        if near is not None:
            size = [2 * round(reach_mm / (3 * step)) + 1 for step in self.spacing_mm]
            marked &= ndimage.maximum_filter(thinned == near, size)
        found = np.flatnonzero(marked)
        if not len(found):
            return None
        chosen = np.unravel_index(int(self.rng.choice(found)), thinned.shape)
        return 3 * np.array(chosen, np.int64)
