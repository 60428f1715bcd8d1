"""Phantom scans: a procedural abdomen with its label map, of any size, spacing and seed.

Nothing here comes from a patient. The anatomy of a seed is fixed in millimeters
before the grid is known, so the same seed on two grids is the same body.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from app.errors import UsageError
from app.imaging.geometry import IndexZYX, LabelVolume, ScanVolume, SpacingZYX
from app.synthesis.appearance import AIR_HU, BRIGHTEST_HU, Appearance, draw_appearance
from app.synthesis.fields import correlated_noise
from app.synthesis.procedural.chest import paint_chest
from app.synthesis.procedural.patient import Patient, draw_patient
from app.synthesis.procedural.skeleton import paint_skeleton
from app.synthesis.procedural.torso import make_torso, paint_muscles, paint_skin_and_wall
from app.synthesis.procedural.viscera import paint_viscera
from app.synthesis.shapes import Canvas, FloatArray
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue

_ORGANS_Z, _TRUNK_Z = 28.0, -30.0
"""Middle of the organs, and of a scan from neck to thighs, in reference mm."""

_SHORT_MM, _LONG_MM = 420.0, 720.0
"""Scans up to the one are centered on the organs, from the other on the trunk."""

_CENTER_Y = -52.0
"""Middle of the trunk from front to back, in reference mm."""

_NOISE_SLICES, _LEAST_NOISE = 24, 8
"""Slices after which noise repeats; fewest voxels along an axis it is drawn for."""

_CRUMB = 0.1
"""Parts of an organ smaller than this share of its largest are no part of it."""

_LARGEST_NOISE_HU = 20.0


def _check(shape: IndexZYX, spacing_mm: SpacingZYX, seed: int) -> None:
    if min(shape) < 1 or min(spacing_mm) <= 0:
        raise UsageError(f"size {shape} at {spacing_mm} mm holds no voxel: both must be positive")
    if seed < 0:
        raise UsageError(f"seed {seed} must not be negative")


def _axes(
    shape: IndexZYX, spacing_mm: SpacingZYX, patient: Patient
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Give the reference coordinates of the voxel centers along each axis."""
    extent_z = shape[0] * spacing_mm[0]
    share = float(np.clip((extent_z - _SHORT_MM) / (_LONG_MM - _SHORT_MM), 0, 1))
    centers = (_ORGANS_Z + share * (_TRUNK_Z - _ORGANS_Z), _CENTER_Y, 0.0)
    z, y, x = (
        (center + (np.arange(size) - (size - 1) / 2) * (step / stretch)).astype(np.float32)
        for center, size, step, stretch in zip(
            centers, shape, spacing_mm, patient.stretch, strict=True
        )
    )
    return z, y, x


def phantom_tissues(*, shape: IndexZYX, spacing_mm: SpacingZYX, seed: int) -> LabelVolume:
    """Build the tissue map of a phantom.

    Parameters
    ----------
    shape : (z, y, x) ints
        Size of the scan, in voxels.
    spacing_mm : (z, y, x) floats
        Its spacing, in mm.
    seed : int
        Which patient.

    Returns
    -------
    (Z, Y, X) array of uint8
        :class:`~app.synthesis.tissues.Tissue` values, axes along L, P and S. Scans
        up to 420 mm long are centered on the organs, longer ones on the trunk.

    Raises
    ------
    UsageError
        If the grid is empty or the seed negative.
    """
    _check(shape, spacing_mm, seed)
    patient = draw_patient(seed)
    torso = make_torso(patient)
    tissues = np.zeros(shape, np.uint8)
    canvas = Canvas(tissues, *_axes(shape, spacing_mm, patient))
    paint_skin_and_wall(canvas, patient, torso)
    paint_muscles(canvas, torso)
    paint_skeleton(canvas, torso)
    paint_chest(canvas, patient, torso)
    paint_viscera(canvas, patient, torso)
    _drop_crumbs(tissues)
    return tissues


