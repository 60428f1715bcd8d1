"""How sure the network is of each voxel, on the scan's own grid."""

import numpy as np
import numpy.typing as npt

from app.cascade.restore import interpolate, interpolation
from app.cascade.segment import ClassScores, best_probability
from app.imaging.geometry import FloatVolume, LabelVolume
from app.imaging.io import Source


def confidence_map(scores: ClassScores, source: Source) -> LabelVolume:
    """Give the probability of the best class at every voxel of the scan, in percent.

    The probability is found on the network's grid and interpolated to the scan's,
    one slice at a time, so that it takes no more memory than the label map did
    whose place it takes. It is that of the label a voxel bears, but for a band
    of about one voxel of the network's grid along the borders of organs.

    Parameters
    ----------
    scores : ClassScores
        As :func:`app.cascade.restore.restore` leaves them: a class that was taken
        back there no longer counts.
    source : Source
        How the scan lay on disk.

    Returns
    -------
    (Z, Y, X) array of uint8
        0 to 100, of the whole scan in canonical orientation; 0 where phase two
        did not look.
    """
    percent = source.blank_label_map()
    part = percent[scores.region.box.slices]
    coarse = 100 * _best_by_plane(scores.logits) * scores.seen
    along_z, along_y, along_x = interpolation(scores.region, source.geometry)
    for index, out in enumerate(part):
        out[...] = np.rint(interpolate(coarse, along_z[[index]], along_y, along_x)[0])
    return percent


def _best_by_plane(logits: npt.NDArray[np.float16]) -> FloatVolume:
    """Give the greatest softmax of (C, Z, Y, X) scores, 0 to 1, plane by plane."""
    best = np.empty(logits.shape[1:], np.float32)
    for plane, out in zip(np.moveaxis(logits, 1, 0), best, strict=True):
        out[...] = best_probability(plane.astype(np.float32))
    return best
