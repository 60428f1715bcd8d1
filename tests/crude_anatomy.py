"""Small made-up anatomies that tests of synthesis share."""

import numpy as np
import SimpleITK as sitk

from app.synthesis.body import Habitus
from app.synthesis.tissues import Tissue
from app.synthesis.whole_body import WholeBody

LEAN = Habitus(fat_mm=6.0, front=1.0, back=1.0, wall_mm=8.0)
GRID_MM = (2.0, 1.5, 1.8)


def open_grid_mm(shape, spacing_mm):
    """Give the places of voxel centers along z, y and x in mm, as arrays that broadcast."""
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    return tuple(axis * step for axis, step in zip(axes, spacing_mm, strict=True))


def ellipsoid(shape, center, radii):
    """Give a mask of an ellipsoid; center and radii in voxels."""
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    return (
        sum(
            ((axis - middle) / radius) ** 2
            for axis, middle, radius in zip(axes, center, radii, strict=True)
        )
        <= 1.0
    )


def organ_map(shape, shift=(0, 0, 0), scale=1.0):
    """Place seven organs as in a patient: x to the left, y to the back, z to the head."""
    labels = np.zeros(shape, np.uint8)
    for organ, center, radii in (
        (Tissue.LIVER, (46, 36, 28), (14, 18, 15)),
        (Tissue.SPLEEN, (48, 48, 68), (10, 9, 7)),
        (Tissue.STOMACH, (46, 26, 56), (9, 9, 9)),
        (Tissue.RIGHT_KIDNEY, (26, 54, 30), (10, 6, 6)),
        (Tissue.LEFT_KIDNEY, (28, 54, 62), (10, 6, 6)),
        (Tissue.AORTA, (40, 52, 49), (200, 3.5, 3.5)),
        (Tissue.INFERIOR_VENA_CAVA, (40, 50, 41), (200, 3.5, 3.5)),
    ):
        middle = np.multiply(center, scale) + shift
        labels[ellipsoid(shape, middle, np.multiply(radii, scale))] = organ
    return labels


def write_map(path, labels, spacing=1.5, direction=None):
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing((spacing,) * 3)
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


def ellipse_whole_body():
    """Give a crude body of named tissues, enough to build a template from."""
    ids = {
        "liver": 1, "colon": 2, "vertebrae_L1": 3, "spinal_cord": 4, "lung_lower_lobe_left": 5,
        "heart": 6, "hip_left": 7,
    }  # fmt: skip
    shape = (54, 66, 84)
    labels = np.zeros(shape, np.uint8)
    for name, center, radii in (
        ("liver", (24, 30, 30), (10, 13, 15)),
        ("colon", (20, 24, 58), (8, 6, 7)),
        ("vertebrae_L1", (27, 50, 42), (1e4, 7, 7)),
        ("spinal_cord", (27, 54, 42), (1e4, 2, 2)),
        ("lung_lower_lobe_left", (46, 30, 56), (12, 14, 12)),
        ("heart", (46, 24, 34), (7, 10, 8)),
        ("hip_left", (2, 40, 66), (8, 4, 6)),
    ):
        labels[ellipsoid(shape, center, radii)] = ids[name]
    return WholeBody("crude", labels, ids)