def make_phantom(
    *, shape: IndexZYX, spacing_mm: SpacingZYX, seed: int, phase: str | None = None
) -> tuple[ScanVolume, LabelVolume]:
    """Make a phantom scan and its label map.

    Parameters
    ----------
    shape : (z, y, x) ints
        Size of the scan, in voxels.
    spacing_mm : (z, y, x) floats
        Its spacing, in mm.
    seed : int
        Which patient and which scan of this patient.
    phase : str, optional
        Contrast phase, one of :data:`app.synthesis.appearance.PHASES`; drawn when not given.

    Returns
    -------
    scan : (Z, Y, X) array of int16
        HU.
    label_map : (Z, Y, X) array of uint8
        Values of :data:`app.labels.ORGANS`.

    Raises
    ------
    UsageError
        If the grid is empty, the seed negative or the phase unknown.
    """
    _check(shape, spacing_mm, seed)
    rng = np.random.default_rng([seed, 2])
    appearance = draw_appearance(rng, phase=phase)
    tissues = phantom_tissues(shape=shape, spacing_mm=spacing_mm, seed=seed)
    appearance = replace(appearance, noise_hu=min(appearance.noise_hu, _LARGEST_NOISE_HU))
    scan = _render_in_slabs(tissues, spacing_mm, appearance, rng)
    for plane in tissues:
        plane[...] = ORGAN_OF_TISSUE[plane]
    return scan, tissues


def _render_in_slabs(
    tissues: LabelVolume, spacing_mm: SpacingZYX, appearance: Appearance, rng: np.random.Generator
) -> ScanVolume:
    """Render a few slices at a time, so that no float volume of the scan's size exists.

    Texture and noise repeat every few slices: they are drawn once, in a block
    whose last slice goes over into its first.
    """
    num_slices, *plane_shape = tissues.shape
    depth = min(_NOISE_SLICES, max(num_slices, _LEAST_NOISE))
    block = (depth, *(max(size, _LEAST_NOISE) for size in plane_shape))
    texture, noise = (
        correlated_noise(rng, block, spacing_mm, length)[:, : plane_shape[0], : plane_shape[1]]
        for length in (appearance.texture_mm, appearance.noise_mm)
    )
    noise *= appearance.noise_hu
    sigma = [appearance.blur_mm / step for step in spacing_mm[1:]]
    scan = np.empty(tissues.shape, np.int16)
    for first in range(0, num_slices, depth):
        slab = tissues[first : first + depth]
        hu = appearance.hu[slab]
        hu += appearance.texture_hu[slab] * texture[: len(slab)]
        ndimage.gaussian_filter(hu, sigma, axes=(1, 2), truncate=2.5, output=hu)
        hu += noise[: len(slab)]
        scan[first : first + depth] = np.rint(np.clip(hu, AIR_HU, BRIGHTEST_HU, out=hu), out=hu)
    return scan


def _drop_crumbs(tissues: LabelVolume) -> None:
    """Turn what a neighbor has cut off an organ into fat, in place."""
    for value, window in _organ_boxes(tissues).items():
        region = tissues[window]
        parts, count = ndimage.label(ORGAN_OF_TISSUE[region] == value, np.ones((3, 3, 3), bool))
        if count > 1:
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            crumb = sizes < _CRUMB * sizes.max()
            crumb[0] = False
            region[crumb[parts]] = Tissue.FAT


def _organ_boxes(tissues: LabelVolume) -> dict[int, tuple[slice, slice, slice]]:
    """Find the box around each organ, one plane at a time."""
    low: dict[int, list[int]] = {}
    high: dict[int, list[int]] = {}
    for z, plane in enumerate(tissues):
        for i, found in enumerate(ndimage.find_objects(ORGAN_OF_TISSUE[plane])):
            if found is None:
                continue
            (y0, y1), (x0, x1) = ((s.start, s.stop) for s in found)
            lowest = low.setdefault(i + 1, [z, y0, x0])
            highest = high.setdefault(i + 1, [z + 1, y1, x1])
            low[i + 1] = [lowest[0], min(lowest[1], y0), min(lowest[2], x0)]
            high[i + 1] = [z + 1, max(highest[1], y1), max(highest[2], x1)]
    return {
        value: (slice(z0, z1), slice(y0, y1), slice(x0, x1))
        for value, (z0, y0, x0) in low.items()
        for z1, y1, x1 in [high[value]]
    }
