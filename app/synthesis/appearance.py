"""What a CT scanner makes of a tissue map: HU, contrast agent, texture, blur and noise.

Each synthetic scan draws an :class:`Appearance` of its own. The ranges are wider
than those of real scans on purpose, so that a network trained on them relies on
shape and context and not on one scanner's gray values.

References
----------
Billot et al., "SynthSeg: Segmentation of brain MRI scans of any contrast and
resolution without retraining", Medical Image Analysis 2023 (domain randomization).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.errors import UsageError
from app.imaging.geometry import FloatVolume, IndexZYX, LabelVolume, SpacingZYX
from app.imaging.resample import positions, resample_linear, resampled_shape
from app.synthesis.fields import TRUNCATE, correlated_noise, smooth_field
from app.synthesis.tissues import RADIODENSITY, Radiodensity, Tissue

PHASES = ("none", "arterial", "portal", "late")
"""Contrast phases: none, and about 30 s, 70 s and 180 s after injection."""

AIR_HU, BRIGHTEST_HU = -1024.0, 3071.0

SHADING_MM = 100.0
"""Distance over which the error of beam hardening changes, in mm."""

_NEARLY_ALIKE = (
    (Tissue.RIGHT_KIDNEY, Tissue.LEFT_KIDNEY),
    (Tissue.RIGHT_KIDNEY_MEDULLA, Tissue.LEFT_KIDNEY_MEDULLA),
    (Tissue.RIGHT_ADRENAL, Tissue.LEFT_ADRENAL),
    (Tissue.AORTA, Tissue.ARTERY),
    (Tissue.INFERIOR_VENA_CAVA, Tissue.VEIN),
    (Tissue.BOWEL_WALL, Tissue.COLON_WALL),
    (Tissue.GALLBLADDER, Tissue.BILE),
)
"""Pairs that differ in one body by little."""

_ALIKE_BEFORE_CONTRAST = (
    (Tissue.INFERIOR_VENA_CAVA, Tissue.RENAL_BLOOD),
    (Tissue.SPLEEN, Tissue.SPLEEN_PULP),
)
"""Pairs that only contrast agent parts, as much as their enhancement differs or less."""

_PARTS_KEPT_APART = (Tissue.AIR, Tissue.STOMACH_GAS, Tissue.BOWEL_GAS, Tissue.AIRWAY, Tissue.LUNG)
"""Gas: no extra randomization, it is what it is."""

_SWALLOWED = (
    Tissue.STOMACH_CONTENT,
    Tissue.DUODENUM_CONTENT,
    Tissue.BOWEL_CONTENT,
    Tissue.BOWEL_FLUID,
)
"""What a drink of contrast agent before the scan reaches."""

_FATTY_LIVER_SHARE, _DRINK_SHARE, _SHARP_SHARE, _STREAK_SHARE = 0.15, 0.12, 0.3, 0.15
"""How many scans show a fatty liver, contrast agent in the bowel, a sharp kernel, streaks."""

_EXCRETED_SHARE, _EXCRETED_HU = 0.5, (60.0, 800.0)
"""How many late scans show contrast agent in the urine, and what it adds there."""

_PATCH_HU = 16.0
"""Standard deviation of how much brighter a patch of the liver with more or less fat is."""

_NO_FAT_SHARE, _FATTY_PANCREAS_SHARE, _FAINT_SHARE = 0.1, 0.2, 0.4
"""How many scans show fat that is hardly darker than the organs, as in thin or swollen patients;
a fatty pancreas; and how many unenhanced ones show hardly a difference between soft tissues."""

_ALIKE_UNENHANCED = (
    Tissue.RIGHT_KIDNEY,
    Tissue.RIGHT_KIDNEY_MEDULLA,
    Tissue.PANCREAS,
    Tissue.STOMACH,
    Tissue.DUODENUM,
    Tissue.BOWEL_WALL,
    Tissue.BOWEL_FLUID,
    Tissue.MUSCLE,
)
"""Tissues that are told apart by place and shape alone there; others follow a leader of theirs."""

_COARSE_SHARE = 0.3
"""How many scans were resampled to wide voxels before anyone saw them."""

STREAK_MM = 60.0
"""Distance along x over which a streak changes, in mm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appearance:
    """How one synthetic scan looks.

    Parameters
    ----------
    hu : (256,) array of float32
        Mean of each tissue, in HU.
    texture_hu : (256,) array of float32
        Standard deviation of slow variation inside each tissue, in HU.
    texture_mm : float
        Correlation length of that variation, in mm.
    blur_mm : float
        In-plane standard deviation of the scanner's point spread, in mm.
    slice_mm : float
        Slice thickness, in mm; slices thicker than the grid's are averaged, then interpolated.
    pixel_mm : float
        In-plane voxel size that the scan was resampled to afterwards, in mm; 0 leaves the grid's.
    pixels_averaged : bool
        Whether that resampling averaged, or took single places and left the noise as it was.
    noise_hu, noise_mm : float
        Standard deviation (HU) and correlation length (mm) of quantum noise.
    shading_hu : float
        Standard deviation of the smooth error that beam hardening leaves, in HU.
    sharpness : float
        How much of what the blur took the reconstruction kernel gives back, overshoot included.
    streak_hu : float
        Standard deviation of streaks from side to side, as between the arms, in HU.
    """

    hu: npt.NDArray[np.float32]
    texture_hu: npt.NDArray[np.float32]
    texture_mm: float
    blur_mm: float
    slice_mm: float
    noise_hu: float
    noise_mm: float
    shading_hu: float
    sharpness: float = 0.0
    pixel_mm: float = 0.0
    pixels_averaged: bool = True
    streak_hu: float = 0.0


