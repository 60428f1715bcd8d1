"""A training run on a user's own scans: a folder in, weights and their record out."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from app.config import PhaseConfig
from app.data.cases import (
    CASES_NAME,
    CaseList,
    Refusal,
    find_cases,
    read_cases,
    split_cases,
    write_cases,
)
from app.data.dataset import batches, held_out_dataset, training_dataset
from app.errors import UsageError
from app.imaging.io import atomic_path
from app.models.build import build_network
from app.training.board import Board
from app.training.config import TrainingConfig
from app.training.loop import Trainer
from app.training.objective import make_objective
from app.training.processes import Process
from app.training.record import commit, stages_of, write_record
from app.training.validation import VALIDATION_NAME, Validator

logger = logging.getLogger(__name__)

RUN_NAME = "run.json"
EVENTS_NAME = "events"
PREPARED_NAME = "prepared"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnData:
    """What is trained on.

    Parameters
    ----------
    folder : Path
        In the FLARE layout, see :mod:`app.data.cases`.
    pseudo_labels : Path, optional
        Label maps for scans without one.
    labeled_organs : tuple of str, optional
        Organs labeled in every case.
    fold, num_folds : int
        Which part is held out of how many.
    """

    folder: Path
    pseudo_labels: Path | None = None
    labeled_organs: tuple[str, ...] | None = None
    fold: int = 0
    num_folds: int = 5


def settle_cases(data: OwnData, phase: PhaseConfig, output: Path) -> CaseList:
    """Find the cases of a run and write them down; a run that goes on keeps what it had.

    Parameters
    ----------
    data : OwnData
        Where to look.
    phase : PhaseConfig
        Phase one learns where any organ is, so it refuses cases with organs not labeled.
    output : Path
        Folder of the run, for ``data.json``.

    Returns
    -------
    CaseList

    Raises
    ------
    UsageError
        If there is nothing to train on.
    """
    written = output / CASES_NAME
    if written.exists():
        return read_cases(written)
    cases, refused = find_cases(
        data.folder, pseudo_labels=data.pseudo_labels, labeled_organs=data.labeled_organs
    )
    if phase.name == "locate":
        partial = [case for case in cases if not case.labeled.all()]
        cases = [case for case in cases if case.labeled.all()]
        refused += [
            Refusal(case.labels_path, "phase one needs all 13 organs labeled") for case in partial
        ]
    found = split_cases(cases, refused, fold=data.fold, num_folds=data.num_folds)
    output.mkdir(parents=True, exist_ok=True)
    write_cases(found, written)
    return found


def train_on_scans(
    phase: PhaseConfig,
    config: TrainingConfig,
    *,
    cases: CaseList,
    output: Path,
    start_from: Path | None = None,
    workers: int = 1,
    process: Process,
) -> None:
    """Train one phase on scans, or go on with a run that was killed.

    Parameters
    ----------
    phase : PhaseConfig
        What to train.
    config : TrainingConfig
        How; ``batch_size`` is that of each process.
    cases : CaseList
        From :func:`settle_cases`.
    output : Path
        Folder for all that the run leaves.
    start_from : Path, optional
        ``state.pt`` or ``.safetensors`` of an earlier stage to begin with.
    workers : int
        Processes that make patches, for each training process.
    process : Process
        Which one of the training processes this is.

    Raises
    ------
    UsageError
        If ``output`` holds a run on another grid or with another network.
    WeightsError
        If ``start_from`` or the state in ``output`` belongs to another network.
    """
    if process.is_first:
        _write_run(output, phase, config, cases, process, start_from)
    torch.manual_seed(config.seed)
    network = build_network(phase)
    if process.size > 1 and process.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    board = Board(output / EVENTS_NAME) if process.is_first else None
    trainer = Trainer(
        network,
        config,
        output,
        objective=make_objective(network, phase.widths, config.loss_stride),
        process=process,
        board=board,
    )
    if not trainer.resume() and start_from is not None:
        trainer.start_from(start_from)
    patches_per_scan = config.patches_per_scan if phase.name == "segment" else 1
    dataset = training_dataset(
        cases.train,
        phase,
        patch_shape=config.patch_shape,
        patches_per_scan=patches_per_scan,
        cache=output / PREPARED_NAME,
        processes=process.size,
    )
    drawn = batches(
        dataset,
        scans_per_batch=config.batch_size // patches_per_scan,
        # A resumed run goes on with patches it has not seen yet.
        seed=config.seed + 1_000_003 * trainer.step,
        workers=workers,
        rank=process.rank,
        world_size=process.size,
    )
    validator = None
    if board is not None and cases.held_out:
        examples = held_out_dataset(cases.held_out, phase, cache=output / PREPARED_NAME)
        validator = Validator(examples, phase, output, device=process.device, board=board)
    trainer.run(drawn, validate=validator)
    if board is not None:
        board.close()
        logger.info("done; scores are in %s", output / VALIDATION_NAME)


def _write_run(
    output: Path,
    phase: PhaseConfig,
    config: TrainingConfig,
    cases: CaseList,
    process: Process,
    start_from: Path | None,
) -> None:
    """Write down what the run is before it starts, and the record its weights travel with."""
    run = {
        "phase": asdict(phase),
        "training": asdict(config),
        "seed": config.seed,
        "commit": commit(),
        "processes": process.size,
        "device": str(process.device),
        "start_from": str(start_from) if start_from else None,
        "cases": CASES_NAME,
    }
    output.mkdir(parents=True, exist_ok=True)
    path = output / RUN_NAME
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))["phase"]
        if begun != json.loads(json.dumps(run["phase"])):
            raise UsageError(f"{path}: begun with another grid or network; choose another --output")
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    earlier = stages_of(start_from.parent) if start_from is not None else []
    write_record(
        output,
        phase=phase,
        stages=[*earlier, asdict(config)],
        cases=[case.name for case in cases.train],
        provenance=f"Trained on {len(cases.train)} scans of a user's own; see the list of cases.",
        terms="not stated: that of the scans and label maps trained on decides",
    )
