"""Phase two: score 14 classes inside the located box, on a grid of its own."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from app.cascade.bundle import Phase
from app.cascade.locate import Abdomen, coarse_places
from app.cascade.memory import drop_contents
from app.cascade.patches import (
    STEPS_PER_LOGIT,
    PatchScores,
    StepVolume,
    score_volume,
)
from app.cascade.placement import place_patches
from app.config import PhaseConfig
from app.imaging.components import spread
from app.imaging.crop import box_on_grid, widen
from app.imaging.geometry import (
    BoolVolume,
    Box,
    FloatVolume,
    IndexZYX,
    LabelVolume,
    SpacingZYX,
)
from app.imaging.preprocess import network_input
from app.imaging.resample import resampled_shape
from app.imaging.volume import Volume
from app.labels import CLASS_NAMES

logger = logging.getLogger(__name__)

REACHES_MM = (16.0, 12.0, 8.0)
"""How far beyond what phase one saw phase two may look for organs; see ``regrow`` for what is
done where an organ goes on farther."""

LOWER_REACHES_MM = (48.0, 24.0)
"""How far below the lowest organs phase two may look besides, where that takes no patch more. The
great vessels go on there, and phase one often loses them before they divide."""

LOWEST_PART_MM = 24.0
"""What lies so low counts as the lowest of what phase one saw."""

RULED_OUT = 10.0
"""How far, in logits, organ scores lie below the background's where phase one located nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """What phase two works on: a part of the one grid that it has for a scan.

    That grid has phase two's spacing and shares the scan's center, so that a region
    that grows keeps its voxels.

    Parameters
    ----------
    grid_shape : (z, y, x) ints
        Size of the grid of the whole scan.
    spacing_mm : (z, y, x) floats
        Spacing of that grid, in mm.
    window : Box
        The part of that grid that the networks may see: the located box, grown to
        whole patches. Real surroundings are better for a network than padding.
    located : Box
        The located box on that grid. Surroundings are there to be seen, not to be labeled.
    box : Box
        The scan's own voxels that ``located`` covers.
    """

    grid_shape: IndexZYX
    spacing_mm: SpacingZYX
    window: Box
    located: Box
    box: Box

    @property
    def inside(self) -> Box:
        """The located box in voxels of the window."""
        return self.located.relative_to(self.window)

    @property
    def scan(self) -> Box:
        """The whole scan in voxels of the window; it may reach beyond it."""
        return Box(start=(0, 0, 0), stop=self.grid_shape).relative_to(self.window)

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel of the grid, in mm³."""
        return float(np.prod(self.spacing_mm))

    @property
    def extent_mm(self) -> SpacingZYX:
        """Size of the window, in mm."""
        (nz, ny, nx), (sz, sy, sx) = self.window.shape, self.spacing_mm
        return (nz * sz, ny * sy, nx * sx)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassScores:
    """Class scores of a region.

    Parameters
    ----------
    region : Region
        Where they lie.
    patches : PatchScores
        (14, Z', Y', X') scores in the region's window.
    labels : (Z', Y', X') array of uint8
        Best class of the scores; whoever changes them sees to it.
    """

    region: Region
    patches: PatchScores
    labels: LabelVolume

    @property
    def steps(self) -> StepVolume:
        """The scores themselves, (14, Z', Y', X')."""
        return self.patches.steps

    @property
    def seen(self) -> BoolVolume:
        """What phase two looked at inside the located box, (Z', Y', X')."""
        seen = np.zeros(self.region.window.shape, bool)
        inside = self.region.inside.slices
        np.greater(self.patches.weights[inside], 0, out=seen[inside])
        return seen