def _bolus(rng: np.random.Generator, phase: str) -> tuple[float, float, float]:
    """Weigh arterial, portal and late enhancement; scans are seldom exactly on time."""
    strength = rng.uniform(0.6, 1.35)
    late = rng.uniform(0.0, 0.35)
    return {
        "none": (0.0, 0.0, 0.0),
        "arterial": (strength * (1 - late), strength * late, 0.0),
        "portal": (strength * late * 0.5, strength * (1 - late), strength * late * 0.5),
        "late": (0.0, strength * late, strength * (1 - late)),
    }[phase]


def _enhancement(density: Radiodensity, bolus: tuple[float, float, float]) -> float:
    """Give what a bolus, arterial, portal and late, adds to a tissue, in HU."""
    arterial, portal, late = bolus
    return arterial * density.arterial_hu + portal * density.portal_hu + late * density.late_hu


def draw_appearance(rng: np.random.Generator, *, phase: str | None = None) -> Appearance:
    """Draw the look of one scan.

    Parameters
    ----------
    rng : numpy Generator
        Source of randomness.
    phase : str, optional
        One of :data:`PHASES`; drawn when not given.

    Returns
    -------
    Appearance

    Raises
    ------
    UsageError
        If ``phase`` is none of :data:`PHASES`.
    """
    if phase is None:
        phase = str(rng.choice(PHASES, p=(0.3, 0.2, 0.35, 0.15)))
    if phase not in PHASES:
        raise UsageError(f"phase {phase!r} is none of {', '.join(PHASES)}")
    bolus = _bolus(rng, phase)
    extra_spread = rng.uniform(0.0, 12.0)
    texture_gain = rng.uniform(0.4, 1.8)
    hu = np.zeros(256, np.float32)
    texture = np.zeros(256, np.float32)
    for tissue, density in RADIODENSITY.items():
        extra = 0.0 if tissue in _PARTS_KEPT_APART else extra_spread
        hu[tissue] = density.hu + _enhancement(density, bolus) * rng.uniform(0.8, 1.2)
        hu[tissue] += rng.normal(0.0, np.hypot(density.spread_hu, extra))
        texture[tissue] = density.texture_hu * texture_gain
    if phase == "none" and rng.random() < _FAINT_SHARE:
        alike = list(_ALIKE_UNENHANCED)
        hu[alike] = 0.7 * hu[alike].mean() + 0.3 * hu[alike]
    for leader, follower in _NEARLY_ALIKE:
        hu[follower] = hu[leader] + rng.normal(0.0, 3.0)
    for leader, follower in _ALIKE_BEFORE_CONTRAST:
        one, other = (_enhancement(RADIODENSITY[tissue], bolus) for tissue in (leader, follower))
        hu[follower] = hu[leader] + (other - one) * rng.uniform(0.3, 1.2)
    hu[Tissue.PORTAL_VEIN] = max(hu[Tissue.PORTAL_VEIN], hu[Tissue.LIVER] - 25)
    if rng.random() < _FATTY_LIVER_SHARE:
        hu[Tissue.LIVER] -= rng.uniform(10.0, 60.0)
    hu[Tissue.LIVER_PATCH] = hu[Tissue.LIVER] + rng.normal(0.0, _PATCH_HU)
    if rng.random() < _FATTY_PANCREAS_SHARE:
        hu[Tissue.PANCREAS] -= rng.uniform(10.0, 45.0)
    if rng.random() < _NO_FAT_SHARE:
        hu[Tissue.MESENTERY] += rng.uniform(15.0, 90.0)
    if rng.random() < _DRINK_SHARE:
        hu[list(_SWALLOWED)] = hu[Tissue.ORAL_CONTRAST] * rng.uniform(0.4, 1.2, len(_SWALLOWED))
    if phase == "late" and rng.random() < _EXCRETED_SHARE:
        hu[Tissue.URINE] += rng.uniform(*_EXCRETED_HU)
    return Appearance(
        hu=hu,
        texture_hu=texture,
        texture_mm=rng.uniform(2.0, 6.0),
        blur_mm=rng.uniform(0.4, 1.2),
        slice_mm=float(rng.choice((1.0, 1.25, 2.0, 2.5, 3.0, 5.0))),
        noise_hu=rng.gamma(2.0, 10.0),
        noise_mm=rng.uniform(0.15, 0.8),
        shading_hu=rng.uniform(0.0, 6.0),
        sharpness=rng.uniform(0.2, 1.5) if rng.random() < _SHARP_SHARE else 0.0,
        streak_hu=rng.uniform(3.0, 25.0) if rng.random() < _STREAK_SHARE else 0.0,
        pixel_mm=rng.uniform(1.5, 3.5) if rng.random() < _COARSE_SHARE else 0.0,
        pixels_averaged=bool(rng.random() < 0.5),
    )


