"""What can be measured of each organ of a label map: size, HU, extent, contact with the edge."""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import Geometry, LabelVolume, ScanVolume, SpacingZYX
from app.labels import NUM_CLASSES, ORGANS, Organ

EDGES = (("inferior", "superior"), ("anterior", "posterior"), ("right", "left"))
"""Names of a scan's faces at the start and at the end of each axis, in LPS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganStatistics:
    """What was measured of one organ.

    Parameters
    ----------
    value : int
        Its value in the label map.
    organ : str
        Its name.
    num_voxels : int
        How many voxels it has; 0 for an organ that was not found.
    volume_ml : float
        Its volume, in ml.
    mean_hu, sd_hu : float or None
        Mean and standard deviation of its voxels, in HU; None without voxels.
    extent_mm : (z, y, x) floats or None
        Size of the smallest box around it, along the scan's axes, in mm.
    edges : tuple of str
        Faces of the scan that it reaches, of :data:`EDGES`: it may go on beyond.
    """

    value: int
    organ: str
    num_voxels: int
    volume_ml: float
    mean_hu: float | None
    sd_hu: float | None
    extent_mm: SpacingZYX | None
    edges: tuple[str, ...]


def measure_statistics(
    scan: ScanVolume,
    labels: LabelVolume,
    geometry: Geometry,
    organs: Collection[int] | None = None,
) -> list[OrganStatistics]:
    """Measure every organ, one slice at a time, so that nothing large is copied.

    Parameters
    ----------
    scan : (Z, Y, X) array of int16
        HU, in canonical orientation.
    labels : (Z, Y, X) array of uint8
        Label map on the same grid; views with negative strides are welcome.
    geometry : Geometry
        The grid.
    organs : collection of int
        Label values to measure; all by default.

    Returns
    -------
    list of OrganStatistics
        By rising value, absent organs included.
    """
    tally = _Tally()
    for z, (plane, hu_plane) in enumerate(zip(labels, scan, strict=True)):
        tally.add(z, plane, hu_plane)
    return [
        tally.statistics(organ, geometry)
        for organ in ORGANS
        if organs is None or organ.value in organs
    ]


class _Tally:
    """Sums over the voxels of every label value, and the box around them."""

    def __init__(self) -> None:
        self.counts, self.sums, self.squares = np.zeros((3, NUM_CLASSES))
        self.first = np.full((NUM_CLASSES, 3), np.iinfo(np.int64).max)
        self.stop = np.zeros((NUM_CLASSES, 3), np.int64)

    def add(self, z: int, plane: npt.NDArray[np.uint8], hu_plane: npt.NDArray[np.int16]) -> None:
        """Take in one slice."""
        is_organ = (plane > 0) & (plane < NUM_CLASSES)
        if not is_organ.any():
            return
        values, hu = plane[is_organ], hu_plane[is_organ].astype(np.float64)
        self.counts += np.bincount(values, minlength=NUM_CLASSES)
        self.sums += np.bincount(values, hu, NUM_CLASSES)
        self.squares += np.bincount(values, hu * hu, NUM_CLASSES)
        for value, found in enumerate(ndimage.find_objects(plane, NUM_CLASSES - 1), start=1):
            if found is not None:
                y, x = found
                self.first[value] = np.minimum(self.first[value], (z, y.start, x.start))
                self.stop[value] = np.maximum(self.stop[value], (z + 1, y.stop, x.stop))

    def statistics(self, organ: Organ, geometry: Geometry) -> OrganStatistics:
        """Tell what the sums say of one organ."""
        value, count = organ.value, float(self.counts[organ.value])
        mean = sd = extent_mm = None
        edges: tuple[str, ...] = ()
        if count:
            mean = float(self.sums[value]) / count
            # Rounding may leave a hair below zero where all voxels are equal.
            sd = math.sqrt(max(0.0, float(self.squares[value]) / count - mean * mean))
            z, y, x = ((self.stop - self.first)[value] * geometry.spacing_mm).tolist()
            extent_mm = (z, y, x)
            edges = _edges(self.first[value], self.stop[value], geometry)
        return OrganStatistics(
            value=value,
            organ=organ.name,
            num_voxels=int(count),
            volume_ml=count * geometry.voxel_ml,
            mean_hu=mean,
            sd_hu=sd,
            extent_mm=extent_mm,
            edges=edges,
        )


def _edges(
    first: npt.NDArray[np.int64], stop: npt.NDArray[np.int64], geometry: Geometry
) -> tuple[str, ...]:
    """Name the faces of the scan that a box reaches."""
    reached = []
    for axis, (at_start, at_stop) in enumerate(EDGES):
        if first[axis] == 0:
            reached.append(at_start)
        if stop[axis] == geometry.shape[axis]:
            reached.append(at_stop)
    return tuple(reached)
