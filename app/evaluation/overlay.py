"""Two label maps on one grid, and where in them each organ lies."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import ndimage

from app.imaging.geometry import BoolVolume, LabelVolume
from app.labels import NUM_CLASSES, Organ

Slices: TypeAlias = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Overlay:
    """A prediction laid over its reference, with the boxes that hold each organ.

    Parameters
    ----------
    reference : (Z, Y, X) array of uint8
        As stored.
    prediction : (Z, Y, X) array of uint8, or None
        On the same grid; None stands for a label map of background.
    boxes : tuple of lists of Slices or None
        For each of the two the box around each organ, by label value from 1 on; see
        :func:`lay_over`.
    """

    reference: LabelVolume
    prediction: LabelVolume | None
    boxes: tuple[list[Slices | None], ...]

    def box(self, organ: Organ) -> Slices:
        """Give the box around an organ in both: all that is measured lies in it."""
        return _around(boxes[organ.value - 1] for boxes in self.boxes)

    def masks(self, organ: Organ, box: Slices | None = None) -> tuple[BoolVolume, BoolVolume]:
        """Cut an organ out of both, in a box of its own if none is given."""
        box = self.box(organ) if box is None else box
        mask_gt = self.reference[box] == organ.value
        if self.prediction is None:
            return mask_gt, np.zeros_like(mask_gt)
        return mask_gt, self.prediction[box] == organ.value


def lay_over(reference: LabelVolume, prediction: LabelVolume | None) -> Overlay:
    """Find the boxes of all organs, in one pass over each label map.

    Parameters
    ----------
    reference, prediction : (Z, Y, X) arrays of uint8
        On one grid; the prediction may be None.

    Returns
    -------
    Overlay
    """
    boxes = [
        ndimage.find_objects(labels, max_label=NUM_CLASSES - 1)
        for labels in (reference, prediction)
        if labels is not None
    ]
    return Overlay(reference, prediction, tuple(boxes))


def _around(boxes: Iterable[Slices | None]) -> Slices:
    """Give the smallest box that holds all boxes; of no size if there are none."""
    held = [box for box in boxes if box is not None]
    if not held:
        return (slice(0, 0),) * 3
    return tuple(
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*held, strict=True)
    )
