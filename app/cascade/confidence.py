"""How sure the network is of each voxel, on the scan's own grid."""

import numpy as np

from app.cascade.restore import interpolate, interpolation
from app.cascade.segment import ClassScores, best_probability
from app.imaging.geometry import FloatVolume, LabelVolume
from app.imaging.io import Source


def confidence_map(scores: ClassScores | None, source: Source) -> LabelVolume:
    """Give the probability of the best class at every voxel of the scan, in percent.

    The probability is found on the network's grid and interpolated to the scan's,
    one slice at a time, so that it takes no more memory than the label map did
    whose place it takes. It is that of the label a voxel bears, but for a band
    of about one voxel of the network's grid along the borders of organs.

    Parameters
    ----------
    scores : ClassScores or None
        As :func:`app.cascade.restore.take_back_specks` leaves them: a class that was
        taken back there no longer counts. None if phase two did not look anywhere.
    source : Source
        How the scan lay on disk.

    Returns
    -------
    (Z, Y, X) array of uint8
        0 to 100, of the whole scan in canonical orientation; 0 where phase two
        did not look, to which it falls over one voxel of the network's grid.
    """
    percent = source.blank_label_map()
    if scores is None:
        return percent
    part = percent[scores.region.box.slices]
    coarse = _percent_by_plane(scores)
    along_z, along_y, along_x = interpolation(scores.region, source.geometry)
    for index, out in enumerate(part):
        out[...] = np.rint(interpolate(coarse, along_z[[index]], along_y, along_x)[0])
    return percent


def _percent_by_plane(scores: ClassScores) -> FloatVolume:
    """Give the greatest softmax in percent on the network's grid, plane by plane."""
    seen = scores.seen
    percent: FloatVolume = np.zeros(seen.shape, np.float32)
    for plane, in_plane, out in zip(np.moveaxis(scores.steps, 1, 0), seen, percent, strict=True):
        out[in_plane] = 100 * best_probability(plane[:, in_plane])
    return percent
