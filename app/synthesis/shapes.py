"""Implicit shapes in millimeters, and the canvas they are painted on.

A shape tells for any point how deep below its surface it lies, in mm, positive
inside. Depths are exact for capsules and first-order elsewhere, which is enough
to blend shapes, to peel layers off them and to threshold them on any grid.
Points, bounds and axes are in (z, y, x) order; x grows to the left, y to the
back and z to the head of the patient.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from app.imaging.geometry import FloatVolume, LabelVolume

FloatArray: TypeAlias = npt.NDArray[np.float32]
Bounds: TypeAlias = npt.NDArray[np.float64]
Points: TypeAlias = npt.NDArray[np.float64]
Path: TypeAlias = Points | Sequence[Sequence[float] | Points]
DepthFunction: TypeAlias = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]

VOXELS_AT_ONCE = 400_000
"""Voxels evaluated together; the few float32 arrays this makes stay in a core's cache."""


class Shape(Protocol):
    """Anything that can be painted: where it can be, and how deep each point lies in it."""

    @property
    def bounds(self) -> Bounds:
        """(2, 3) array: lowest and highest (z, y, x) the shape reaches, in mm."""

    def depth(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Give the depth below the surface, in mm, of points on a broadcast grid."""


@dataclass(frozen=True, slots=True)
class Field:
    """A shape given by its bounds and a function.

    Parameters
    ----------
    bounds : (2, 3) array
        Lowest and highest (z, y, x), in mm; outside there is nothing.
    depth : callable
        Depth in mm from broadcastable z, y and x in mm.
    """

    bounds: Bounds
    depth: DepthFunction


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An ellipsoid, turned by a rotation.

    Parameters
    ----------
    center : (z, y, x) floats
        In mm.
    semi_axes : three floats
        Half lengths along the columns of ``rotation``, in mm.
    rotation : (3, 3) array, optional
        Its columns are the ellipsoid's own axes in (z, y, x).
    """

    center: Sequence[float]
    semi_axes: Sequence[float]
    rotation: npt.NDArray[np.float64] = field(default_factory=lambda: np.eye(3))

    @property
    def bounds(self) -> Bounds:
        """Tight bounds of the turned ellipsoid."""
        reach = np.sqrt(((self.rotation * np.asarray(self.semi_axes)) ** 2).sum(axis=1))
        return np.stack([self.center - reach, self.center + reach])

    def depth(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Depth by the gradient of the quadratic form; exact for a sphere."""
        offsets = [a - np.float32(c) for a, c in zip((z, y, x), self.center, strict=True)]
        first: FloatArray = np.zeros((1, 1, 1), np.float32)
        second: FloatArray = np.full((1, 1, 1), 1e-12, np.float32)
        for axis, semi in zip(self.rotation.T.tolist(), self.semi_axes, strict=True):
            # Terms along an axis of the grid stay thin; only a turned ellipsoid fills the volume.
            terms = [c / semi * o for c, o in zip(axis, offsets, strict=True) if abs(c) > 1e-9]
            local = reduce(np.add, terms) ** 2
            first = first + local
            second = second + local * (1 / semi**2)
        result: FloatArray = (1 - np.sqrt(first)) * np.sqrt(np.maximum(first, 1e-12) / second)
        return result


@dataclass(frozen=True, slots=True)
class Tube:
    """A chain of capsules: a path with a radius at each point.

    Parameters
    ----------
    points : (N, 3) array
        The path, in mm.
    radii : (N,) array
        Radius at each point, in mm.
    stretch : (z, y, x) floats
        The cross-section is wider by this factor along each axis.
    """

    points: Points
    radii: npt.NDArray[np.float64]
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def bounds(self) -> Bounds:
        """Bounds of all capsules."""
        reach = self.radii[:, None] * np.asarray(self.stretch)
        return np.stack([(self.points - reach).min(axis=0), (self.points + reach).max(axis=0)])

    def grown(self, by_mm: float) -> "Tube":
        """Give the same path with another radius; never thinner than 0.1 mm."""
        return Tube(self.points, np.maximum(self.radii + by_mm, 0.1), self.stretch)

    def depth(self, z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        """Depth in the deepest of the capsules."""
        unit = [a / np.float32(s) for a, s in zip((z, y, x), self.stretch, strict=True)]
        path = self.points / np.asarray(self.stretch)
        deepest: FloatArray | None = None
        for i in range(len(path) - 1):
            depth = _capsule_depth(unit, path[i], path[i + 1], self.radii[i], self.radii[i + 1])
            deepest = depth if deepest is None else np.maximum(deepest, depth)
        if deepest is None:
            raise ValueError(f"a tube needs two points, got {len(path)}")
        return deepest


def _from_capsule_axis(
    coordinates: Sequence[FloatArray], start: Points, stop: Points
) -> tuple[FloatArray, FloatArray]:
    """Give the place along a line segment (0 to 1) and the squared distance from it."""
    away = (stop - start).astype(np.float32)
    length_squared = max(np.float32(away @ away), np.float32(1e-9))
    offsets = [a - np.float32(s) for a, s in zip(coordinates, start, strict=True)]
    # Sums run over thin arrays first: the volume sees as few operations as can be.
    (oz, oy, ox), (az, ay, ax) = offsets, away
    along_mm = (oz * az + oy * ay) + ox * ax
    squared = (oz * oz + oy * oy) + ox * ox
    along = np.clip(along_mm / length_squared, 0, 1, dtype=np.float32)
    squared = squared + along * (along * length_squared - 2 * along_mm)
    return along, squared


def _capsule_depth(
    coordinates: Sequence[FloatArray], start: Points, stop: Points, first: float, last: float
) -> FloatArray:
    """Depth in a capsule whose radius goes linearly from ``first`` to ``last``."""
    along, squared = _from_capsule_axis(coordinates, start, stop)
    depth: FloatArray = (
        np.float32(first) + along * np.float32(last - first) - np.sqrt(np.maximum(squared, 0))
    )
    return depth


def smooth_tube(
    points: Path,
    radii: Sequence[float] | float,
    *,
    step_mm: float = 7.0,
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Tube:
    """Lay a tube along a cubic spline through a few points.

    Parameters
    ----------
    points : (N, 3) nested sequence
        Points (z, y, x) on the path, in mm.
    radii : N floats or one
        Radius at each of them, in mm.
    step_mm : float
        Length of the capsules the curve is broken into.
    stretch : (z, y, x) floats
        See :class:`Tube`.
    """
    path = np.asarray(points, np.float64)
    radius = np.broadcast_to(np.asarray(radii, np.float64), len(path))
    along = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
    # A path that stays where it is for a point has no direction there.
    moves = np.diff(along, prepend=-1.0) > 0
    if moves.sum() < 2:
        return Tube(path[:2], radius[:2], stretch)
    along, path, radius = along[moves], path[moves], radius[moves]
    places = np.linspace(0, along[-1], max(2, round(along[-1] / step_mm) + 1))
    return Tube(CubicSpline(along, path)(places), np.interp(places, along, radius), stretch)


def _overlap(bounds: Sequence[Bounds]) -> Bounds:
    return np.stack([np.max([b[0] for b in bounds], 0), np.min([b[1] for b in bounds], 0)])


def _hull(bounds: Sequence[Bounds]) -> Bounds:
    return np.stack([np.min([b[0] for b in bounds], 0), np.max([b[1] for b in bounds], 0)])


def blended_minimum(a: FloatArray, b: FloatArray, blend_mm: float) -> FloatArray:
    """Take the smaller of two depths, with the edge where they meet rounded off."""
    if blend_mm <= 0:
        return np.minimum(a, b)
    near = np.maximum(np.float32(blend_mm) - np.abs(a - b), 0)
    blended: FloatArray = np.minimum(a, b) - near * near * np.float32(0.25 / blend_mm)
    return blended


def intersect(*shapes: Shape, blend_mm: float = 0.0) -> Field:
    """Keep what lies in all shapes, edges rounded over ``blend_mm``."""

    def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        result = shapes[0].depth(z, y, x)
        for shape in shapes[1:]:
            result = blended_minimum(result, shape.depth(z, y, x), blend_mm)
        return result

    return Field(_overlap([shape.bounds for shape in shapes]), depth)


def unite(*shapes: Shape, blend_mm: float = 0.0) -> Field:
    """Join shapes, seams filled over ``blend_mm``."""

    def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        result = -shapes[0].depth(z, y, x)
        for shape in shapes[1:]:
            result = blended_minimum(result, -shape.depth(z, y, x), blend_mm)
        return -result

    return grow(Field(_hull([shape.bounds for shape in shapes]), depth), 0.0, pad_mm=blend_mm / 2)


def subtract(shape: Shape, *others: Shape, blend_mm: float = 0.0) -> Field:
    """Take other shapes out of one."""

    def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        result = shape.depth(z, y, x)
        for other in others:
            result = blended_minimum(result, -other.depth(z, y, x), blend_mm)
        return result

    return Field(shape.bounds, depth)


def grow(shape: Shape, by_mm: float, *, pad_mm: float = 0.0) -> Field:
    """Move a shape's surface outwards; inwards where ``by_mm`` is negative."""

    def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        return shape.depth(z, y, x) + np.float32(by_mm)

    pad = max(by_mm, 0.0) + pad_mm
    return Field(shape.bounds + np.array([[-pad], [pad]]), depth)


def wobble(shape: Shape, amplitude_mm: float, wavelength_mm: float, phase: float) -> Field:
    """Make a surface uneven: bumps of some height and distance, placed by ``phase``."""
    wave = float(2 * np.pi / wavelength_mm)

    def depth(z: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
        # Products of waves along single axes: three small arrays instead of one large one.
        bumps = (
            np.sin(wave * z + phase) * np.sin(1.13 * wave * y + 2.1 * phase)
            + np.sin(0.87 * wave * y + 3.7 * phase) * np.sin(1.07 * wave * x + 5.3 * phase)
            + np.sin(0.93 * wave * x + 4.3 * phase) * np.sin(1.21 * wave * z + 1.7 * phase)
        )
        result: FloatArray = shape.depth(z, y, x) + np.float32(amplitude_mm) * bumps
        return result

    return grow(Field(shape.bounds, depth), 0.0, pad_mm=1.5 * amplitude_mm)


def in_front_of(y_mm: float, extent: Bounds) -> Field:
    """Give the half space before a coronal plane, cut to ``extent``: where gas rises, supine."""
    bounds = extent.copy()
    bounds[1, 1] = min(bounds[1, 1], y_mm)
    return Field(bounds, lambda _z, y, _x: np.float32(y_mm) - y)


def frame(axis: Sequence[float], toward: Sequence[float]) -> npt.NDArray[np.float64]:
    """Build a rotation: first column along ``axis``, second as near to ``toward`` as can be."""
    first = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    second = np.asarray(toward, np.float64) - np.dot(toward, first) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second, np.cross(first, second)], axis=1)


def _lookup(tissues: Sequence[int] | None) -> npt.NDArray[np.bool_] | None:
    if tissues is None:
        return None
    chosen = np.zeros(256, bool)
    chosen[list(tissues)] = True
    return chosen


class Canvas:
    """A tissue map that shapes are painted on, one over the other.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Changed in place.
    z, y, x : arrays of float32
        Rising positions of the voxel centers along each axis, in the shapes' mm.
    """

    def __init__(self, tissues: LabelVolume, z: FloatArray, y: FloatArray, x: FloatArray) -> None:
        self.tissues = tissues
        self._axes = (z, y, x)

    def paint(self, shape: Shape, tissue: int, *, over: Sequence[int] | None = None) -> None:
        """Fill a shape with a tissue.

        Parameters
        ----------
        shape : Shape
            Looked at only inside its bounds.
        tissue : int
            Value written where the depth is positive.
        over : sequence of int, optional
            Tissues that give way; by default all do.
        """
        gives_way = _lookup(over)
        for window, depth in self._depths(shape):
            inside = depth > 0
            region = self.tissues[window]
            if gives_way is not None:
                inside &= gives_way[region]
            np.copyto(region, np.uint8(tissue), where=inside)

    def paint_tube(self, tube: Tube, tissue: int, *, over: Sequence[int] | None = None) -> None:
        """Fill a tube capsule by capsule, each in its own bounds, so that a long one stays cheap.

        Parameters are those of :meth:`paint`.
        """
        gives_way = _lookup(over)
        stretch = np.asarray(tube.stretch)
        path = tube.points / stretch
        z, y, x = (axis / np.float32(s) for axis, s in zip(self._axes, stretch, strict=True))
        reach = np.maximum(tube.radii[:-1], tube.radii[1:])[:, None]
        low = np.minimum(path[:-1], path[1:]) - reach
        high = np.maximum(path[:-1], path[1:]) + reach
        start = np.stack([a.searchsorted(v, "left") for a, v in zip((z, y, x), low.T, strict=True)])
        stop = np.stack(
            [a.searchsorted(v, "right") for a, v in zip((z, y, x), high.T, strict=True)]
        )
        for i in np.flatnonzero((start < stop).all(axis=0)).tolist():
            (z0, y0, x0), (z1, y1, x1) = start[:, i].tolist(), stop[:, i].tolist()
            grid = (z[z0:z1, None, None], y[y0:y1, None], x[x0:x1])
            along, squared = _from_capsule_axis(grid, path[i], path[i + 1])
            first, last = tube.radii[i], tube.radii[i + 1]
            inside = (np.float32(first) + along * np.float32(last - first)) ** 2 > squared
            region = self.tissues[z0:z1, y0:y1, x0:x1]
            if gives_way is not None:
                inside &= gives_way[region]
            region[inside] = tissue

    def _depths(self, shape: Shape) -> Iterator[tuple[tuple[slice, slice, slice], FloatVolume]]:
        starts, stops = [], []
        for axis, low, high in zip(self._axes, *shape.bounds, strict=True):
            starts.append(int(np.searchsorted(axis, low, "left")))
            stops.append(int(np.searchsorted(axis, high, "right")))
        (z0, y0, x0), (z1, y1, x1) = starts, stops
        if z0 >= z1 or y0 >= y1 or x0 >= x1:
            return
        z, y, x = self._axes
        step = max(1, VOXELS_AT_ONCE // ((y1 - y0) * (x1 - x0)))
        for first in range(z0, z1, step):
            last = min(first + step, z1)
            window = (slice(first, last), slice(y0, y1), slice(x0, x1))
            grid = z[first:last, None, None], y[None, y0:y1, None], x[None, None, x0:x1]
            depth = shape.depth(*grid)
            yield window, np.broadcast_to(depth, (last - first, y1 - y0, x1 - x0))
