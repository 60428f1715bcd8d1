"""What lies beside and below the trunk in a scan: arms and the scanner's couch."""

import numpy as np
import numpy.typing as npt

from app.imaging.geometry import LabelVolume, SpacingZYX
from app.synthesis.tissues import Tissue

_FIELD_MM = 520.0
"""Arms are let into the tissue map up to this width; scanners see about 500 mm."""


def add_arms(
    tissues: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> tuple[LabelVolume, int]:
    """Lay arms along the trunk.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Tissue map of a trunk.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    rng : numpy Generator

    Returns
    -------
    tissues : (Z, Y, X') array of uint8
        Widened on both sides, arms painted into air.
    added : int
        Voxels added before the first along x.
    """
    radius = float(rng.uniform(36.0, 48.0))
    body = np.flatnonzero((tissues != Tissue.AIR).any((0, 1)))
    lateral = (body[0] - radius / spacing_mm[2], body[-1] + radius / spacing_mm[2])
    room = max(0.0, (_FIELD_MM / spacing_mm[2] - tissues.shape[2]) / 2)
    added = int(min(room, 2 * radius / spacing_mm[2]))
    wide = np.pad(tissues, ((0, 0), (0, 0), (added, added)))
    back = np.flatnonzero((tissues != Tissue.AIR).any((0, 2)))
    for side in lateral:
        height = float(rng.uniform(0.45, 0.7)) * (back[-1] - back[0]) + back[0]
        _paint_arm(wide, (height, side + added), radius, spacing_mm, rng)
    return wide, added


def _paint_arm(
    tissues: LabelVolume,
    center: tuple[float, float],
    radius: float,
    spacing_mm: SpacingZYX,
    rng: np.random.Generator,
) -> None:
    """Paint one arm that runs slightly obliquely from the shoulder to the hip."""
    num_z, num_y, num_x = tissues.shape
    fat = float(rng.uniform(4.0, 14.0))
    drift = np.linspace(float(rng.uniform(-25.0, 25.0)), 0.0, num_z) / spacing_mm[1]
    y, x = np.ogrid[:num_y, :num_x]
    for z in range(num_z):
        from_axis = np.hypot(
            (y - center[0] - drift[z]) * spacing_mm[1], (x - center[1]) * spacing_mm[2]
        )
        arm = np.full((num_y, num_x), Tissue.AIR, np.uint8)
        for reach, tissue in (
            (radius, Tissue.SKIN),
            (radius - 2.0, Tissue.FAT),
            (radius - 2.0 - fat, Tissue.MUSCLE),
            (12.0, Tissue.CORTICAL_BONE),
            (7.5, Tissue.TRABECULAR_BONE),
        ):
            arm[from_axis < reach] = tissue
        free = (tissues[z] == Tissue.AIR) & (arm > 0)
        tissues[z][free] = arm[free]


def add_couch(
    tissues: LabelVolume, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> LabelVolume:
    """Put the couch of a scanner under the back.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Tissue map; y grows towards the back.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    rng : numpy Generator

    Returns
    -------
    (Z, Y', X) array of uint8
        Lengthened behind the back; two thin shells, the upper one a trough.
    """
    occupied = np.flatnonzero((tissues != Tissue.AIR).any((0, 2)))
    back_mm = (occupied[-1] + 1) * spacing_mm[1]
    depth_mm = float(rng.uniform(25.0, 60.0))
    gap_mm, shell_mm = float(rng.uniform(0.0, 20.0)), float(rng.uniform(2.0, 4.0))
    needed = int((back_mm + gap_mm + depth_mm + 6.0) / spacing_mm[1]) - tissues.shape[1]
    longer = np.pad(tissues, ((0, 0), (0, max(0, needed)), (0, 0)))
    half_width = float(rng.uniform(200.0, 260.0))
    rise_mm = float(rng.choice([0.0, rng.uniform(5.0, 70.0)]))
    y = np.arange(longer.shape[1])[:, None] * spacing_mm[1]
    off_center = (np.arange(longer.shape[2]) - longer.shape[2] / 2)[None] * spacing_mm[2]
    trough = back_mm + gap_mm - rise_mm * (off_center / half_width) ** 2
    couch: npt.NDArray[np.bool_] = (y >= trough) & (y < trough + shell_mm)
    bottom = back_mm + gap_mm + depth_mm
    couch |= (y >= bottom) & (y < bottom + shell_mm)
    couch &= np.abs(off_center) < half_width
    longer[(longer == Tissue.AIR) & couch[None]] = Tissue.TABLE
    return longer
