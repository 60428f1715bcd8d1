"""Random fields: noise with a correlation length, and smooth variation over a body."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import BoolVolume, Box, FloatVolume, IndexZYX, SpacingZYX
from app.imaging.resample import resample_linear, resampled_shape

_STEPS_PER_LENGTH = 1.2
"""Noise is drawn on a grid no finer than this share of its correlation length."""

_UNIT_VARIANCE = 1.5**1.5
"""Interpolation in three directions shrinks the mean variance by (2/3)**3."""


TRUNCATE = 2.5
"""Standard deviations at which Gaussians end."""


def noise_grid(spacing_mm: SpacingZYX, length_mm: float) -> SpacingZYX:
    """Give the grid, in mm, that noise of a correlation length is drawn on at first."""
    z, y, x = (max(step, length_mm / _STEPS_PER_LENGTH) for step in spacing_mm)
    return (z, y, x)


def correlated_noise(
    rng: np.random.Generator, shape: IndexZYX, spacing_mm: SpacingZYX, length_mm: float
) -> FloatVolume:
    """Draw Gaussian noise of unit variance with a correlation length.

    Parameters
    ----------
    rng : numpy Generator
        Source of randomness.
    shape, spacing_mm : (z, y, x)
        The grid, in voxels and mm.
    length_mm : float
        Standard deviation of the Gaussian that smooths white noise, in mm.

    Returns
    -------
    (Z, Y, X) array of float32
    """
    drawn_mm = noise_grid(spacing_mm, length_mm)
    noise = rng.standard_normal(resampled_shape(shape, spacing_mm, drawn_mm), dtype=np.float32)
    sigma_z, *in_plane = (length_mm / step for step in drawn_mm)
    # A line along z meets every plane, and a cache holds few places that are so far apart: with
    # one section at a time they are close together.
    for y in range(noise.shape[1]):
        section = np.ascontiguousarray(noise[:, y])
        noise[:, y] = ndimage.gaussian_filter1d(section, sigma_z, 0, mode="wrap", truncate=TRUNCATE)
    noise = ndimage.gaussian_filter(noise, in_plane, mode="wrap", axes=(1, 2), truncate=TRUNCATE)
    if drawn_mm != tuple(spacing_mm):
        noise = resample_linear(noise, drawn_mm, spacing_mm, shape)
    noise /= max(float(noise.std()), 1e-6)
    return noise


def num_nodes(shape: IndexZYX, spacing_mm: SpacingZYX, node_mm: float) -> IndexZYX:
    """Count the nodes of a given distance, in mm, that cover a grid, along z, y and x."""
    z, y, x = (
        math.ceil(size * step / node_mm) + 1 for size, step in zip(shape, spacing_mm, strict=True)
    )
    return (z, y, x)


def draw_nodes(
    rng: np.random.Generator, shape: IndexZYX, spacing_mm: SpacingZYX, node_mm: float
) -> FloatVolume:
    """Draw normal values at nodes a given distance apart, as many as cover a grid.

    Parameters are those of :func:`smooth_field`.

    Returns
    -------
    (nodes along z, along y, along x) array of float32
    """
    return rng.standard_normal(num_nodes(shape, spacing_mm, node_mm), dtype=np.float32)


def smooth_field(
    rng: np.random.Generator, shape: IndexZYX, spacing_mm: SpacingZYX, node_mm: float
) -> FloatVolume:
    """Draw a field that is normal at nodes a given distance apart and linear between them.

    Parameters
    ----------
    rng : numpy Generator
        Source of randomness.
    shape, spacing_mm : (z, y, x)
        The grid, in voxels and mm.
    node_mm : float
        Distance between nodes, in mm.

    Returns
    -------
    (Z, Y, X) array of float32
    """
    nodes = draw_nodes(rng, shape, spacing_mm, node_mm)
    return resample_linear(nodes, (node_mm, node_mm, node_mm), spacing_mm, shape)


@dataclass(frozen=True, slots=True)
class Noise:
    """A smooth field of unit variance over its whole volume, which is worked out where asked for.

    Parameters
    ----------
    nodes : (nodes along z, along y, along x) array of float32
        What it is between, see :func:`draw_nodes`.
    node_mm : float
        Distance between nodes, in mm.
    shape, spacing_mm : (z, y, x)
        The grid, in voxels and mm.
    """

    nodes: FloatVolume
    node_mm: float
    shape: IndexZYX
    spacing_mm: SpacingZYX

    @property
    def highest(self) -> float:
        """What the field is nowhere above."""
        return _UNIT_VARIANCE * float(self.nodes.max())

    def part(self, part: Box | None = None) -> FloatVolume:
        """Work out the field in a part of the grid; by default all of it."""
        node_mm = (self.node_mm, self.node_mm, self.node_mm)
        field = resample_linear(self.nodes, node_mm, self.spacing_mm, self.shape, part)
        field *= _UNIT_VARIANCE
        return field


def draw_noise(
    shape: IndexZYX, spacing_mm: SpacingZYX, node_mm: float, rng: np.random.Generator
) -> Noise:
    """Draw a smooth field that has unit variance over its whole volume, not only at its nodes.

    Parameters are those of :func:`smooth_field`.
    """
    return Noise(draw_nodes(rng, shape, spacing_mm, node_mm), node_mm, shape, spacing_mm)


def smooth_noise(
    shape: IndexZYX, spacing_mm: SpacingZYX, node_mm: float, rng: np.random.Generator
) -> FloatVolume:
    """Draw what :func:`draw_noise` does, and work it out everywhere.

    Parameters and result are those of :func:`smooth_field`.
    """
    return draw_noise(shape, spacing_mm, node_mm, rng).part()


def near_crossing(
    room: BoolVolume, first: FloatVolume, second: FloatVolume, width: float
) -> tuple[BoolVolume, npt.NDArray[np.float32]]:
    """Find the line where two fields cross zero together.

    Parameters
    ----------
    room : (Z, Y, X) array of bool
        Where to look.
    first, second : (Z, Y, X) arrays of float32
        The fields.
    width : float
        How far from zero both may be together.

    Returns
    -------
    near : (Z, Y, X) array of bool
        Voxels of the room that may be so near: the first field is.
    from_zero : (N,) array of float32
        How far from zero both are together, in each of these.
    """
    # The root of a sum of squares is slow, and most of the volume is too far off by one of them.
    near = room & (np.abs(first) < width)
    return near, np.hypot(first[near], second[near])


def distance_mm(mask: BoolVolume, spacing_mm: SpacingZYX) -> FloatVolume:
    """Give each voxel's distance to a mask, in mm; 0 inside, far if the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, 1e4, np.float32)
    distance: FloatVolume = ndimage.distance_transform_edt(~mask, sampling=spacing_mm).astype(
        np.float32
    )
    return distance
