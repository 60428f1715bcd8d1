"""A whole training run: bodies in, weights and their record out."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from app.config import PhaseConfig
from app.data.case_list import CaseList
from app.data.cases import Case
from app.data.dataset import training_dataset
from app.data.device_scan import ScannedPatches
from app.data.mixture import MixedPatches
from app.data.splits import split_anatomies
from app.data.synthetic import SyntheticPatches, UnscannedPatches
from app.data.workers import start_worker
from app.errors import UsageError
from app.models.build import build_network
from app.training.config import TrainingConfig
from app.training.loop import STATE_NAME, Trainer
from app.training.objective import make_objective
from app.training.own_cases import OWN_TERMS, PREPARED_NAME
from app.training.processes import Process, this_device
from app.training.record import (
    LICENSE,
    PROVENANCE,
    check_begun,
    mixed_provenance,
    write_record,
)

logger = logging.getLogger(__name__)

PREFETCHED_BATCHES = 4


def training_bodies(bank: Path, manifest: Path | None) -> list[Path]:
    """List the bodies of a bank that may be trained on.

    Parameters
    ----------
    bank : Path
        Folder of ``<anatomy>_<variant>.npz``.
    manifest : Path or None
        The anatomies' manifest, by which patients are held out; None trains on all.

    Returns
    -------
    list of Path
        Sorted.

    Raises
    ------
    UsageError
        If none is left.
    """
    bodies = sorted(bank.glob("*.npz"))
    if manifest is not None:
        allowed = set(split_anatomies(manifest).train)
        bodies = [body for body in bodies if body.stem.rpartition("_")[0] in allowed]
    if not bodies:
        raise UsageError(f"{bank}: no bodies to train on; build a bank first (python -m app bank)")
    return bodies


def _patches(
    bodies: list[Path],
    scans: Sequence[Case],
    phase: PhaseConfig,
    config: TrainingConfig,
    step: int,
    output: Path,
) -> SyntheticPatches | MixedPatches:
    """Give the stream of patches from a step on."""
    synthetic = SyntheticPatches(
        bodies,
        phase,
        patch_shape=config.patch_shape,
        seed=config.seed_from(step),
    )
    if not scans:
        return synthetic
    # One patch of a scan at a time: several would crowd out the synthetic ones of a batch.
    dataset = training_dataset(
        scans,
        phase,
        patch_shape=config.patch_shape,
        patches_per_scan=1,
        cache=output / PREPARED_NAME,
    )
    return MixedPatches(synthetic, dataset, share=config.real_share)


def train(
    phase: PhaseConfig,
    config: TrainingConfig,
    *,
    bank: Path,
    output: Path,
    manifest: Path | None = None,
    real: CaseList | None = None,
    start_from: Path | None = None,
    workers: int = 1,
    scan_on_device: bool = False,
) -> None:
    """Train one phase, or go on with a run that was killed.

    Parameters
    ----------
    phase : PhaseConfig
        What to train.
    config : TrainingConfig
        How.
    bank : Path
        Folder of synthetic bodies, see :mod:`app.synthesis.bank`.
    output : Path
        Folder for ``state.pt``, ``checkpoint.safetensors``, ``training.json`` and the curve.
    manifest : Path, optional
        The anatomies' manifest; with it, every ninth patient is held out.
    real : CaseList, optional
        Scans whose patches come among the synthetic ones, ``config.real_share`` of all.
    start_from : Path, optional
        ``state.pt`` or ``checkpoint.safetensors`` of an earlier stage to begin with.
    workers : int
        Processes that make patches; 0 makes them in between.
    scan_on_device : bool
        Let the device that trains compute the scanner's part of phase two's patches.

    Raises
    ------
    UsageError
        If the bank holds nothing to train on, or ``output`` a run that was begun otherwise.
    WeightsError
        If ``start_from`` or the state in ``output`` belongs to another network.
    """
    bodies = training_bodies(bank, manifest)
    if (output / STATE_NAME).exists():
        check_begun(output, phase, hold_out=manifest is not None)
    scans = real.train if real is not None else ()
    logger.info("training %s on %d bodies, %d scans", phase.name, len(bodies), len(scans))
    torch.manual_seed(config.seed)
    network = build_network(phase)
    objective = make_objective(network, phase.widths, config)
    process = Process(device=this_device())
    trainer = Trainer(network, config, output, objective=objective, process=process)
    resumed = trainer.resume()
    if not resumed and start_from is not None:
        trainer.start_from(start_from)
    # Before the first step, so that a run that is killed has a record too.
    write_record(
        output,
        phase=phase,
        config=config,
        cases=[*(body.stem for body in bodies), *(scan.name for scan in scans)],
        provenance=mixed_provenance(len(scans)) if scans else PROVENANCE,
        terms=f"{LICENSE}; {OWN_TERMS}" if scans else LICENSE,
        start_from=start_from,
        resumed_at=trainer.step if resumed else None,
        hold_out=manifest is not None,
    )
    loading: dict[str, Any] = {
        "batch_size": config.batch_size,
        "num_workers": workers,
        "prefetch_factor": PREFETCHED_BATCHES if workers else None,
        "worker_init_fn": start_worker if workers else None,
    }
    if scan_on_device:
        seed = config.seed_from(trainer.step)
        unscanned = UnscannedPatches(bodies, phase, patch_shape=config.patch_shape, seed=seed)
        loader = DataLoader(unscanned, collate_fn=list, **loading)
        trainer.run(ScannedPatches(loader, phase, process.device))
    else:
        patches = _patches(bodies, scans, phase, config, trainer.step, output)
        trainer.run(DataLoader(patches, **loading))
