"""How sure the network is of each voxel, on the scan's own grid."""

import numpy as np
import numpy.typing as npt

from app.cascade.segment import ClassScores
from app.imaging.geometry import FloatVolume, LabelVolume
from app.imaging.io import Source
from app.imaging.resample import linear_weights


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
    region = percent[scores.box.slices]
    coarse: FloatVolume = np.zeros(scores.logits.shape[1:], np.float32)
    inside = scores.inside.slices
    coarse[inside] = 100 * _best_probability(scores.logits[(slice(None), *inside)])
    along_z, along_y, along_x = (
        linear_weights(num_out, step_out, num_in, step_in)
        for num_out, step_out, num_in, step_in in zip(
            region.shape,
            source.geometry.spacing_mm,
            coarse.shape,
            scores.spacing_mm,
            strict=True,
        )
    )
    planes = coarse.reshape(len(coarse), -1)
    for index, out in enumerate(region):
        plane = (along_z[[index]] @ planes).reshape(coarse.shape[1:])
        out[...] = np.rint((along_x @ np.ascontiguousarray((along_y @ plane).T)).T)
    return percent


def _best_probability(logits: npt.NDArray[np.float16]) -> FloatVolume:
    """Give the greatest softmax of (C, Z, Y, X) scores, 0 to 1, plane by plane."""
    best = np.empty(logits.shape[1:], np.float32)
    for plane, out in zip(np.moveaxis(logits, 1, 0), best, strict=True):
        scores = plane.astype(np.float32)
        out[...] = 1 / np.exp(scores - scores.max(axis=0)).sum(axis=0)
    return best