def slice_grid(spacing_mm: SpacingZYX, appearance: Appearance) -> SpacingZYX:
    """Give the grid of a scan's slices, in mm: the tissue map's, or with thicker ones."""
    step_z, step_y, step_x = spacing_mm
    return (max(appearance.slice_mm, step_z), step_y, step_x)


def pixel_grid(spacing_mm: SpacingZYX, appearance: Appearance) -> SpacingZYX:
    """Give the grid, in mm, that a scan is resampled to in-plane before it is handed on."""
    step_z, step_y, step_x = spacing_mm
    return (step_z, max(appearance.pixel_mm, step_y), max(appearance.pixel_mm, step_x))


def picked(num_out: int, step_out: float, num_in: int, step_in: float) -> npt.NDArray[np.int64]:
    """Give the voxel along an axis that is nearest to each of a coarser grid's."""
    nearest = np.rint(positions(num_out, step_out, num_in, step_in))
    return np.clip(nearest, 0, num_in - 1).astype(np.int64)


def scan(
    tissues: LabelVolume, spacing_mm: SpacingZYX, appearance: Appearance, rng: np.random.Generator
) -> tuple[FloatVolume, SpacingZYX]:
    """Turn a tissue map into a CT scan with slices of its own.

    Texture lies in the body, blur and slice thickness act on what lies there,
    noise is added by the scanner last.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        :class:`~app.synthesis.tissues.Tissue` values.
    spacing_mm : (z, y, x) floats
        Grid of the tissue map, in mm.
    appearance : Appearance
        The scan's look.
    rng : numpy Generator
        Source of texture and noise.

    Returns
    -------
    hu : (Z', Y, X) array of float32
        HU, clipped to -1024 ... 3071; on the grid that shares the tissue map's center.
    spacing_mm : (z, y, x) floats
        The tissue map's, or slice thickness and voxel size of the scan, where those are larger.
    """
    shape = tissues.shape
    hu = correlated_noise(rng, shape, spacing_mm, appearance.texture_mm)
    # In a plane at a time, which stays in the cache; clipping is no more than a fast way to index.
    for plane, kinds in zip(hu, tissues, strict=True):
        plane *= appearance.texture_hu.take(kinds, mode="clip")
        plane += appearance.hu.take(kinds, mode="clip")
    thick = slice_grid(spacing_mm, appearance)
    if thick != tuple(spacing_mm):
        hu = resample_linear(hu, spacing_mm, thick, resampled_shape(shape, spacing_mm, thick))
    sigma = [appearance.blur_mm / step for step in spacing_mm[1:]]
    blurred = ndimage.gaussian_filter(hu, sigma, axes=(1, 2), truncate=TRUNCATE)
    if appearance.sharpness:
        again = ndimage.gaussian_filter(blurred, sigma, axes=(1, 2), truncate=TRUNCATE)
        blurred += appearance.sharpness * (blurred - again)
    hu = blurred
    hu += appearance.noise_hu * correlated_noise(rng, hu.shape, thick, appearance.noise_mm)
    hu += appearance.shading_hu * smooth_field(rng, hu.shape, thick, SHADING_MM)
    if appearance.streak_hu:
        hu += appearance.streak_hu * _streaks(rng, hu.shape, thick[2])
    hu = np.clip(hu, AIR_HU, BRIGHTEST_HU, out=hu)
    return _widen_pixels(hu, thick, appearance)


