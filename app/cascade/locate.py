"""Phase one: find the abdomen on a coarse copy of the whole scan."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from app.cascade.bundle import Phase
from app.cascade.patches import score_volume
from app.imaging.components import main_region
from app.imaging.crop import bounding_box, box_on_grid
from app.imaging.geometry import BoolVolume, Box, Geometry, IndexZYX, SpacingZYX
from app.imaging.preprocess import network_input
from app.imaging.volume import Volume

logger = logging.getLogger(__name__)

MARGIN_MM: SpacingZYX = (10.0, 10.0, 10.0)
"""Room around the organs found, (z, y, x). An organ that goes on beyond it is looked after by
the second look, so that room for the worst scan need not be paid for in all of them."""

LEAST_ABDOMEN_MM3 = 20_000.0
"""A main component smaller than this (20 ml) is noise, not an abdomen."""

COMPANION_MM3 = 5_000.0
COMPANION_GAP_MM = 40.0
"""Further components of 5 ml or more are kept up to this gap along z."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abdomen:
    """Where phase one found the organs.

    Parameters
    ----------
    box : Box
        In the scan's own voxels, margin included.
    geometry : Geometry
        The scan's grid.
    foreground : (Z', Y', X') array of bool
        Where phase two is to look: the organs found, on the coarse grid that shares the
        scan's center, until :func:`app.cascade.segment.reach_out` adds room around them.
    spacing_mm : (z, y, x) floats
        Spacing of ``foreground``, in mm.
    """

    box: Box
    geometry: Geometry
    foreground: BoolVolume
    spacing_mm: SpacingZYX

    @property
    def volume_mm3(self) -> float:
        """Volume of the foreground, in mm³."""
        return float(np.count_nonzero(self.foreground) * np.prod(self.spacing_mm))

    def including(self, room: BoolVolume) -> "Abdomen":
        """Take in more room to look in, (Z', Y', X') on the coarse grid; at least a voxel."""
        box = box_on_grid(
            bounding_box(room, self.spacing_mm),
            room.shape,
            self.spacing_mm,
            self.geometry.shape,
            self.geometry.spacing_mm,
        )
        return replace(self, box=self.box.union(box), foreground=self.foreground | room)


def locate(scan: Volume, phase: Phase) -> Abdomen | None:
    """Find the box around the abdominal organs.

    Parameters
    ----------
    scan : Volume of int16
        The whole scan in HU, in canonical orientation.
    phase : Phase
        The locator.

    Returns
    -------
    Abdomen or None
        None if the scan shows no abdominal organs.
    """
    coarse = network_input(scan, phase.config)
    scored = score_volume(coarse, phase.network, phase.config.overlap, on_patch=phase.on_patch)
    organs = main_region(
        scored.steps[0] > 0,
        phase.config.spacing_mm,
        least_mm3=LEAST_ABDOMEN_MM3,
        companion_mm3=COMPANION_MM3,
        gap_mm=COMPANION_GAP_MM,
    )
    logger.debug("locate: grid %s, %d patches", coarse.shape, scored.num_run)
    if not organs.any():
        return None
    spacing_mm = scan.geometry.spacing_mm
    box = box_on_grid(
        bounding_box(organs, phase.config.spacing_mm),
        organs.shape,
        phase.config.spacing_mm,
        scan.geometry.shape,
        spacing_mm,
        MARGIN_MM,
    )
    return Abdomen(
        box=box,
        geometry=scan.geometry,
        foreground=organs,
        spacing_mm=phase.config.spacing_mm,
    )


def coarse_places(
    abdomen: Abdomen, grid_shape: IndexZYX, spacing_mm: SpacingZYX, part: Box
) -> list[npt.NDArray[np.int64]]:
    """Tell where the voxels of phase two's grid lie on phase one's.

    Parameters
    ----------
    abdomen : Abdomen
        What phase one found.
    grid_shape, spacing_mm : (z, y, x)
        Size and spacing of phase two's grid of the whole scan.
    part : Box
        The part of that grid that is asked for.

    Returns
    -------
    three arrays of ints
        For each slice, row and column of the part that of ``abdomen.foreground``.
    """
    places = []
    for axis, num_fine in enumerate(grid_shape):
        num_coarse = abdomen.foreground.shape[axis]
        fine = np.arange(part.start[axis], part.stop[axis])
        from_center_mm = (fine - (num_fine - 1) / 2) * spacing_mm[axis]
        coarse = np.floor(from_center_mm / abdomen.spacing_mm[axis] + num_coarse / 2)
        places.append(np.clip(coarse, 0, num_coarse - 1).astype(np.int64))
    return places
