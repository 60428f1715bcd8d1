"""Training patches from a bank of synthetic bodies, each drawn anew.

A body is stored once as a tissue map. A patch is cut from it at a random place,
turned, scaled and bent, given contents and disease of its own, and only then scanned,
so that no two patches of a run are alike and none is ever stored. Phase two's patches
are scanned on a finer grid and resampled by the runtime's own code: partial volume at
organ borders is what it will be in use.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from app.config import PhaseConfig
from app.data.placement import Placement, cut, cut_with_middles
from app.errors import UnreadableScanError
from app.imaging.geometry import FloatVolume, IndexZYX, LabelVolume, SpacingZYX
from app.imaging.intensity import normalize
from app.imaging.resample import linear_weights, resample_linear
from app.synthesis.appearance import AIR_HU, Appearance, render, scan
from app.synthesis.bank import read_body
from app.synthesis.fields import draw_nodes
from app.synthesis.spine import draw_aged_appearance
from app.synthesis.tissues import ORGAN_OF_TISSUE, Tissue
from app.synthesis.variation import unlabel, vary

_Patch_co = TypeVar("_Patch_co", covariant=True)

_CAVITY = (Tissue.MESENTERY, Tissue.PELVIC_SOFT_TISSUE, Tissue.BOWEL_CONTENT, Tissue.URINE)

POINTS_PER_ORGAN = 400
NEARBY_MM = 60.0
BELLY_MM = 120.0
"""How far below the organs patches are cut from the cavity, in mm."""
BELOW_ALONE_SHARE = 0.5
"""How many of those patches belong to a scan that ends there, such as one of the pelvis."""
BEND_MM = 40.0
"""Distance between the nodes of the elastic deformation, in mm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One synthetic body and the places patches are cut at.

    Parameters
    ----------
    tissues : (Z, Y, X) array of uint8
        Tissue map, canonical orientation.
    spacing_mm : (z, y, x) floats
        Its grid, in mm.
    organ_points : list of (n, 3) arrays of int
        Voxels (z, y, x) of each organ that the body has.
    organ_start, organ_stop : (3,) arrays of int
        Region that the anatomy covered, in voxels.
    """

    tissues: LabelVolume
    spacing_mm: SpacingZYX
    organ_points: list[npt.NDArray[np.int32]]
    organ_start: npt.NDArray[np.int32]
    organ_stop: npt.NDArray[np.int32]


@lru_cache(maxsize=512)
def load_body(path: Path) -> Body:
    """Read a body of the bank.

    Raises
    ------
    UnreadableScanError
        If the file is no tissue map of a bank.
    """
    try:
        stored = read_body(path)
    except (OSError, KeyError, ValueError) as error:
        raise UnreadableScanError(
            f"{path}: expected a body of the bank ({error}); remove it and build the bank again"
        ) from error
    labels = ORGAN_OF_TISSUE[stored.tissues]
    flat = np.flatnonzero(labels)
    rng = np.random.default_rng(len(flat))
    values = labels.reshape(-1)[flat]
    points = []
    for value in np.unique(values):
        chosen = flat[values == value]
        chosen = rng.choice(chosen, min(len(chosen), POINTS_PER_ORGAN), replace=False)
        points.append(np.stack(np.unravel_index(chosen, labels.shape), axis=1).astype(np.int32))
    return Body(
        tissues=stored.tissues,
        spacing_mm=stored.spacing_mm,
        organ_points=points,
        organ_start=np.array(stored.organ_box.start, np.int32),
        organ_stop=np.array(stored.organ_box.stop, np.int32),
    )


def _rotation(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Turn about the slice axis by up to 15°, about the others by up to 7°."""
    about_z, about_y, about_x = np.deg2rad(rng.uniform(-1, 1, 3) * (15.0, 7.0, 7.0))
    cz, sz, cy, sy = np.cos(about_z), np.sin(about_z), np.cos(about_y), np.sin(about_y)
    cx, sx = np.cos(about_x), np.sin(about_x)
    turn_z = np.array([[1, 0, 0], [0, cz, -sz], [0, sz, cz]])
    turn_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    turn_x = np.array([[cx, -sx, 0], [sx, cx, 0], [0, 0, 1]])
    turned: npt.NDArray[np.float64] = turn_z @ turn_y @ turn_x
    return turned


