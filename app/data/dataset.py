"""From cases on disk to a stream of training batches.

Reading and resampling a scan takes seconds, so it is done once: kept in memory
where all cases fit, else as files.
"""

import hashlib
import io
import logging
import math
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, PersistentDataset
from monai.data.utils import worker_init_fn as draw_otherwise
from monai.transforms import Transform
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from app.config import PhaseConfig
from app.control_groups import container_limit
from app.data.augment import (
    CutLocatedBoxd,
    Example,
    locate_transforms,
    located_region,
    segment_transforms,
)
from app.data.cases import Case, read_case
from app.data.workers import start_worker
from app.imaging.geometry import IndexZYX
from app.imaging.io import atomic_path, peek
from app.imaging.preprocess import network_input
from app.imaging.resample import resample_nearest, resampled_shape

logger = logging.getLogger(__name__)

BYTES_PER_VOXEL = 3
"""What an example takes in memory: float16 input and uint8 label."""

MEMORY_SHARE = 0.5
"""Share of the free memory that examples may take."""


class Prepare(Transform):
    """Read a case and make of it what the runtime's network would see.

    Parameters
    ----------
    phase : PhaseConfig
        Grid and intensity window.
    patch_shape : (z, y, x) ints
        Size of the training patches, in voxels.
    """

    def __init__(self, phase: PhaseConfig, patch_shape: IndexZYX) -> None:
        self.phase = phase
        self.patch_shape = patch_shape

    def __call__(self, item: Mapping[str, Any]) -> Example:
        """Give the example of a case; see :mod:`app.data.augment` for what is in it.

        Phase two keeps the part around the organs only. Inputs are kept as float16,
        which is exact to a third of a HU.
        """
        case: Case = item["case"]
        scan, labels = read_case(case)
        image = network_input(scan, self.phase)
        label = resample_nearest(labels.array, scan.geometry.spacing_mm, self.phase.spacing_mm)
        if self.phase.name == "segment" and label.any():
            region = located_region(label > 0, self.phase, self.patch_shape).slices
            image, label = image[region], label[region]
        return {
            "image": torch.from_numpy(image[None].astype(np.float16)),
            "label": torch.from_numpy(np.ascontiguousarray(label[None])),
            "labeled": torch.from_numpy(case.labeled),
        }


def training_dataset(
    cases: Sequence[Case],
    phase: PhaseConfig,
    *,
    patch_shape: IndexZYX,
    patches_per_scan: int,
    cache: Path,
    processes: int = 1,
) -> Dataset[Any]:
    """Make the training examples of a list of cases, drawn anew each time they are asked for.

    Parameters
    ----------
    cases : sequence of Case
        What to train on.
    phase : PhaseConfig
        The phase to train.
    patch_shape : (z, y, x) ints
        Size of the training patches, in voxels.
    patches_per_scan : int
        Patches of one scan in phase two; phase one takes it whole.
    cache : Path
        Folder for prepared cases that do not fit into memory.
    processes : int
        Training processes that share this machine's memory.

    Returns
    -------
    Dataset
        Of lists of examples, or of examples for phase one.
    """
    vary = (
        segment_transforms(phase, patch_shape, patches_per_scan)
        if phase.name == "segment"
        else locate_transforms(patch_shape)
    )
    return _keep(cases, phase, patch_shape, vary.transforms, cache, processes)


def held_out_dataset(cases: Sequence[Case], phase: PhaseConfig, *, cache: Path) -> Dataset[Any]:
    """Make the examples to validate on: what a perfect phase one would hand on, not varied.

    Parameters
    ----------
    cases, phase, cache
        As for :func:`training_dataset`.

    Returns
    -------
    Dataset
        Of examples.
    """
    as_located = CutLocatedBoxd(phase.spacing_mm, phase.patch_shape, jitter_mm=0.0)
    steps = [as_located] if phase.name == "segment" else []
    return _keep(cases, phase, phase.patch_shape, steps, cache, 1)


def _keep(
    cases: Sequence[Case],
    phase: PhaseConfig,
    patch_shape: IndexZYX,
    vary: Sequence[Any],
    cache: Path,
    processes: int,
) -> Dataset[Any]:
    """Keep prepared cases in memory if they fit, else as files."""
    items = [_item(case, phase, patch_shape) for case in cases]
    needed = sum(_bytes_of(case, phase) for case in cases) * processes
    steps = [Prepare(phase, patch_shape), *vary]
    if needed <= MEMORY_SHARE * _free_bytes():
        logger.info("keeping %d cases in memory, at most %.1f GiB", len(items), needed / 2**30)
        return CacheDataset(items, steps, num_workers=1, progress=False, copy_cache=False)
    logger.info("keeping %d cases in %s", len(items), cache)
    return _PreparedFiles(items, steps, cache)