def region_of(abdomen: Abdomen, config: PhaseConfig, seen: Region | None = None) -> Region:
    """Find what phase two is to work on.

    Parameters
    ----------
    abdomen : Abdomen
        What phase one found.
    config : PhaseConfig
        Phase two's grid and patches.
    seen : Region, optional
        What it worked on before, which the window is to hold as well.

    Returns
    -------
    Region
        At least a patch in size where the scan allows.
    """
    shape, spacing_mm = abdomen.geometry.shape, abdomen.geometry.spacing_mm
    grid_shape = resampled_shape(shape, spacing_mm, config.spacing_mm)
    located = box_on_grid(abdomen.box, shape, spacing_mm, grid_shape, config.spacing_mm)
    window = widen(located, config.patch_shape, grid_shape)
    return Region(
        grid_shape=grid_shape,
        spacing_mm=config.spacing_mm,
        window=window if seen is None else window.union(seen.window),
        located=located,
        box=box_on_grid(located, grid_shape, config.spacing_mm, shape, spacing_mm),
    )


def reach_out(abdomen: Abdomen, region: Region, config: PhaseConfig) -> Abdomen:
    """Look around the organs found, as far as that takes no more patches than looking near.

    Patches come whole: organs 180 mm wide fit into one of 192 mm with 4 mm to spare on
    either side, and need two of them for a voxel more.

    Parameters
    ----------
    abdomen : Abdomen
        What phase one found.
    region : Region
        Of the abdomen.
    config : PhaseConfig
        Phase two's patches.

    Returns
    -------
    Abdomen
        Its foreground reaches beyond the organs by the farthest of :data:`REACHES_MM`
        that needs the fewest patches.
    """
    choices = [
        replace(
            abdomen,
            foreground=spread(abdomen.foreground, (reach, reach, reach), abdomen.spacing_mm),
        )
        for reach in REACHES_MM
    ]
    # The first, that is farthest, wins a tie.
    return min(choices, key=lambda choice: _num_patches(_wanted(choice, region), config))


def reach_down(
    found: Abdomen, reached: Abdomen, region: Region, config: PhaseConfig
) -> tuple[Abdomen, Region] | None:
    """Look on below the lowest organs, too, if that takes no patch more.

    Parameters
    ----------
    found : Abdomen
        What phase one found.
    reached : Abdomen
        The same with room around it, from :func:`reach_out`.
    region : Region
        Of either.
    config : PhaseConfig
        Phase two's patches.

    Returns
    -------
    Abdomen, Region
        What was reached, box and foreground of which go on by the farthest of
        :data:`LOWER_REACHES_MM` that the patches allow, and its region; None if they
        allow none or the scan ends there.
    """
    lowest = int(np.flatnonzero(found.foreground.any(axis=(1, 2)))[0])
    if lowest == 0:
        return None
    num_before = _num_patches(_wanted(reached, region), config)
    for reach_mm in LOWER_REACHES_MM:
        lower = reached.including(_room_below(found, lowest, reach_mm))
        larger = region_of(lower, config)
        if _num_patches(_wanted(lower, larger), config) <= num_before:
            return lower, larger
    return None


def _room_below(found: Abdomen, lowest: int, reach_mm: float) -> BoolVolume:
    """Mark the columns below what lies in the lowest slices of the foreground."""
    step_mm = found.spacing_mm[0]
    columns = found.foreground[lowest : lowest + round(LOWEST_PART_MM / step_mm)].any(axis=0)
    room = np.zeros_like(found.foreground)
    room[max(0, lowest - round(reach_mm / step_mm)) : lowest] = columns
    return room


def _num_patches(wanted: BoolVolume, config: PhaseConfig) -> int:
    return len(place_patches(wanted, config.patch_shape, config.overlap))


def _wanted(abdomen: Abdomen, region: Region) -> BoolVolume:
    """Mark where phase two is to look, in the region's window."""
    places = coarse_places(abdomen, region.grid_shape, region.spacing_mm, region.located)
    wanted = np.zeros(region.window.shape, bool)
    wanted[region.inside.slices] = abdomen.foreground[np.ix_(*places)]
    return wanted


def blank_scores(region: Region) -> ClassScores:
    """Give the scores of a region that phase two has not looked at: background."""
    shape = region.window.shape
    return ClassScores(
        region=region,
        patches=PatchScores.blank(len(CLASS_NAMES), shape),
        labels=np.zeros(shape, np.uint8),
    )


