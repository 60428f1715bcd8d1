"""A second look where phase two stopped looking in the middle of an organ."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.cascade.locate import Abdomen, coarse_places
from app.cascade.segment import ClassScores
from app.imaging.components import PIECE_RULES, find_specks, spread
from app.imaging.geometry import BoolVolume, LabelVolume, SpacingZYX
from app.labels import CLASS_NAMES, ORGANS, TUBES

GROWTH_MM = 40.0
"""How far beyond a cut the second look reaches."""

TUBE_GROWTH_MM = 144.0
"""How far along a vessel or the esophagus: a patch of 192 mm less its overlap, so that the
whole upper chest costs one patch."""

LEAST_BEYOND_MM = 20.0
"""Less of a tube is not worth a patch."""

ASIDE_MM = 8.0
"""How far it reaches sideways."""

LEAST_CUT_MM2 = 50.0
"""Smaller contacts are noise."""

# Of an organ that is cut little may have been seen, however small its largest piece is.
_FURTHER_PIECES = {value: replace(rule, main_mm3=0.0) for value, rule in PIECE_RULES.items()}
_SOLID = [organ.value for organ in ORGANS if organ.name not in TUBES]
_TUBES = [organ.value for organ in ORGANS if organ.name in TUBES]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """Where an organ reaches the end of what phase two looked at, inside the scan.

    Parameters
    ----------
    axis : int
        0, 1 or 2 for z, y or x.
    at_stop : bool
        Whether it goes on towards higher rather than lower voxels.
    organ : str
        The organ with the largest contact.
    where : three arrays of ints
        z, y and x of the organ voxels at the end, on phase two's grid. They are few: a mask
        for each cut would be held beside the scores of the second look.
    """

    axis: int
    at_stop: bool
    organ: str
    where: tuple[npt.NDArray[np.intp], ...]

    @property
    def is_tube(self) -> bool:
        """Tell whether it is looked after alone: that a tube is cut is nothing to warn of."""
        return self.organ in TUBES


def find_cuts(scores: ClassScores) -> list[Cut]:
    """Find where organs reach the end of what phase two looked at.

    It looks farther than phase one saw an organ, so an organ that ends there is one
    that phase one saw only in part. Vessels and esophagus leave the abdomen by nature
    and count where they go on towards the head alone: phase one knows the esophagus no
    farther than the aorta. Ends where the scan itself ends do not count.

    Parameters
    ----------
    scores : ClassScores
        Of the located region.

    Returns
    -------
    list of Cut
        Empty if all organs are whole.
    """
    region, seen = scores.region, scores.seen
    labels = _labels_believed(scores)
    cuts = []
    for axis in range(3):
        before, behind = region.located.start[axis], region.located.stop[axis]
        for at_stop, beyond in ((False, before), (True, region.grid_shape[axis] - behind)):
            ends = _ends(seen, axis, at_stop=at_stop, is_scan_end=beyond == 0)
            kinds = [_SOLID]
            if axis == 0 and at_stop and beyond * region.spacing_mm[0] >= LEAST_BEYOND_MM:
                kinds.append(_TUBES)
            for values in kinds:
                cut = _cut_at(ends, labels, values, region.spacing_mm, axis, at_stop=at_stop)
                if cut is not None:
                    cuts.append(cut)
    return cuts


def grow(abdomen: Abdomen, scores: ClassScores, cuts: list[Cut]) -> Abdomen:
    """Reach out beyond cuts, as far as the scan does.

    Parameters
    ----------
    abdomen : Abdomen
        What phase one found.
    scores : ClassScores
        In which the cuts were found.
    cuts : list of Cut
        From :func:`find_cuts`; at least one.

    Returns
    -------
    Abdomen
        The room gained is in its box and counts as foreground, so that phase two
        looks there.
    """
    region = scores.region
    places = coarse_places(abdomen, region.grid_shape, region.spacing_mm, region.window)
    gained = np.zeros_like(abdomen.foreground)
    for cut in cuts:
        at_cut = np.zeros_like(gained)
        at_cut[tuple(to[at] for to, at in zip(places, cut.where, strict=True))] = True
        gained |= _spread(at_cut, abdomen.spacing_mm, cut)
    return abdomen.including(gained)


def _ends(seen: BoolVolume, axis: int, *, at_stop: bool, is_scan_end: bool) -> BoolVolume:
    """Mark the voxels behind which phase two did not look, though the scan goes on."""
    along = np.moveaxis(seen, axis, 0)
    behind = np.full(along.shape, is_scan_end)
    if at_stop:
        behind[:-1] = along[1:]
    else:
        behind[1:] = along[:-1]
    return np.moveaxis(along & ~behind, 0, axis)


def _labels_believed(scores: ClassScores) -> LabelVolume:
    """Label the window without pieces that will be taken back: they are no reason to look on."""
    labels = scores.labels.copy()
    specks, _ = find_specks(labels, scores.region.spacing_mm, scores.region.scan, _FURTHER_PIECES)
    labels[specks] = 0
    return labels


def _cut_at(
    ends: BoolVolume,
    labels: LabelVolume,
    values: list[int],
    spacing_mm: SpacingZYX,
    axis: int,
    *,
    at_stop: bool,
) -> Cut | None:
    """Look for some of the organs among the voxels at an end."""
    counts = np.bincount(labels[ends], minlength=len(CLASS_NAMES))
    voxel_mm2 = float(np.prod(spacing_mm)) / spacing_mm[axis]
    cut = [value for value in values if counts[value] * voxel_mm2 >= LEAST_CUT_MM2]
    if not cut:
        return None
    largest = max(cut, key=lambda value: int(counts[value]))
    where = np.nonzero(ends & np.isin(labels, cut))
    return Cut(axis=axis, at_stop=at_stop, organ=CLASS_NAMES[largest], where=where)


def _spread(marked: BoolVolume, spacing_mm: SpacingZYX, cut: Cut) -> BoolVolume:
    """Spread far in the direction of a cut and a bit sideways."""
    axis, growth_mm = cut.axis, TUBE_GROWTH_MM if cut.is_tube else GROWTH_MM
    z, y, x = (0.0 if across == axis else ASIDE_MM for across in range(3))
    aside = spread(marked, (z, y, x), spacing_mm).view(np.uint8)
    # A filter moved by half its size looks to one side alone; mirrored at the scan's end, it
    # would look to the other as well.
    half = round(growth_mm / spacing_mm[axis] / 2)
    origin = half if cut.at_stop else -half
    one_sided: BoolVolume = ndimage.maximum_filter1d(
        aside, 2 * half + 1, axis, mode="constant", origin=origin
    ).view(bool)
    return one_sided
