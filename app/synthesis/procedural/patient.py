"""Who the phantom is: everything that differs from one patient to the next.

All shapes are laid down for one reference patient, in mm, with the origin in the
spinal canal at the first lumbar vertebra. A patient is that reference, stretched
along the three axes, with more or less fat, with organs larger or smaller and
moved a little, all drawn once from a seed and before any grid is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import SpacingZYX
from app.labels import ORGANS

_ORGAN_SPREAD = {
    "liver": 0.20,
    "right_kidney": 0.20,
    "spleen": 0.33,
    "pancreas": 0.22,
    "aorta": 0.14,
    "inferior_vena_cava": 0.20,
    "right_adrenal_gland": 0.20,
    "left_adrenal_gland": 0.20,
    "gallbladder": 0.42,
    "esophagus": 0.20,
    "stomach": 0.38,
    "duodenum": 0.20,
    "left_kidney": 0.20,
}
"""Standard deviation of the logarithm of an organ's volume between patients."""

_LIMIT = 1.8
"""Draws from a normal distribution are clipped at this many standard deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """One body's measures.

    Parameters
    ----------
    stretch : (z, y, x) floats
        The patient's mm for each mm of the reference.
    fat_mm : float
        Subcutaneous fat at the flank, in mm.
    belly : float
        Visceral fat: 0 slim, 1 very obese.
    girth : dict of str to float
        Length of each organ relative to the reference: the cube root of its volume.
    shift_mm : dict of str to (z, y, x) floats
        How far each organ lies from its reference place, in mm.
    breath_mm : float
        How far the diaphragm and what hangs on it lie below the reference, in mm.
    tilt : dict of str to float
        Turn of each organ, in radians.
    stomach_level_mm : float
        Height of the stomach's fluid level above its axis, in mm.
    phase : float
        Places bumps, bowel loops and haustra.
    """

    stretch: SpacingZYX
    fat_mm: float
    belly: float
    girth: dict[str, float]
    shift_mm: dict[str, tuple[float, float, float]]
    breath_mm: float
    tilt: dict[str, float]
    stomach_level_mm: float
    phase: float


def _normal(rng: np.random.Generator, size: int = 1) -> npt.NDArray[np.float64]:
    return np.clip(rng.normal(size=size), -_LIMIT, _LIMIT)


def draw_patient(seed: int) -> Patient:
    """Draw a patient.

    Parameters
    ----------
    seed : int
        The same number gives the same patient, whatever the scan.
    """
    rng = np.random.default_rng([seed, 1])
    tall, broad, deep = (float(value) for value in _normal(rng, 3))
    weight = _normal(rng).item()
    frame_size = 1 + 0.035 * tall
    names = [organ.name for organ in ORGANS]
    # Organs of one patient are large or small together to some degree.
    shared = 0.06 * tall + 0.08 * _normal(rng).item()
    volumes = {name: shared + _ORGAN_SPREAD[name] * _normal(rng).item() for name in names}
    # The two kidneys of a patient resemble each other.
    volumes["left_kidney"] = 0.75 * volumes["right_kidney"] + 0.25 * volumes["left_kidney"]
    shifts = {name: tuple(_normal(rng, 3) * (4.5, 2.0, 2.0)) for name in names}
    return Patient(
        stretch=(
            frame_size,
            1.0 + 0.04 * deep + 0.05 * weight,
            1.02 + 0.03 * broad + 0.025 * tall + 0.035 * weight,
        ),
        fat_mm=float(np.clip(17 * np.exp(0.45 * weight + 0.25 * _normal(rng).item()), 5, 48)),
        belly=float(np.clip(0.32 + 0.3 * weight + 0.12 * _normal(rng).item(), 0, 1)),
        girth={name: float(np.exp(volume / 3)) for name, volume in volumes.items()},
        shift_mm={name: (float(z), float(y), float(x)) for name, (z, y, x) in shifts.items()},
        breath_mm=float(6 * _normal(rng).item()),
        tilt={name: 0.10 * _normal(rng).item() for name in names},
        stomach_level_mm=float(rng.uniform(-6, 16)),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


class Placement:
    """Put reference points of one organ where this patient has them.

    Parameters
    ----------
    patient : Patient
        Whose organ.
    organ : str
        Its name in :mod:`app.labels`.
    center : (z, y, x) floats
        The reference point about which it is turned and made larger or smaller, in mm.
    """

    def __init__(self, patient: Patient, organ: str, center: Sequence[float]) -> None:
        self.girth = patient.girth[organ]
        self.tilt = patient.tilt[organ]
        self.shift = np.asarray(patient.shift_mm[organ]) - (patient.breath_mm, 0, 0)
        self._center = np.asarray(center, np.float64)

    def __call__(self, *points: Sequence[float]) -> list[list[float]]:
        """Give the patient's places (z, y, x) of reference points, in mm."""
        turn = np.array(
            [[np.cos(self.tilt), 0, -np.sin(self.tilt)], [0, 1, 0],
             [np.sin(self.tilt), 0, np.cos(self.tilt)]]
        )  # fmt: skip
        offsets = (np.asarray(points, np.float64) - self._center) * self.girth
        placed: list[list[float]] = (offsets @ turn.T + self._center + self.shift).tolist()
        return placed

    def radii(self, *values: float) -> list[float]:
        """Scale radii with the organ."""
        return [value * self.girth for value in values]