def _widen_pixels(
    hu: FloatVolume, spacing_mm: SpacingZYX, appearance: Appearance
) -> tuple[FloatVolume, SpacingZYX]:
    """Resample a scan in-plane as users do before they hand it on."""
    wide = pixel_grid(spacing_mm, appearance)
    if wide == tuple(spacing_mm):
        return hu, spacing_mm
    shape = resampled_shape(hu.shape, spacing_mm, wide)
    if appearance.pixels_averaged:
        return resample_linear(hu, spacing_mm, wide, shape), wide
    rows, columns = (
        picked(*axis)
        for axis in zip(shape[1:], wide[1:], hu.shape[1:], spacing_mm[1:], strict=True)
    )
    return hu[:, rows[:, None], columns], wide


def streak_nodes(shape: IndexZYX, step_x: float) -> IndexZYX:
    """Count the values that streaks are drawn between: a few in each row of voxels."""
    num_z, num_y, num_x = shape
    return (num_z, num_y, int(num_x * step_x / STREAK_MM) + 2)


def _streaks(rng: np.random.Generator, shape: IndexZYX, step_x: float) -> FloatVolume:
    """Draw noise of unit variance that hardly changes along x."""
    nodes = rng.standard_normal(streak_nodes(shape, step_x))
    return resample_linear(
        nodes.astype(np.float32), (1.0, 1.0, STREAK_MM), (1.0, 1.0, step_x), shape
    )


def render(
    tissues: LabelVolume, spacing_mm: SpacingZYX, appearance: Appearance, rng: np.random.Generator
) -> FloatVolume:
    """Turn a tissue map into a CT scan on the same grid.

    Parameters are those of :func:`scan`; thick slices are interpolated.

    Returns
    -------
    (Z, Y, X) array of float32
        HU, clipped to -1024 ... 3071.
    """
    hu, scanned_mm = scan(tissues, spacing_mm, appearance, rng)
    if scanned_mm != tuple(spacing_mm):
        hu = resample_linear(hu, scanned_mm, spacing_mm, tissues.shape)
    return hu
