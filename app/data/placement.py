"""Where a patch lies in a body, and how it is cut out of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from app.imaging.geometry import FloatVolume, IndexZYX, LabelVolume
from app.synthesis.tissues import Tissue

PLANES_AT_ONCE = 4
"""Planes that are cut together, an even number: what places them in the body stays in the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A turned, scaled and bent patch laid into a body.

    Its places are worked out a few planes at a time: those of a whole patch would take more
    memory than a core caches, and most of the time would go into waiting for it.

    Parameters
    ----------
    shape : (z, y, x) ints
        The patch's size, in voxels.
    offsets_mm : list of three arrays of float32
        Distance of its voxels from its center along each axis, in mm; they broadcast to its shape.
    bends : list of three (N, Y * X) arrays of float32
        Displacement along each axis at N heights, in units of ``amplitude_mm``.
    along_z : (Z, N) sparse array
        Interpolates it between these: see :func:`app.imaging.resample.linear_weights`.
    amplitude_mm : float
        How far voxels are displaced, in mm.
    matrix : (3, 3) array of float32
        From mm in the patch to voxels of the body.
    center : (3,) array of float32
        Voxel (z, y, x) of the body that comes to lie at the patch's center.
    """

    shape: IndexZYX
    offsets_mm: list[FloatVolume]
    bends: list[npt.NDArray[np.float32]]
    along_z: sparse.csr_array
    amplitude_mm: float
    matrix: npt.NDArray[np.float32]
    center: npt.NDArray[np.float32]

    def slabs(self) -> Iterator[slice]:
        """Part the patch along z."""
        for first in range(0, self.shape[0], PLANES_AT_ONCE):
            yield slice(first, min(first + PLANES_AT_ONCE, self.shape[0]))

    def places(self, planes: slice) -> FloatVolume:
        """Give the place in the body of each voxel of a few planes.

        Parameters
        ----------
        planes : slice
            Which n planes of the patch.

        Returns
        -------
        (3, n, Y, X) array of float32
            In voxels (z, y, x).
        """
        weights = self.along_z[planes]
        offset_z, *in_plane = self.offsets_mm
        slab_shape = (planes.stop - planes.start, *self.shape[1:])
        displaced = np.empty((3, *slab_shape), np.float32)
        offsets = (offset_z[planes], *in_plane)
        for bend, offset, along_axis in zip(self.bends, offsets, displaced, strict=True):
            bent_mm = self.amplitude_mm * (weights @ bend).reshape(slab_shape)
            np.add(bent_mm, offset, out=along_axis)
        places: FloatVolume = (self.matrix @ displaced.reshape(3, -1)).reshape(displaced.shape)
        places += self.center.reshape(3, 1, 1, 1)
        return places


def _nearest(tissues: LabelVolume, places: FloatVolume) -> LabelVolume:
    """Give the tissue nearest to each place; air outside.

    Like ``scipy.ndimage.map_coordinates`` of order 0, in a third of its time.
    """
    index = np.zeros(places.shape[1:], np.int32)
    inside = np.ones(places.shape[1:], bool)
    for size, place in zip(tissues.shape, places, strict=True):
        inside &= (place >= 0) & (place <= size - 1)
        index *= size
        index += (place + np.float32(0.5)).astype(np.int32)
    # Outside, any voxel will do.
    found: LabelVolume = tissues.reshape(-1).take(index, mode="clip")
    found[~inside] = Tissue.AIR
    return found


def cut(tissues: LabelVolume, placement: Placement) -> LabelVolume:
    """Cut a patch out of a body.

    Parameters
    ----------
    tissues : (Z', Y', X') array of uint8
        The body's tissue map.
    placement : Placement
        Where to cut.

    Returns
    -------
    (Z, Y, X) array of uint8
        Tissues; air where the patch leaves the body's volume.
    """
    patch = np.empty(placement.shape, np.uint8)
    for planes in placement.slabs():
        patch[planes] = _nearest(tissues, placement.places(planes))
    return patch


def cut_with_middles(tissues: LabelVolume, placement: Placement) -> tuple[LabelVolume, LabelVolume]:
    """Cut a patch, and what lies in the middle of each of its blocks of 2 x 2 x 2 voxels.

    Parameters
    ----------
    tissues, placement
        See :func:`cut`; the patch's sizes are even.

    Returns
    -------
    patch : (Z, Y, X) array of uint8
        Tissues; air where the patch leaves the body's volume.
    middles : (Z / 2, Y / 2, X / 2) array of uint8
        The same on the grid of the blocks.
    """
    num_z, num_y, num_x = placement.shape
    patch = np.empty(placement.shape, np.uint8)
    middles = np.empty((num_z // 2, num_y // 2, num_x // 2), np.uint8)
    for planes in placement.slabs():
        places = placement.places(planes)
        patch[planes] = _nearest(tissues, places)
        halfway = 0.5 * (places[:, ::2, ::2, ::2] + places[:, 1::2, 1::2, 1::2])
        middles[planes.start // 2 : planes.stop // 2] = _nearest(tissues, halfway)
    return patch, middles
