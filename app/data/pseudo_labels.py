"""Better label maps from given ones and a network's predictions.

Two rules. The published one writes an organ wherever either of the two has it, so that
organs only grow. The plausible one asks, of every place where the two disagree by more
than the width of a border, who is right:

- an organ is one piece: slices missing from it are filled, parts that touch what both
  agree on belong to it, parts that lie apart and that the prediction does not see go;
- organs have their places: a part is an organ only near where the other organs say that
  it should be, and left organs are on the left; where the organ is found elsewhere, a
  part out of place goes even if both have it;
- where two organs are named, the one that the part hangs together with wins;
- a prediction that is not sure of itself changes nothing, if its confidence is known.

Borders stay where the given label has them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from app.data.gaps import fill_gaps
from app.data.positions import FloatTable, Positions, centers_of
from app.errors import InputError
from app.imaging.components import components_of
from app.imaging.geometry import BoolVolume, FloatVolume, LabelVolume, SpacingZYX
from app.labels import NUM_CLASSES, ORGANS

LAST_WRITTEN = (10, 9, 8)
"""Organs that the published rule writes once more, so that small ones win conflicts."""

MOST_PASSES = 6

BORDER_MM = 3.0
"""Disagreements into which no ball of this radius fits are a matter of the border."""

ATTACHED_MM2 = 15.0
"""A part that touches an organ by less than this does not hang together with it."""

IMPLAUSIBLE = 2.5
"""Distance from an organ's place, in standard deviations, from which a part is not believed."""

CLEARLY = 0.15
"""By so much one place must be nearer than another to decide alone."""

SEEN = 0.25
"""Share of a part that a prediction must agree with to support it."""

SPECK = 0.02
"""Share of its organ below which a piece apart is not believed, whoever sees it."""

SURE, VERY_SURE = 0.6, 0.85
"""Mean confidence from which a prediction may add a part, and from which it may remove one."""

_PARTNERS = tuple(
    (organ.value, organ.partner)
    for organ in ORGANS
    if organ.partner is not None and organ.value < organ.partner
)
_BORDER_MM = [BORDER_MM] + [min(BORDER_MM, organ.tolerance_mm) for organ in ORGANS]
_FACES = ndimage.generate_binary_structure(3, 1)


def fuse_published(labels: LabelVolume, predicted: LabelVolume) -> LabelVolume:
    """Apply the published rule: an organ is wherever the label or the prediction has it.

    Classes are written in ascending order, then 10, 9 and 8 once more.

    Parameters
    ----------
    labels, predicted : (Z, Y, X) arrays of uint8
        Given label map and prediction, on one grid.

    Returns
    -------
    (Z, Y, X) array of uint8
    """
    fused = np.zeros_like(labels)
    for value in (*range(1, NUM_CLASSES), *LAST_WRITTEN):
        fused[(labels == value) | (predicted == value)] = value
    return fused


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opinion:
    """What is known besides the label map: the prediction and how bodies are built."""

    predicted: LabelVolume
    confidence: FloatVolume | None
    spacing_mm: SpacingZYX
    positions: Positions

    def is_sure(self, part: BoolVolume, where: tuple[slice, ...], least: float) -> bool:
        """Tell whether the prediction's mean confidence in a part reaches a mark."""
        return self.confidence is None or float(self.confidence[where][part].mean()) >= least

    def distance(
        self, part: BoolVolume, where: tuple[slice, ...], organ: int, landmarks_mm: FloatTable
    ) -> float:
        """Tell how unusual a part's place is for an organ; 0 if nothing is known."""
        start = [axis.start for axis in where]
        center_mm = (np.argwhere(part).mean(axis=0) + start) * self.spacing_mm
        distance = self.positions.distance(center_mm, organ, landmarks_mm)
        return 0.0 if math.isnan(distance) else distance


def refine_plausibly(
    labels: LabelVolume,
    predicted: LabelVolume,
    *,
    spacing_mm: SpacingZYX,
    positions: Positions,
    confidence: FloatVolume | None = None,
) -> LabelVolume:
    """Apply the plausible rule until it changes nothing more.

    Parameters
    ----------
    labels, predicted : (Z, Y, X) arrays of uint8
        Given label map and prediction, on one grid, in LPS.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.
    positions : Positions
        Where organs lie to each other.
    confidence : (Z, Y, X) array of float32, optional
        Probability that the prediction gives to its own label, 0 to 1.

    Returns
    -------
    (Z, Y, X) array of uint8

    Raises
    ------
    InputError
        If the arrays differ in shape.
    """
    if labels.shape != predicted.shape:
        raise InputError(f"labels of shape {labels.shape}, prediction of {predicted.shape}")
    predicted = _put_on_their_side(fill_gaps(predicted, spacing_mm), spacing_mm, positions)
    opinion = _Opinion(
        predicted=predicted, confidence=confidence, spacing_mm=spacing_mm, positions=positions
    )
    for _ in range(MOST_PASSES):
        refined = _put_on_their_side(fill_gaps(labels, spacing_mm), spacing_mm, positions)
        refined = _judge_shared(refined, opinion)
        refined = _judge_pieces(refined, opinion)
        refined = _judge_disputes(refined, opinion)
        if np.array_equal(refined, labels):
            break
        labels = refined
    return labels