def enlarge(scores: ClassScores, region: Region) -> ClassScores:
    """Take scores over into a larger region.

    Parameters
    ----------
    scores : ClassScores
        Not to be used any more: what they held is given up on the way.
    region : Region
        Of the same scan; holds the window there was.

    Returns
    -------
    ClassScores
        Background where phase two has not looked yet.
    """
    shape, place = region.window.shape, scores.region.window.relative_to(region.window)
    labels = np.zeros(shape, np.uint8)
    labels[place.slices] = scores.labels
    drop_contents(scores.labels)
    return ClassScores(region=region, patches=scores.patches.move_to(shape, place), labels=labels)


def segment(scan: Volume, abdomen: Abdomen, phase: Phase, scores: ClassScores) -> None:
    """Score every class where an organ may be and phase two has not looked yet, in place.

    The patches of a second look lie on coarse steps of the scan's grid: where they lie shall
    not hang on the last voxel of the cut that called for it.

    Parameters
    ----------
    scan : Volume of int16
        HU, in canonical orientation.
    abdomen : Abdomen
        What phase one found.
    phase : Phase
        The segmenter.
    scores : ClassScores
        Of the abdomen's region, blank or from an earlier look.
    """
    region = scores.region
    wanted = _wanted(abdomen, region)
    wanted &= ~scores.patches.seen
    score_volume(
        network_input(scan, phase.config, region.window),
        phase.network,
        phase.config.overlap,
        wanted,
        scores=scores.patches,
        anchor=region.window.start if scores.patches.num_run else None,
        on_patch=phase.on_patch,
    )
    scores.labels[...] = best_class(scores.steps)
    logger.debug("segment: grid %s, %d patches", region.window.shape, scores.patches.num_run)


def rule_out_surroundings(scores: ClassScores) -> None:
    """Make all that lies beyond the located box background, in place."""
    beyond = np.ones(scores.region.window.shape, bool)
    beyond[scores.region.inside.slices] = False
    scores.steps[1:, beyond] = scores.steps[0, beyond] - round(RULED_OUT * STEPS_PER_LOGIT)
    scores.labels[beyond] = 0


def best_class(steps: StepVolume) -> LabelVolume:
    """Find the class with the highest score at every voxel.

    Parameters
    ----------
    steps : (C, Z, Y, X) array of int16
        On a coarse grid.

    Returns
    -------
    (Z, Y, X) array of uint8
        The first class wins a tie.
    """
    labels = np.zeros(steps.shape[1:], np.uint8)
    # Slice by slice: what is compared stays in the processor's cache.
    for plane, in_plane in zip(np.moveaxis(steps, 1, 0), labels, strict=True):
        best = plane[0].copy()
        for value, challenger in enumerate(plane[1:], start=1):
            np.copyto(in_plane, value, where=challenger > best)
            np.maximum(best, challenger, out=best)
    return labels


def mean_confidence(scores: ClassScores) -> dict[str, float]:
    """Tell how sure the network was of the voxels it gave to each organ.

    Parameters
    ----------
    scores : ClassScores
        Of the located region.

    Returns
    -------
    dict of str to float
        Mean probability of the best class, 0 to 1, by organ; absent organs are
        left out.
    """
    totals, counts = np.zeros(len(CLASS_NAMES)), np.zeros(len(CLASS_NAMES), np.int64)
    # Slice by slice, so that no float32 copy of all scores arises.
    for plane, labels in zip(np.moveaxis(scores.steps, 1, 0), scores.labels, strict=True):
        organs = labels > 0
        best = best_probability(plane[:, organs])
        totals += np.bincount(labels[organs], weights=best, minlength=len(CLASS_NAMES))
        counts += np.bincount(labels[organs], minlength=len(CLASS_NAMES))
    return {
        name: float(total / count)
        for name, total, count in zip(CLASS_NAMES, totals, counts, strict=True)
        if count
    }


def best_probability(steps: StepVolume) -> FloatVolume:
    """Give the greatest softmax of class scores, classes first, 0 to 1."""
    logits = steps * np.float32(1 / STEPS_PER_LOGIT)
    best: FloatVolume = 1 / np.exp(logits - logits.max(axis=0)).sum(axis=0)
    return best
