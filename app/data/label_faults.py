"""Label maps broken on purpose, to measure what repairs them.

Faults are those seen in pseudo-labels: slices dropped, parts cut off, organs
swapped, false blobs. A fault that finds too few organs breaks what there is, or nothing.
"""

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

from app.imaging.geometry import BoolVolume, FloatVolume, LabelVolume, SpacingZYX
from app.labels import ORGANS
from app.synthesis.fields import smooth_field

Fault = Callable[[LabelVolume, SpacingZYX, np.random.Generator], LabelVolume]

OFTEN_SWAPPED = ((2, 13), (7, 8), (3, 11), (11, 12), (4, 12), (5, 6))
"""Left and right kidney, the adrenal glands, and neighbors of like brightness."""

BEND_MM, BEND_NODES_MM = 2.0, 25.0
"""How far a prediction's borders are off (standard deviation), and over what distance."""


def drop_slices(
    labels: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> LabelVolume:
    """Blank two to four runs of slices, 2 to 15 mm thick, of one organ or of all."""
    broken = labels.copy()
    present = _present(labels)
    for _ in range(int(rng.integers(2, 5)) if present else 0):
        organ = int(rng.choice(present)) if rng.random() < 0.5 else 0
        filled = np.flatnonzero((labels == organ if organ else labels > 0).any(axis=(1, 2)))
        thick = max(1, round(rng.uniform(2.0, 15.0) / spacing_mm[0]))
        first = int(rng.choice(filled))
        run = broken[first : first + thick]
        run[(run == organ) if organ else (run > 0)] = 0
    return broken


def cut_parts(labels: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator) -> LabelVolume:
    """Take 15 to 50 % off two organs, beyond a plane of any direction."""
    broken = labels.copy()
    present = _present(labels)
    for organ in rng.choice(present, min(2, len(present)), replace=False):
        places = np.argwhere(labels == organ)
        along = (places * spacing_mm) @ rng.standard_normal(3)
        beyond = places[along > np.quantile(along, rng.uniform(0.5, 0.85))]
        broken[tuple(beyond.T)] = 0
    return broken


def swap_organs(
    labels: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> LabelVolume:
    """Exchange two organs, all of them or what lies above or below one slice."""
    present = set(_present(labels))
    pairs = [pair for pair in OFTEN_SWAPPED if present.issuperset(pair)]
    if not pairs:
        return labels.copy()
    one, other = pairs[rng.integers(len(pairs))]
    filled = np.flatnonzero(np.isin(labels, (one, other)).any(axis=(1, 2)))
    border = int(rng.choice(filled))
    kind = rng.integers(3)
    reach = (slice(None), slice(border, None), slice(None, border))[kind]
    broken = labels.copy()
    broken[reach][labels[reach] == one] = other
    broken[reach][labels[reach] == other] = one
    return broken


def add_blobs(labels: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator) -> LabelVolume:
    """Set two to five false blobs, 5 to 18 mm in radius, into the background."""
    broken = labels.copy()
    present = _present(labels)
    for _ in range(int(rng.integers(2, 6)) if present else 0):
        organ = int(rng.choice(present))
        center = rng.uniform(0, labels.shape) * spacing_mm
        radii = rng.uniform(5.0, 18.0) * rng.uniform(0.7, 1.3, 3)
        broken[_ellipsoid(labels.shape, spacing_mm, center, radii) & (labels == 0)] = organ
    return broken


FAULTS: Mapping[str, Fault] = {
    "slices dropped": drop_slices,
    "parts cut off": cut_parts,
    "organs swapped": swap_organs,
    "false blobs": add_blobs,
}


def imitate_prediction(
    labels: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> tuple[LabelVolume, FloatVolume]:
    """Make what a network might predict: borders a little off, faults of its own.

    Each kind of fault comes with probability one half. Confidence is low at borders
    and lower where the prediction is at fault, but not always.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        The truth.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    rng : numpy Generator
        Source of randomness.

    Returns
    -------
    predicted : (Z, Y, X) array of uint8
    confidence : (Z, Y, X) array of float32
        0 to 1.
    """
    bent = _bend(labels, spacing_mm, rng)
    predicted = bent
    for fault in FAULTS.values():
        if rng.random() < 0.5:
            predicted = fault(predicted, spacing_mm, rng)
    confidence = np.full(labels.shape, rng.uniform(0.85, 0.98), np.float32)
    faulty, count = ndimage.label(predicted != bent)
    confidence[faulty > 0] = rng.uniform(0.35, 0.95, count + 1)[faulty[faulty > 0]]
    border = ndimage.grey_dilation(predicted, (3, 3, 3)) != ndimage.grey_erosion(
        predicted, (3, 3, 3)
    )
    confidence[border] *= 0.7
    return predicted, confidence


def _bend(labels: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator) -> LabelVolume:
    """Move borders by a smooth random field."""
    shape = (labels.shape[0], labels.shape[1], labels.shape[2])
    source = np.stack(
        [
            BEND_MM / step * smooth_field(rng, shape, spacing_mm, BEND_NODES_MM) + place
            for step, place in zip(spacing_mm, np.ogrid[tuple(map(slice, shape))], strict=True)
        ]
    )
    bent: LabelVolume = ndimage.map_coordinates(labels, source, order=0, mode="nearest")
    return bent


def _present(labels: LabelVolume) -> list[int]:
    counts = np.bincount(labels.ravel(), minlength=len(ORGANS) + 1)
    return [organ.value for organ in ORGANS if counts[organ.value]]


def _ellipsoid(
    shape: tuple[int, ...],
    spacing_mm: SpacingZYX,
    center_mm: np.ndarray[tuple[int], np.dtype[np.float64]],
    radii_mm: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> BoolVolume:
    squared = sum(
        ((axis * step - center) / radius) ** 2
        for axis, step, center, radius in zip(
            np.ogrid[tuple(map(slice, shape))], spacing_mm, center_mm, radii_mm, strict=True
        )
    )
    inside: BoolVolume = np.asarray(squared <= 1.0)
    return inside