class _PreparedFiles(PersistentDataset):
    """Prepared cases as files, each of them whole or not there.

    MONAI writes them into the system's temporary folder first. Where that is on another disk,
    moving them means copying: a kill, or another process that reads meanwhile, meets a part of
    a file, which MONAI refuses ever after.
    """

    def __init__(
        self, items: Sequence[Mapping[Hashable, Any]], steps: Sequence[Any], folder: Path
    ) -> None:
        super().__init__(items, steps, cache_dir=folder)
        self.folder = folder

    def _cachecheck(self, item_transformed: Mapping[Hashable, Any]) -> Any:
        """Read what was prepared before, or prepare it."""
        path = self.folder / f"{_file_name(item_transformed)}.pt"
        try:
            return torch.load(path, weights_only=True)
        except FileNotFoundError:
            pass
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            logger.warning("%s: damaged (%s), prepared anew", path, error)
        prepared = self._pre_transform(item_transformed)  # type: ignore[no-untyped-call]
        # In one piece: at a full disk PyTorch itself raises no OSError.
        content = io.BytesIO()
        torch.save(prepared, content)
        with atomic_path(path) as partial:
            partial.write_bytes(content.getbuffer())
        return prepared


class EndlessSampler(Sampler[int]):
    """Go through all cases in a new random order again and again.

    Processes that train together share one order and take turns, so that together
    they see what one process would.

    Parameters
    ----------
    size : int
        Number of cases.
    seed : int
        Start of the random order.
    rank, world_size : int
        Which process of how many this is.
    """

    def __init__(self, size: int, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.size = size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[int]:
        """Yield indices for ever."""
        rng = np.random.default_rng(self.seed)
        turn = 0
        while True:
            for index in rng.permutation(self.size):
                if turn % self.world_size == self.rank:
                    yield int(index)
                turn += 1


def batches(
    dataset: Dataset[Any],
    *,
    scans_per_batch: int,
    seed: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Draw batches without end.

    Parameters
    ----------
    dataset : Dataset
        From :func:`training_dataset`.
    scans_per_batch : int
        Scans that each process takes a step.
    seed : int
        The same seed gives the same batches.
    workers : int
        Processes that make them; 0 makes them in between.
    rank, world_size : int
        Which training process of how many this is.

    Yields
    ------
    images : (N, 1, Z, Y, X) tensor of float32
    labels : (N, 1, Z, Y, X) tensor of int64
    labeled : (N, 14) tensor of bool
        The classes that each label map speaks of.
    """
    loader = DataLoader(
        dataset,
        batch_size=scans_per_batch,
        sampler=EndlessSampler(len(dataset), seed=seed, rank=rank, world_size=world_size),  # type: ignore[arg-type]
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
        generator=torch.Generator().manual_seed(seed + rank),
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loader:
        yield batch["image"], batch["label"].long(), batch["labeled"]


def _start_worker(number: int) -> None:
    """Let a worker stand back, and draw other augmentations than its neighbors."""
    draw_otherwise(number)
    start_worker(number)


def _item(case: Case, phase: PhaseConfig, patch_shape: IndexZYX) -> dict[Hashable, Any]:
    """Name a case by all that its prepared example depends on, for the files' names."""
    changed = [path.stat().st_mtime_ns for path in case.paths]
    return {"case": case, "phase": asdict(phase), "patch": patch_shape, "changed": changed}


def _file_name(item: Mapping[Hashable, Any]) -> str:
    """Name the file of a prepared case by what its item says.

    MONAI goes by the item's pickle, which differs between equal items: a string that is there
    twice is written once if both are one object, as they no longer are in a list of cases that
    was read from a file.
    """
    return hashlib.sha256(repr(item).encode()).hexdigest()


def _bytes_of(case: Case, phase: PhaseConfig) -> int:
    """Bound what the example of a case takes in memory."""
    geometry = peek(case.scan_path).geometry
    shape = resampled_shape(geometry.shape, geometry.spacing_mm, phase.spacing_mm)
    return math.prod(shape) * BYTES_PER_VOXEL


def _free_bytes() -> int:
    """Give the machine's free memory, or the limit of the container around it if that is less."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(free, container_limit() or free)
