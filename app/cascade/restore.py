"""From class scores back to labels on the scan's own grid, slab by slab."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

from app.cascade.memory import SLAB_SLICES
from app.cascade.patches import STEPS_PER_LOGIT, StepVolume
from app.cascade.segment import ClassScores, Region
from app.imaging.components import find_specks
from app.imaging.geometry import FloatVolume, Geometry, LabelVolume
from app.imaging.io import Source
from app.imaging.resample import columns_of, grid_weights


def restore(scores: ClassScores, source: Source) -> LabelVolume:
    """Label every voxel of the scan.

    The scores, not the labels, are interpolated to the scan's grid, so that borders
    between organs come out smooth; each voxel gets the class with the highest score.

    Parameters
    ----------
    scores : ClassScores
        Of the located region.
    source : Source
        How the scan lay on disk.

    Returns
    -------
    (Z, Y, X) array of uint8
        Label map of the whole scan in canonical orientation; background outside
        the box.
    """
    label_map = source.blank_label_map()
    part = label_map[scores.region.box.slices]
    weights = interpolation(scores.region, source.geometry)
    label_region(scores.steps, scores.labels, weights, part)
    return label_map


def interpolation(
    region: Region, geometry: Geometry
) -> tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]:
    """Build the matrices that interpolate from a region's window to the scan's voxels in its box.

    Parameters
    ----------
    region : Region
        Of the scan.
    geometry : Geometry
        The scan's grid.

    Returns
    -------
    three sparse arrays of shapes (Z, Z'), (Y, Y'), (X, X')
        What a row draws on beyond the window is left out.
    """
    whole = grid_weights(geometry.shape, geometry.spacing_mm, region.grid_shape, region.spacing_mm)
    along_z, along_y, along_x = (
        matrix[rows, columns]
        for matrix, rows, columns in zip(
            whole, region.box.slices, region.window.slices, strict=True
        )
    )
    return along_z, along_y, along_x


def take_back_specks(scores: ClassScores) -> dict[int, float]:
    """Give pieces too small to believe to the second-best class, in place.

    Parameters
    ----------
    scores : ClassScores
        Where a piece is taken back its class becomes the least likely one.

    Returns
    -------
    dict of int to float
        Largest piece taken back, in mm³, of each organ that it was no small part of.
    """
    region, labels = scores.region, scores.labels
    specks, doubtful_mm3 = find_specks(labels, region.spacing_mm, region.scan)
    # A piece taken back from one organ may become a speck of another, so until none is left:
    # background, to which all falls in the end, has none.
    while specks.any():
        columns = scores.steps[:, specks]
        least = columns.min(axis=0) - STEPS_PER_LOGIT
        columns[labels[specks], np.arange(columns.shape[1])] = least
        scores.steps[:, specks] = columns
        labels[specks] = columns.argmax(axis=0)
        specks, _ = find_specks(labels, region.spacing_mm, region.scan)
    return doubtful_mm3


def label_region(
    steps: StepVolume,
    coarse_labels: LabelVolume,
    weights: Sequence[sparse.csr_array],
    region: LabelVolume,
) -> None:
    """Interpolate class scores and write the best class, in place.

    Each class is interpolated only in the box around the voxels where it is best
    on the coarse grid, and a bit beyond. Farther away it could win nothing but
    slivers between two voxels that belong to others.

    Parameters
    ----------
    steps : (C, Z', Y', X') array of int16
        Scores on the coarse grid.
    coarse_labels : (Z', Y', X') array of uint8
        Best class of ``steps``.
    weights : three sparse arrays of shapes (Z, Z'), (Y, Y'), (X, X')
        Interpolation along each axis, rows sum to 1.
    region : (Z, Y, X) array of uint8
        Background; becomes the label map.
    """
    for start in range(0, len(region), SLAB_SLICES):
        slab = slice(start, min(start + SLAB_SLICES, len(region)))
        planes = columns_of(weights[0][slab])
        coarse_slab = coarse_labels[planes]
        wanted = _box_around(coarse_slab)
        if wanted is None:
            continue
        rows = [
            _rows_drawing_on(matrix, part)
            for matrix, part in zip(weights[1:], wanted[1:], strict=True)
        ]
        around = [matrix[part] for matrix, part in zip(weights[1:], rows, strict=True)]
        labels = region[slab][:, rows[0], rows[1]]
        _label_slab(steps[:, planes], coarse_slab, (weights[0][slab, planes], *around), labels)


def _box_around(labels: LabelVolume) -> tuple[slice, slice, slice] | None:
    """Find the smallest box that holds every organ; None without any."""
    found = ndimage.find_objects((labels > 0).view(np.uint8))
    return found[0] if found else None


def _label_slab(
    steps: StepVolume,
    coarse_labels: LabelVolume,
    weights: Sequence[sparse.csr_array],
    labels: LabelVolume,
) -> None:
    """Do the work of :func:`label_region` for a few slices."""
    parts = ndimage.find_objects(coarse_labels)
    along_z, along_y, along_x = weights
    best = interpolate(steps[0], along_z, along_y, along_x)
    for value, part in enumerate(parts, start=1):
        if part is None:
            continue
        rows_y, rows_x = _rows_drawing_on(along_y, part[1]), _rows_drawing_on(along_x, part[2])
        if rows_y.stop == 0 or rows_x.stop == 0:  # too far away to compete here
            continue
        columns_y, columns_x = columns_of(along_y[rows_y]), columns_of(along_x[rows_x])
        challenger = interpolate(
            steps[value][:, columns_y, columns_x],
            along_z,
            along_y[rows_y, columns_y],
            along_x[rows_x, columns_x],
        )
        so_far = best[:, rows_y, rows_x]
        labels[:, rows_y, rows_x][challenger > so_far] = value
        np.maximum(so_far, challenger, out=so_far)


def _rows_drawing_on(matrix: sparse.csr_array, columns: slice) -> slice:
    """Find the rows that draw on any of some columns."""
    rows = np.flatnonzero(matrix[:, columns].sum(axis=1))
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)


def interpolate(
    coarse: StepVolume | FloatVolume,
    along_z: sparse.csr_array,
    along_y: sparse.csr_array,
    along_x: sparse.csr_array,
) -> FloatVolume:
    """Interpolate along z, then y, then x; the coarse axes are the short ones.

    Parameters
    ----------
    coarse : (Z', Y', X') array of int16 or float32
        On the coarse grid.
    along_z, along_y, along_x : sparse arrays of shapes (Z, Z'), (Y, Y'), (X, X')
        Interpolation along each axis; all slices wanted at once, or a few.

    Returns
    -------
    (Z, Y, X) array of float32
        On the fine grid.
    """
    depth, height, width = along_z.shape[0], along_y.shape[0], along_x.shape[0]
    planes = along_z @ coarse.reshape(len(coarse), -1).astype(np.float32, copy=False)
    fine = np.empty((depth, height, width), np.float32)
    for plane, out in zip(planes.reshape(depth, *coarse.shape[1:]), fine, strict=True):
        rows = along_y @ plane
        out[...] = (along_x @ np.ascontiguousarray(rows.T)).T
    return fine