def random_placement(
    body: Body,
    center: npt.NDArray[np.floating],
    shape: IndexZYX,
    spacing_mm: SpacingZYX,
    rng: np.random.Generator,
) -> Placement:
    """Lay a turned, scaled and bent patch into a body.

    Parameters
    ----------
    body : Body
        Where the patch lies.
    center : (3,) array
        Voxel (z, y, x) of the body that comes to lie at the patch's center.
    shape, spacing_mm : (z, y, x)
        The patch's grid, in voxels and mm.
    rng : numpy Generator
        Source of the deformation.

    Returns
    -------
    Placement
    """
    step_z, step_y, step_x = spacing_mm
    amplitude_mm = rng.uniform(0.0, 5.0)
    bends, offsets_mm = [], []
    for axis, (size, step) in enumerate(zip(shape, spacing_mm, strict=True)):
        nodes = draw_nodes(rng, shape, spacing_mm, BEND_MM)
        num_nodes = len(nodes)
        bend = resample_linear(
            nodes,
            (BEND_MM, BEND_MM, BEND_MM),
            (BEND_MM, step_y, step_x),
            (num_nodes, *shape[1:]),
        )
        bends.append(bend.reshape(num_nodes, -1))
        offset_mm = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * step
        offsets_mm.append(np.expand_dims(offset_mm, [a for a in range(3) if a != axis]))
    scale = rng.uniform(0.87, 1.15) * rng.uniform(0.95, 1.05, 3)
    return Placement(
        shape=shape,
        offsets_mm=offsets_mm,
        bends=bends,
        along_z=linear_weights(shape[0], step_z, num_nodes, BEND_MM),
        amplitude_mm=amplitude_mm,
        matrix=(_rotation(rng) * scale / np.array(body.spacing_mm)[:, None]).astype(np.float32),
        center=np.asarray(center, np.float32),
    )


def draw_scan(
    body: Body,
    center: npt.NDArray[np.floating],
    shape: IndexZYX,
    spacing_mm: SpacingZYX,
    rng: np.random.Generator,
) -> tuple[FloatVolume, LabelVolume]:
    """Scan a piece of a body, varied anew, and resample it as the runtime does.

    Parameters
    ----------
    body, center, shape, spacing_mm, rng
        See :func:`random_placement`.

    Returns
    -------
    hu : (Z, Y, X) array of float32
        HU.
    labels : (Z, Y, X) array of uint8
        Organ values.
    """
    fine_shape, fine_mm = _twice_as_fine(shape, spacing_mm)
    placement = random_placement(body, center, fine_shape, fine_mm, rng)
    tissues, labels = _varied_piece(body, placement, fine_mm, rng)
    hu, scanned_mm = scan(tissues, fine_mm, draw_aged_appearance(rng), rng)
    return resample_linear(hu, scanned_mm, spacing_mm, shape), labels


def _twice_as_fine(shape: IndexZYX, spacing_mm: SpacingZYX) -> tuple[IndexZYX, SpacingZYX]:
    """Give the grid that a patch is scanned on, for partial volume at organ borders."""
    (num_z, num_y, num_x), (step_z, step_y, step_x) = shape, spacing_mm
    return (2 * num_z, 2 * num_y, 2 * num_x), (step_z / 2, step_y / 2, step_x / 2)


def _varied_piece(
    body: Body, placement: Placement, spacing_mm: SpacingZYX, rng: np.random.Generator
) -> tuple[LabelVolume, LabelVolume]:
    """Cut tissues out of a body, varied anew, and the labels on the grid half as fine."""
    tissues, middles = cut_with_middles(body.tissues, placement)
    labels = ORGAN_OF_TISSUE[middles]
    unlabel(labels, tissues, vary(tissues, spacing_mm, rng))
    return tissues, labels


