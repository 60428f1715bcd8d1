"""How large each organ of a label map is."""

import numpy as np

from app.imaging.geometry import Geometry, LabelVolume
from app.labels import NUM_CLASSES, ORGANS


def organ_volumes_ml(labels: LabelVolume, geometry: Geometry) -> dict[str, float]:
    """Measure every organ of a label map.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        Label map; a view with negative strides is welcome.
    geometry : Geometry
        Its grid.

    Returns
    -------
    dict of str to float
        Volume in ml by organ name, absent organs included.
    """
    # Slice by slice, for counting turns what it counts into 8-byte integers.
    counts = np.zeros(NUM_CLASSES, np.int64)
    for plane in labels:
        counts += np.bincount(plane.ravel(), minlength=NUM_CLASSES)[:NUM_CLASSES]
    return {organ.name: float(counts[organ.value]) * geometry.voxel_ml for organ in ORGANS}
