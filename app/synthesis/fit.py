"""How one body is laid over another: landmarks of the organs and a smooth warp between them.

All points are in mm, (z, y, x), counted from the center of an array's first voxel.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage
from scipy.interpolate import RBFInterpolator

from app.imaging.geometry import IndexZYX, LabelVolume, SpacingZYX
from app.synthesis.tissues import Tissue

Points = npt.NDArray[np.float64]

TUBES = (Tissue.AORTA, Tissue.INFERIOR_VENA_CAVA, Tissue.ESOPHAGUS)
"""Organs that run along the body: they are matched slice by slice, not by their ends."""

_RIB_SIDES: dict[int, tuple[tuple[int, int], ...]] = {
    Tissue.LIVER: ((1, 0), (1, 1), (2, 0)),
    Tissue.SPLEEN: ((1, 1), (2, 1)),
}
"""Axis and end (0 low, 1 high) of the sides of an organ that the rib cage covers."""

_MOST_POINTS = 30_000

_SMALLEST_VOXELS = 150
"""An organ of fewer voxels is a scrap at a scan's end and says nothing on where it lies."""

_TUBE_STEP_MM = 15.0


@dataclass(frozen=True, slots=True)
class Warp:
    """A map from points of one body to points of another.

    Parameters
    ----------
    matrix : (3, 3) array of float64
        Linear part, acting on (z, y, x) columns.
    offset : (3,) array of float64
        Shift, in mm.
    bend : RBFInterpolator or None
        What the affine part leaves over; fades away from the landmarks.
    """

    matrix: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    bend: RBFInterpolator | None = None

    def __call__(self, points: Points) -> Points:
        """Map points of shape (N, 3), in mm."""
        moved = points @ self.matrix.T + self.offset
        if self.bend is not None:
            moved = moved + self.bend(points)
        return moved

    def affine_inverse(self, points: Points) -> Points:
        """Map points of shape (N, 3) back through the affine part alone."""
        return (points - self.offset) @ np.linalg.inv(self.matrix).T


def compact_landmarks(labels: LabelVolume, spacing_mm: SpacingZYX) -> dict[tuple[int, int], Points]:
    """Find centers and extreme points of the organs that are whole bodies of their own.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        Organ values 1 to 13, anything else is passed over.
    spacing_mm : (z, y, x) floats
        Voxel spacing, in mm.

    Returns
    -------
    dict from (organ, which) to (3,) array of float64
        ``which`` is 0 for the center, then 1 to 6 for the lowest, highest, front,
        back, right and left 3 % of the organ, then points along the ribs. An end
        that the array cuts off is left out.
    """
    landmarks: dict[tuple[int, int], Points] = {}
    for organ, region in enumerate(ndimage.find_objects(labels, max_label=13), start=1):
        if region is None or organ in TUBES:
            continue
        inside = np.argwhere(labels[region] == organ)
        if len(inside) < _SMALLEST_VOXELS:
            continue
        cut = (region[0].start == 0, region[0].stop == labels.shape[0])
        # Means over tens of thousands of points are exact enough, and much faster.
        inside = inside[:: 1 + len(inside) // _MOST_POINTS]
        points = (inside + [part.start for part in region]) * np.asarray(spacing_mm)
        if not any(cut):
            landmarks[organ, 0] = points.mean(0)
        for which, (axis, side) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1))):
            if axis == 0 and cut[side]:
                continue
            edge = np.quantile(points[:, axis], 0.97 if side else 0.03)
            beyond = points[:, axis] >= edge if side else points[:, axis] <= edge
            landmarks[organ, 1 + which] = points[beyond].mean(0)
        if not any(cut):
            landmarks.update(_profile(points, organ))
    return landmarks


def _profile(points: Points, organ: int) -> dict[tuple[int, int], Points]:
    """Trace the sides of liver and spleen that lie against the ribs, at four heights."""
    profile: dict[tuple[int, int], Points] = {}
    for axis, side in _RIB_SIDES.get(organ, ()):
        for level in range(4):
            low, high = np.quantile(points[:, 0], (0.06 + 0.22 * level, 0.06 + 0.22 * (level + 1)))
            belt = points[(points[:, 0] >= low) & (points[:, 0] <= high)]
            edge = np.quantile(belt[:, axis], 0.96 if side else 0.04)
            beyond = belt[:, axis] >= edge if side else belt[:, axis] <= edge
            profile[organ, 10 + 10 * axis + 5 * side + level] = belt[beyond].mean(0)
    return profile


