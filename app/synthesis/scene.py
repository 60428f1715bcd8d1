"""A piece of a body about to be scanned, and how to find one's way in it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.crop import bounding_box
from app.imaging.geometry import BoolVolume, Box, FloatVolume, IndexZYX, LabelVolume, SpacingZYX
from app.synthesis.fields import Noise, distance_mm, draw_noise
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
    whole_shape : (z, y, x) ints, optional
        Size of the scene that this is a window on, in voxels, if it is one.
    window : Box, optional
        Where in that it lies.
    """

    tissues: LabelVolume
    spacing_mm: SpacingZYX
    rng: np.random.Generator
    whole_shape: IndexZYX | None = None
    window: Box | None = None

    def noise(self, node_mm: float) -> FloatVolume:
        """Draw a field of unit variance that changes over the given distance.

        In a window it is what would be drawn for the scene, worked out there alone.
        """
        return self._draw_noise(node_mm).part(self.window)

    def noise_of_lines(self, node_mm: float) -> FloatVolume:
        """Draw such a field that is the same all along y, as a (Z, 1, X) array."""
        num_z, _, num_x = self.whole_shape or self.tissues.shape
        noise = draw_noise((num_z, 1, num_x), self.spacing_mm, node_mm, self.rng)
        if self.window is None:
            return noise.part()
        (start_z, _, start_x), (stop_z, _, stop_x) = self.window.start, self.window.stop
        return noise.part(Box(start=(start_z, 0, start_x), stop=(stop_z, 1, stop_x)))

    def _draw_noise(self, node_mm: float) -> Noise:
        shape = self.whole_shape or self.tissues.shape
        return draw_noise(shape, self.spacing_mm, node_mm, self.rng)

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

    def window_on(self, tissue: Tissue, margin_mm: float = 0.0) -> tuple[slice, ...] | None:
        """Give the slices that hold all of a tissue and a margin; None where there is none."""
        occupied = self.tissues == tissue
        if not occupied.any():
            return None
        return bounding_box(occupied, self.spacing_mm, margin_mm).slices

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

    def _window(
        self, center: npt.NDArray[np.integer], reach_mm: npt.NDArray[np.floating]
    ) -> tuple["Scene", npt.NDArray[np.int64]]:
        """Give a window on the scene about a voxel, and where that voxel lies in it."""
        # One voxel more: what is asked of neighbors has the same answer in the window.
        reach = np.ceil(reach_mm / np.array(self.spacing_mm)).astype(np.int64) + 1
        first = np.maximum(center - reach, 0)
        last = np.minimum(center + reach + 1, self.tissues.shape)
        tissues = self.tissues[tuple(map(slice, first, last))]
        whole_shape, corner = self.tissues.shape, np.zeros(3, np.int64)
        if self.whole_shape and self.window:
            whole_shape, corner = self.whole_shape, np.array(self.window.start)
        window = Box.between(corner + first, corner + last)
        return Scene(tissues, self.spacing_mm, self.rng, whole_shape, window), center - first

    def ball(self, center: npt.NDArray[np.integer], radius_mm: float) -> tuple["Scene", BoolVolume]:
        """Give a window on the scene about a lumpy ellipsoid, and mark that in it."""
        stretch = self.rng.uniform(0.7, 1.4, 3)
        noise = self._draw_noise(max(0.8 * radius_mm, 6.0))
        swollen = math.sqrt(1.0 + 0.25 * max(noise.highest, 0.0))
        part, center = self._window(center, radius_mm * stretch * swollen)
        squared = np.zeros((1, 1, 1), np.float32)
        for axis, (size, step) in enumerate(zip(part.tissues.shape, self.spacing_mm, strict=True)):
            off = (np.arange(size, dtype=np.float32) - center[axis]) * step
            off = (off / (radius_mm * stretch[axis])) ** 2
            squared = squared + np.expand_dims(off, [a for a in range(3) if a != axis])
        lumps = 0.25 * noise.part(part.window)
        return part, squared < 1.0 + lumps

    def tube(
        self,
        center: npt.NDArray[np.integer],
        radius_mm: float,
        length_mm: float,
        *,
        margin_mm: float = 0.0,
    ) -> tuple["Scene", FloatVolume]:
        """Give a window on the scene about a lumpy tube that runs anywhere, and the depth in it.

        Depth is in mm below the tube's surface, negative outside; outside the window it is at most
        ``-margin_mm``.
        """
        axis = self.rng.standard_normal(3)
        axis /= np.linalg.norm(axis)
        noise = self._draw_noise(max(1.2 * radius_mm, 6.0))
        widest_mm = radius_mm * (1.0 + 0.12 * max(noise.highest, 0.0)) + margin_mm
        part, center = self._window(center, 0.5 * length_mm * np.abs(axis) + widest_mm)
        offsets = [
            np.expand_dims(
                (np.arange(size, dtype=np.float32) - at) * np.float32(step),
                [a for a in range(3) if a != dim],
            )
            for dim, (size, at, step) in enumerate(
                zip(part.tissues.shape, center, self.spacing_mm, strict=True)
            )
        ]
        along = sum(off * np.float32(share) for off, share in zip(offsets, axis, strict=True))
        along = np.clip(along, -length_mm / 2, length_mm / 2)
        squared = sum(
            (off - along * np.float32(share)) ** 2 for off, share in zip(offsets, axis, strict=True)
        )
        lumps = 0.12 * radius_mm * noise.part(part.window)
        return part, radius_mm + lumps - np.sqrt(squared)

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
