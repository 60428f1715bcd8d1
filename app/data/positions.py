"""Where organs lie relative to each other, and how far a place is from where one should be.

The table beside this file holds, for every organ and every other as its landmark, the
mean offset of the organ's voxels from the landmark's center and their spread, in mm.
``python -m app refine --learn LABELMAPS`` makes it.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.imaging.geometry import LabelVolume, SpacingZYX
from app.labels import NUM_CLASSES, ORGANS

TABLE = Path(__file__).with_name("organ_positions.json")

LEAST_LANDMARKS = 3
"""With fewer landmarks nothing is said about a place."""

FloatTable = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Positions:
    """Offsets between organs over many patients.

    Parameters
    ----------
    offset_mm, spread_mm : (14, 14, 3) arrays of float64
        Of the voxels of organ ``i`` from the center of organ ``j``, (z, y, x) in LPS:
        mean and standard deviation. NaN where the two were never seen together.
    """

    offset_mm: FloatTable
    spread_mm: FloatTable

    def distance(self, place_mm: FloatTable, organ: int, landmarks_mm: FloatTable) -> float:
        """Tell how unusual a place is for an organ.

        Parameters
        ----------
        place_mm : (3,) array
            The place.
        organ : int
            Its value.
        landmarks_mm : (14, 3) array
            Centers of the organs that are known, NaN for the others.

        Returns
        -------
        float
            In standard deviations of the organ's voxels: about 1 inside it. The
            median over the landmarks, so that a wrong one does no harm; NaN if there
            are fewer than :data:`LEAST_LANDMARKS`.
        """
        apart = (place_mm - landmarks_mm - self.offset_mm[organ]) / self.spread_mm[organ]
        by_landmark = np.sqrt(np.mean(apart**2, axis=1))
        by_landmark[organ] = np.nan  # an organ says nothing about its own place
        known = by_landmark[~np.isnan(by_landmark)]
        return float(np.median(known)) if len(known) >= LEAST_LANDMARKS else float("nan")


def centers_of(labels: LabelVolume, spacing_mm: SpacingZYX) -> tuple[FloatTable, FloatTable]:
    """Give the mean position of each organ's voxels and their spread.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        Label map.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    (14, 3) arrays of float64
        Center and standard deviation, in mm from the first voxel; NaN without the organ.
    """
    centers = np.full((NUM_CLASSES, 3), np.nan)
    spreads = np.full((NUM_CLASSES, 3), np.nan)
    for value, where in enumerate(ndimage.find_objects(labels, NUM_CLASSES - 1), start=1):
        if where is not None:
            start = [axis.start for axis in where]
            places = (np.argwhere(labels[where] == value) + start) * spacing_mm
            centers[value], spreads[value] = places.mean(axis=0), places.std(axis=0)
    return centers, spreads


def learn_positions(bodies: Iterable[tuple[LabelVolume, SpacingZYX]]) -> Positions:
    """Measure how organs lie to each other over many label maps in LPS."""
    measured = [centers_of(labels, spacing_mm) for labels, spacing_mm in bodies]
    centers = np.array([center for center, _ in measured])
    within = np.array([spread for _, spread in measured]) ** 2
    offsets = centers[:, :, None] - centers[:, None]  # (patient, organ, landmark, 3)
    seen = (~np.isnan(offsets)).sum(axis=0)
    mean = np.nansum(offsets, axis=0) / np.where(seen, seen, np.nan)
    total = np.nansum((offsets - mean) ** 2 + within[:, :, None], axis=0)
    return Positions(mean, np.sqrt(total / np.where(seen, seen, np.nan)))


def write_positions(positions: Positions, path: Path) -> None:
    """Write a table, rounded to a tenth of a mm, one organ and landmark a line."""
    rows = [
        {
            "organ": organ.name,
            "landmark": landmark.name,
            "offset_mm": np.round(positions.offset_mm[organ.value, landmark.value], 1).tolist(),
            "spread_mm": np.round(positions.spread_mm[organ.value, landmark.value], 1).tolist(),
        }
        for organ in ORGANS
        for landmark in ORGANS
        if organ is not landmark
    ]
    lines = ",\n".join(json.dumps(row) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read_positions(path: Path = TABLE) -> Positions:
    """Read a table that :func:`write_positions` wrote."""
    values = {organ.name: organ.value for organ in ORGANS}
    offset = np.full((NUM_CLASSES, NUM_CLASSES, 3), np.nan)
    spread = np.full((NUM_CLASSES, NUM_CLASSES, 3), np.nan)
    for row in json.loads(path.read_text(encoding="utf-8")):
        pair = values[row["organ"]], values[row["landmark"]]
        offset[pair], spread[pair] = row["offset_mm"], row["spread_mm"]
    return Positions(offset, spread)