def _put_on_their_side(
    labels: LabelVolume, spacing_mm: SpacingZYX, positions: Positions
) -> LabelVolume:
    """Exchange left and right where a piece lies in its partner's place."""
    landmarks_mm, _ = centers_of(labels, spacing_mm)
    for pair in _PARTNERS:
        landmarks_mm[list(pair)] = np.nan
    turned = labels.copy()
    for pair in _PARTNERS:
        for value, partner in (pair, pair[::-1]):
            for piece, where in _pieces(labels == value, spacing_mm):
                start = [axis.start for axis in where]
                center_mm = (np.argwhere(piece).mean(axis=0) + start) * spacing_mm
                here = positions.distance(center_mm, value, landmarks_mm)
                there = positions.distance(center_mm, partner, landmarks_mm)
                if there < IMPLAUSIBLE < here:
                    turned[where][piece] = partner
    return turned


def _judge_shared(labels: LabelVolume, opinion: _Opinion) -> LabelVolume:
    """Remove pieces that both see, but apart from their organ and where or as small as it is not.

    The organ is the largest piece in its place; without one, nothing is removed. Pieces are
    those of label and prediction together: what one of them joins hangs together.
    """
    landmarks_mm = _agreed_centers(labels, opinion)
    judged = labels.copy()
    for value in range(1, NUM_CLASSES):
        both = labels == value, opinion.predicted == value
        pieces = list(_pieces(both[0] | both[1], opinion.spacing_mm))
        if len(pieces) < 2:
            continue
        far = [
            opinion.distance(piece, where, value, landmarks_mm) > IMPLAUSIBLE
            for piece, where in pieces
        ]
        if all(far):
            continue
        sizes = [int(np.count_nonzero(piece)) for piece, _ in pieces]
        organ = far.index(False)
        for index, (piece, where) in enumerate(pieces):
            mine, theirs = (mask[where] & piece for mask in both)
            seen = int(np.count_nonzero(mine & theirs)) >= SEEN * int(np.count_nonzero(mine))
            small = sizes[index] < SPECK * sizes[organ]
            if index != organ and seen and (far[index] or small):
                judged[where][mine] = 0
    return judged


def _judge_pieces(labels: LabelVolume, opinion: _Opinion) -> LabelVolume:
    """Rename or remove pieces of organs that the prediction does not see there."""
    landmarks_mm = _agreed_centers(labels, opinion)
    judged = labels.copy()
    for value in range(1, NUM_CLASSES):
        pieces = list(_pieces(labels == value, opinion.spacing_mm))
        for index, (piece, where) in enumerate(pieces):
            votes = np.bincount(opinion.predicted[where][piece], minlength=NUM_CLASSES)
            votes = votes / votes.sum()
            if votes[value] >= SEEN or not opinion.is_sure(piece, where, SURE):
                continue
            here = opinion.distance(piece, where, value, landmarks_mm)
            other = int(votes.argmax())
            if other and opinion.distance(piece, where, other, landmarks_mm) < here - CLEARLY:
                judged[where][piece] = other
            elif index > 0 or here > IMPLAUSIBLE:
                # Apart from its organ, or far from its place, and not seen by the prediction.
                judged[where][piece] = opinion.predicted[where][piece]
    return judged


def _judge_disputes(labels: LabelVolume, opinion: _Opinion) -> LabelVolume:
    """Decide about each thick part that label and prediction name differently."""
    landmarks_mm = _agreed_centers(labels, opinion)
    agreed = np.where(labels == opinion.predicted, labels, NUM_CLASSES).astype(np.uint8)
    face_mm2 = math.prod(opinion.spacing_mm) ** (2 / 3)
    judged = labels.copy()
    for mine, theirs, part, where in _disputes(labels, opinion):
        rim = ndimage.binary_dilation(part, _FACES) & ~part
        contact = np.bincount(agreed[where][rim], minlength=NUM_CLASSES + 1) * face_mm2
        if _is_theirs(mine, theirs, part, where, contact, labels, opinion, landmarks_mm):
            judged[where][part] = theirs
    return judged