def _field_of_view(rng: np.random.Generator, shape: IndexZYX) -> tuple[slice, ...]:
    """Cut one or both ends along the slices, and now and then a side."""
    cuts = []
    for size, probability in zip(shape, (0.12, 0.03, 0.03), strict=True):
        first = int(rng.integers(0, size // 2)) if rng.random() < probability else 0
        last = int(rng.integers(size // 2, size)) + 1 if rng.random() < probability else size
        cuts.append(slice(first, last))
    return tuple(cuts)


def _outside(hu: FloatVolume, labels: LabelVolume, inside: tuple[slice, ...]) -> None:
    """Blank what the scanner did not see, in place."""
    seen = np.zeros(hu.shape, bool)
    seen[inside] = True
    hu[~seen] = AIR_HU
    labels[~seen] = 0


def _skin_center(body: Body, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Choose a place on the skin before the organs: air in front of it is no stomach's."""
    z, x = (rng.integers(body.organ_start[axis], body.organ_stop[axis]) for axis in (0, 2))
    y = np.argmax(body.tissues[z, :, x] != Tissue.AIR)
    return np.array((z, y, x), np.float64)


def _belly_center(body: Body, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Choose a place in the cavity at the organs' lower half or below them.

    What fills a patch without any organ there, a cyst of liters or a full bladder, is no liver.
    """
    lowest = max(body.organ_start[0] - round(BELLY_MM / body.spacing_mm[0]), 0)
    z = rng.integers(lowest, (body.organ_start[0] + body.organ_stop[0]) // 2)
    quarter = (body.organ_stop[2] - body.organ_start[2]) // 4
    x = rng.integers(body.organ_start[2] + quarter, body.organ_stop[2] - quarter)
    inside = np.flatnonzero(np.isin(body.tissues[z, :, x], _CAVITY))
    y = rng.choice(inside) if len(inside) else body.tissues.shape[1] // 2
    return np.array((z, y, x), np.float64)


def _segment_place(
    body: Body, shape: IndexZYX, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], int]:
    """Choose a place, and before which slice of a patch there the scan ends at the latest.

    Mostly it is an organ, each organ as often; else around them or anywhere.
    """
    kind, num_slices = rng.random(), shape[0]
    if kind < 0.05:
        return _skin_center(body, rng), num_slices
    if kind < 0.13:
        alone = rng.random() < BELOW_ALONE_SHARE
        return _belly_center(body, rng), num_slices // 2 if alone else num_slices
    if kind < 0.8:
        points = body.organ_points[rng.integers(len(body.organ_points))]
        point = points[rng.integers(len(points))].astype(np.float64)
        return point + rng.uniform(-0.3, 0.3, 3) * shape, num_slices
    margin = np.zeros(3) if kind > 0.96 else NEARBY_MM / np.array(body.spacing_mm)
    low, high = body.organ_start - margin, body.organ_stop + margin
    if kind > 0.96:
        low, high = np.zeros(3), np.array(body.tissues.shape, np.float64)
    return rng.uniform(low, high), num_slices


def _segment_view(rng: np.random.Generator, shape: IndexZYX, last: int) -> tuple[slice, ...]:
    """Cut what a scan shows of a patch, which ends before a slice at the latest."""
    slices, *in_plane = _field_of_view(rng, shape)
    return slice(slices.start, min(slices.stop, last)), *in_plane


def network_example(
    hu: FloatVolume, labels: LabelVolume, seen: tuple[slice, ...], config: PhaseConfig
) -> tuple[FloatVolume, LabelVolume]:
    """Blank what the scanner did not see, in place, and scale the rest as the runtime does."""
    _outside(hu, labels, seen)
    return normalize(hu, config.window_hu), labels


def segment_example(
    body: Body, config: PhaseConfig, shape: IndexZYX, rng: np.random.Generator
) -> tuple[FloatVolume, LabelVolume]:
    """Draw one training patch for phase two.

    Parameters
    ----------
    body : Body
        Where to cut it from.
    config : PhaseConfig
        Grid and intensity window.
    shape : (z, y, x) ints
        Size of the patch, in voxels.
    rng : numpy Generator
        Source of randomness.

    Returns
    -------
    image : (Z, Y, X) array of float32
        Normalized network input.
    labels : (Z, Y, X) array of uint8
        Organ values.
    """
    center, last = _segment_place(body, shape, rng)
    hu, labels = draw_scan(body, center, shape, config.spacing_mm, rng)
    return network_example(hu, labels, _segment_view(rng, shape, last), config)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnscannedPatch:
    """A training patch of phase two before the scanner, see :mod:`app.data.device_scan`.

    Parameters
    ----------
    tissues : (2 Z, 2 Y, 2 X) tensor of uint8
        What lies there.
    spacing_mm : (z, y, x) floats
        Its grid, in mm.
    labels : (Z, Y, X) tensor of uint8
        Organ values.
    appearance : Appearance
        How it is to look.
    seen : three slices
        The part of the patch that the scan shows.
    seed : int
        Start of texture and noise.
    """

    tissues: Tensor
    spacing_mm: SpacingZYX
    labels: Tensor
    appearance: Appearance
    seen: tuple[slice, ...]
    seed: int


def unscanned_patch(
    body: Body, config: PhaseConfig, shape: IndexZYX, rng: np.random.Generator
) -> UnscannedPatch:
    """Draw one training patch for phase two up to the scanner.

    Parameters are those of :func:`segment_example`.
    """
    center, last = _segment_place(body, shape, rng)
    fine_shape, fine_mm = _twice_as_fine(shape, config.spacing_mm)
    placement = random_placement(body, center, fine_shape, fine_mm, rng)
    tissues, labels = _varied_piece(body, placement, fine_mm, rng)
    return UnscannedPatch(
        tissues=torch.from_numpy(tissues),
        spacing_mm=fine_mm,
        labels=torch.from_numpy(labels),
        appearance=draw_aged_appearance(rng),
        seen=_segment_view(rng, shape, last),
        seed=int(rng.integers(2**63)),
    )


def _coarse_appearance(rng: np.random.Generator) -> Appearance:
    """Draw the look of a scan after it was averaged to the coarse grid."""
    fine = draw_aged_appearance(rng)
    return replace(fine, blur_mm=rng.uniform(1.5, 3.0), noise_hu=fine.noise_hu * 0.6, noise_mm=1.0)


def locate_example(
    body: Body, config: PhaseConfig, shape: IndexZYX, rng: np.random.Generator
) -> tuple[FloatVolume, LabelVolume]:
    """Draw one training volume for phase one: a whole scan with a field of view of its own.

    Parameters and result are those of :func:`segment_example`; labels are 1 in any organ.
    """
    size = np.array(body.tissues.shape)
    reach = np.array(shape) * config.spacing_mm / np.array(body.spacing_mm)
    slack = np.maximum(size - reach, 0.0) / 2
    center = size / 2 + rng.uniform(-1, 1, 3) * (slack + 0.1 * reach)
    placement = random_placement(body, center, shape, config.spacing_mm, rng)
    tissues = cut(body.tissues, placement)
    organs = ORGAN_OF_TISSUE[tissues]
    unlabel(organs, tissues, vary(tissues, config.spacing_mm, rng))
    labels = (organs > 0).astype(np.uint8)
    hu = render(tissues, config.spacing_mm, _coarse_appearance(rng), rng)
    length = int(rng.integers(shape[0] // 5, shape[0] + 1)) if rng.random() < 0.6 else shape[0]
    first = int(rng.integers(0, shape[0] - length + 1))
    in_plane = _field_of_view(rng, shape)[1:]
    return network_example(hu, labels, (slice(first, first + length), *in_plane), config)


EXAMPLES = {"locate": locate_example, "segment": segment_example}


def as_tensors(image: FloatVolume, labels: LabelVolume) -> tuple[Tensor, Tensor]:
    """Give (1, Z, Y, X) tensors of float32 and int64."""
    return torch.from_numpy(image)[None], torch.from_numpy(labels.astype(np.int64))[None]


class _PatchStream(IterableDataset[_Patch_co]):
    """An endless stream of training patches.

    Parameters
    ----------
    bodies : list of Path
        Files of the bank to draw from, divided among workers.
    config : PhaseConfig
        The phase to draw for.
    patch_shape : (z, y, x) ints
        Size of the patches, in voxels.
    seed : int
        Start of the stream; each worker has a stream of its own.
    """

    def __init__(
        self, bodies: list[Path], config: PhaseConfig, *, patch_shape: IndexZYX, seed: int
    ) -> None:
        self.bodies = bodies
        self.config = config
        self.patch_shape = patch_shape
        self.seed = seed

    def __iter__(self) -> Iterator[_Patch_co]:
        """Yield patches, for ever."""
        worker = get_worker_info()
        number, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rng = np.random.default_rng([self.seed, number])
        # Bodies are kept once they are read, gigabytes of them: each worker has its share.
        bodies = self.bodies[number::num_workers] or self.bodies
        while True:
            yield self._draw(load_body(bodies[rng.integers(len(bodies))]), rng)

    def _draw(self, body: Body, rng: np.random.Generator) -> _Patch_co:
        """Draw one patch of a body."""
        raise NotImplementedError


class SyntheticPatches(_PatchStream[tuple[Tensor, Tensor]]):
    """An endless stream of (1, Z, Y, X) float32 images and (1, Z, Y, X) int64 labels."""

    def _draw(self, body: Body, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return as_tensors(*EXAMPLES[self.config.name](body, self.config, self.patch_shape, rng))


class UnscannedPatches(_PatchStream[UnscannedPatch]):
    """An endless stream of phase two's patches that :mod:`app.data.device_scan` is to scan."""

    def _draw(self, body: Body, rng: np.random.Generator) -> UnscannedPatch:
        return unscanned_patch(body, self.config, self.patch_shape, rng)