def tube_centers(labels: LabelVolume, organ: int, spacing_mm: SpacingZYX) -> Points:
    """Trace a tube by its center in each slice.

    Where a slice holds two parts (the aortic arch is cut twice), the one nearer
    the spine, that is the one furthest back, is taken.

    Returns
    -------
    (Z, 3) array of float64
        Center per slice, in mm; NaN where the slice holds none of the organ.
    """
    centers = np.full((labels.shape[0], 3), np.nan)
    region = ndimage.find_objects((labels == organ).view(np.uint8))
    if not region:
        return centers
    (box,) = region
    for z in range(box[0].start, box[0].stop):
        parts, num_parts = ndimage.label(labels[z, box[1], box[2]] == organ)
        found = [
            np.argwhere(parts == part + 1).mean(0)
            for part in range(num_parts)
            if np.count_nonzero(parts == part + 1) >= 6
        ]
        if found:
            y, x = max(found, key=lambda center: center[0])
            centers[z] = (z, y + box[1].start, x + box[2].start)
    centers *= spacing_mm
    return centers


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Where the organs of one body lie.

    Parameters
    ----------
    points : dict from (organ, which) to (3,) array of float64
        See :func:`compact_landmarks`.
    tubes : dict from organ to (Z, 3) array of float64
        See :func:`tube_centers`.
    """

    points: dict[tuple[int, int], Points]
    tubes: dict[int, Points]


def find_landmarks(labels: LabelVolume, spacing_mm: SpacingZYX) -> Landmarks:
    """Find all landmarks of an organ map of shape (Z, Y, X), values 0 to 13."""
    return Landmarks(
        compact_landmarks(labels, spacing_mm),
        {organ: tube_centers(labels, organ, spacing_mm) for organ in TUBES},
    )


def _tube_pairs(
    moving: Landmarks, fixed: Landmarks, spacing_mm: SpacingZYX, warp: Warp
) -> tuple[Points, Points]:
    """Pair the tubes' centers at heights that correspond under a first affine warp."""
    pairs_from: list[Points] = []
    pairs_to: list[Points] = []
    step = max(1, round(_TUBE_STEP_MM / spacing_mm[0]))
    for organ in TUBES:
        here, there = moving.tubes[organ], fixed.tubes[organ]
        for point in here[step // 2 :: step]:
            if np.isnan(point[0]):
                continue
            height = warp(point[None])[0, 0]
            index = round(height / spacing_mm[0])
            if 0 <= index < len(there) and not np.isnan(there[index, 0]):
                pairs_from.append(point)
                pairs_to.append(np.array([height, *there[index, 1:]]))
    return np.reshape(pairs_from, (-1, 3)), np.reshape(pairs_to, (-1, 3))


def fit_affine(points_from: Points, points_to: Points, *, stiffness: float) -> Warp:
    """Fit an affine map robustly, shear and rotation held small.

    Parameters
    ----------
    points_from, points_to : (N, 3) arrays of float64
        Landmarks that correspond, in mm.
    stiffness : float
        How strongly the matrix is drawn to the identity, as a number of landmarks
        lying 100 mm from the center.

    Returns
    -------
    Warp
        Without bend.
    """
    weight = np.ones(len(points_from))
    for _ in range(8):
        total = weight.sum()
        center_from = (weight[:, None] * points_from).sum(0) / total
        center_to = (weight[:, None] * points_to).sum(0) / total
        spread_from, spread_to = points_from - center_from, points_to - center_to
        # Off-diagonal terms are drawn to 0 five times as hard as scales to 1.
        pull = stiffness * 1e4 * (np.full((3, 3), 5.0) - 4.0 * np.eye(3))
        covariance = (weight[:, None] * spread_from).T @ spread_from
        cross = (weight[:, None] * spread_to).T @ spread_from
        matrix = np.stack(
            [
                np.linalg.solve(covariance + np.diag(pull[axis]), cross[axis] + pull[axis] * row)
                for axis, row in enumerate(np.eye(3))
            ]
        )
        offset = center_to - matrix @ center_from
        miss = np.linalg.norm(points_from @ matrix.T + offset - points_to, axis=1)
        weight = 1.0 / np.maximum(1.0, miss / 15.0)
    return Warp(matrix, offset)


def fit_bend(
    warp: Warp, points_from: Points, points_to: Points, *, reach_mm: float, smoothing: float
) -> Warp:
    """Add a smooth bend that brings landmarks closer than the affine part can.

    Parameters
    ----------
    warp : Warp
        The affine part.
    points_from, points_to : (N, 3) arrays of float64
        Landmarks that correspond, in mm.
    reach_mm : float
        Width of the Gaussian kernel, in mm.
    smoothing : float
        0 hits every landmark; larger leaves more of the misses.

    Returns
    -------
    Warp
        With bend.
    """
    residual = points_to - warp(points_from)
    # A miss of several cm is a different shape, not a different place.
    length = np.linalg.norm(residual, axis=1, keepdims=True)
    residual *= np.minimum(1.0, 35.0 / np.maximum(length, 1e-6))
    bend = RBFInterpolator(
        points_from,
        residual,
        kernel="gaussian",
        epsilon=1.0 / reach_mm,
        smoothing=smoothing,
        degree=-1,
    )
    return Warp(warp.matrix, warp.offset, bend)


def _mean_shift(moving: Landmarks, fixed: Landmarks) -> Points:
    """Shift one body's landmarks onto the other's by their means; 0 if one has none."""
    centers = []
    for landmarks in (moving, fixed):
        traces = [trace[~np.isnan(trace[:, 0])] for trace in landmarks.tubes.values()]
        found = np.concatenate([*traces, *(point[None] for point in landmarks.points.values())])
        if not len(found):
            return np.zeros(3)
        centers.append(found.mean(0))
    shift: Points = centers[1] - centers[0]
    return shift


def fit_warp(moving: Landmarks, fixed: Landmarks, spacing_mm: SpacingZYX) -> Warp:
    """Find the warp that carries one body's organs onto another's.

    Parameters
    ----------
    moving, fixed : Landmarks
        The warp maps points of ``moving`` to points of ``fixed``.
    spacing_mm : (z, y, x) floats
        Voxel spacing of the organ maps that the landmarks were found in, in mm.

    Returns
    -------
    Warp
        A shift of centers if fewer than four landmarks are shared.
    """
    here, there = moving.points, fixed.points
    shared = sorted(here.keys() & there.keys())
    points_from = np.reshape([here[key] for key in shared], (-1, 3))
    points_to = np.reshape([there[key] for key in shared], (-1, 3))
    if len(shared) < 4:
        return Warp(np.eye(3), _mean_shift(moving, fixed))
    first = fit_affine(points_from, points_to, stiffness=4.0)
    tubes_from, tubes_to = _tube_pairs(moving, fixed, spacing_mm, first)
    points_from = np.concatenate([points_from, tubes_from])
    points_to = np.concatenate([points_to, tubes_to])
    affine = fit_affine(points_from, points_to, stiffness=2.0)
    return fit_bend(affine, points_from, points_to, reach_mm=70.0, smoothing=1.0)


def warp_labels(
    labels: LabelVolume,
    spacing_mm: SpacingZYX,
    warp: Warp,
    *,
    start_mm: SpacingZYX,
    shape: IndexZYX,
    new_spacing_mm: SpacingZYX,
    knot_mm: float = 16.0,
) -> LabelVolume:
    """Sample a label map through a warp by nearest neighbor.

    Parameters
    ----------
    labels : (Z, Y, X) array of uint8
        The label map to be sampled.
    spacing_mm : (z, y, x) floats
        Its spacing, in mm.
    warp : Warp
        From points of the result to points of ``labels``.
    start_mm : (z, y, x) floats
        Where the result's first voxel lies, in mm of the warp's own side.
    shape, new_spacing_mm : (z, y, x)
        Grid of the result.
    knot_mm : float
        Step of the grid on which the warp is worked out; between, it is linear.

    Returns
    -------
    array of uint8 of that shape
        0 outside ``labels``.
    """
    knots = [
        np.arange(int(np.ceil(size * step / knot_mm)) + 2) * knot_mm + first
        for size, step, first in zip(shape, new_spacing_mm, start_mm, strict=True)
    ]
    points = np.stack(np.meshgrid(*knots, indexing="ij"), -1)
    moved = warp(points.reshape(-1, 3)).reshape(points.shape) - points
    field = sitk.GetImageFromArray(np.ascontiguousarray(moved[..., ::-1]), isVector=True)
    field.SetSpacing((knot_mm,) * 3)
    field.SetOrigin([float(first) for first in start_mm[::-1]])
    source = sitk.GetImageFromArray(labels)
    source.SetSpacing([float(step) for step in spacing_mm[::-1]])
    resample = sitk.ResampleImageFilter()
    resample.SetSize([int(size) for size in shape[::-1]])
    resample.SetOutputSpacing([float(step) for step in new_spacing_mm[::-1]])
    resample.SetOutputOrigin([float(first) for first in start_mm[::-1]])
    resample.SetInterpolator(sitk.sitkNearestNeighbor)
    resample.SetTransform(sitk.DisplacementFieldTransform(field))
    sampled: LabelVolume = sitk.GetArrayFromImage(resample.Execute(source))
    return sampled