def _is_theirs(
    mine: int,
    theirs: int,
    part: BoolVolume,
    where: tuple[slice, ...],
    contact_mm2: npt.NDArray[np.float64],
    labels: LabelVolume,
    opinion: _Opinion,
    landmarks_mm: FloatTable,
) -> bool:
    """Tell whether the prediction is right about a part."""
    if theirs == 0:  # the label alone sees an organ here
        far = opinion.distance(part, where, mine, landmarks_mm) > IMPLAUSIBLE
        loose = contact_mm2[mine] < ATTACHED_MM2
        doubted = opinion.confidence is not None and opinion.is_sure(part, where, VERY_SURE)
        return doubted or (far and loose)
    if not opinion.is_sure(part, where, SURE):
        return False
    there = opinion.distance(part, where, theirs, landmarks_mm)
    if mine == 0:  # the prediction alone sees an organ here
        attached = contact_mm2[theirs] >= ATTACHED_MM2
        return there <= IMPLAUSIBLE and (attached or not (labels == theirs).any())
    here = opinion.distance(part, where, mine, landmarks_mm)
    if max(contact_mm2[mine], contact_mm2[theirs]) < ATTACHED_MM2:
        return there < here - CLEARLY
    return bool(contact_mm2[theirs] > contact_mm2[mine]) and there <= here + CLEARLY


def _disputes(
    labels: LabelVolume, opinion: _Opinion
) -> Iterator[tuple[int, int, BoolVolume, tuple[slice, ...]]]:
    """Find the thick parts with one label and one other prediction.

    A part is what a ball of the border's radius reaches, and the corners up to a
    radius beyond. What is left over holds no such ball, so that a second look
    finds nothing new.
    """
    predicted, spacing_mm = opinion.predicted, opinion.spacing_mm
    pairs = np.where(labels != predicted, NUM_CLASSES * labels + predicted, 0).astype(np.uint8)
    for pair, found in enumerate(ndimage.find_objects(pairs), start=1):
        if found is None:
            continue
        mine, theirs = divmod(pair, NUM_CLASSES)
        radius_mm = min(_BORDER_MM[mine], _BORDER_MM[theirs])
        ball = _ball(radius_mm, spacing_mm)
        where = _widened(found, labels.shape)
        disputed = pairs[where] == pair
        thick = ndimage.binary_opening(disputed, ball)
        if thick.any():
            thick = ndimage.binary_dilation(thick, np.ones(ball.shape), mask=disputed)
            labeled, count = ndimage.label(thick)
            for index in range(1, count + 1):
                yield mine, theirs, labeled == index, where


def _pieces(
    mask: BoolVolume, spacing_mm: SpacingZYX
) -> Iterator[tuple[BoolVolume, tuple[slice, ...]]]:
    """Give the connected pieces of a mask, largest first, each in its own box."""
    (around,) = ndimage.find_objects(mask.view(np.uint8), 1)
    if around is None:
        return
    labeled, found = components_of(mask[around], spacing_mm)
    for piece in found:
        inside = piece.box.slices
        where = tuple(
            slice(outer.start + inner.start, outer.start + inner.stop)
            for outer, inner in zip(around, inside, strict=True)
        )
        yield labeled[inside] == piece.label, where


def _agreed_centers(labels: LabelVolume, opinion: _Opinion) -> FloatTable:
    """Give the centers of the organs, as far as label and prediction agree."""
    agreed = np.where(labels == opinion.predicted, labels, 0).astype(np.uint8)
    return centers_of(agreed, opinion.spacing_mm)[0]


def _ball(radius_mm: float, spacing_mm: SpacingZYX) -> BoolVolume:
    """Give a ball as a structuring element; at least a voxel and its six neighbors."""
    reach = [max(1, math.floor(radius_mm / step)) for step in spacing_mm]
    axes = np.ogrid[tuple(slice(-size, size + 1) for size in reach)]
    squared = sum(
        (axis * step / max(radius_mm, step)) ** 2
        for axis, step in zip(axes, spacing_mm, strict=True)
    )
    ball: BoolVolume = np.asarray(squared <= 1.0 + 1e-9)
    return ball


def _widened(where: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Grow a box by a voxel on all sides, as far as the volume reaches."""
    return tuple(
        slice(max(0, axis.start - 1), min(size, axis.stop + 1))
        for axis, size in zip(where, shape, strict=True)
    )
