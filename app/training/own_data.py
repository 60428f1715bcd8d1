"""A training run on a user's own scans: a folder in, weights and their record out."""

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from app.config import PhaseConfig
from app.data.case_list import CASES_NAME, CaseList
from app.data.dataset import batches, held_out_dataset, training_dataset
from app.errors import UsageError
from app.models.build import build_network
from app.training.board import Board
from app.training.config import TrainingConfig
from app.training.loop import STATE_NAME, Trainer
from app.training.objective import make_objective
from app.training.own_cases import OWN_TERMS, PREPARED_NAME
from app.training.processes import Process
from app.training.record import UNKNOWN, add_resume, commit, write_json, write_record
from app.training.validation import VALIDATION_NAME, Validator

logger = logging.getLogger(__name__)

RUN_NAME = "run.json"
EVENTS_NAME = "events"


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
        From :func:`app.training.own_cases.settle_cases`.
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
    if process.is_first and (output / STATE_NAME).exists():
        _check_same_run(output / RUN_NAME, phase)
    torch.manual_seed(config.seed)
    network = build_network(phase)
    if process.size > 1 and process.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    trainer = Trainer(
        network,
        config,
        output,
        objective=make_objective(network, phase.widths, config),
        process=process,
    )
    resumed = trainer.resume()
    if not resumed and start_from is not None:
        trainer.start_from(start_from)
    if process.is_first:
        _write_run(
            output,
            phase,
            config,
            cases,
            process,
            start_from=start_from,
            resumed_at=trainer.step if resumed else None,
        )
    board = Board(output / EVENTS_NAME, after=trainer.step) if process.is_first else None
    validator = None
    if board is not None and cases.held_out:
        examples = held_out_dataset(cases.held_out, phase, cache=output / PREPARED_NAME)
        validator = Validator(
            examples,
            phase,
            output,
            device=process.device,
            mixed_precision=config.mixed_precision,
            board=board,
        )
        validator.forget_after(trainer.step)
        if resumed and trainer.is_validation_due() and not validator.has_scored(trainer.step):
            # Killed after the state was saved and before it was validated.
            validator(trainer.average.module, trainer.step)
    drawn: Iterable[tuple[Tensor, ...]] = ()
    if trainer.step < config.steps:
        drawn = _draw(cases, phase, config, trainer.step, output, workers, process)
    trainer.run(drawn, validate=validator, board=board)
    if board is not None:
        board.close()
        logger.info("done; scores are in %s", output / VALIDATION_NAME)


def _draw(
    cases: CaseList,
    phase: PhaseConfig,
    config: TrainingConfig,
    step: int,
    output: Path,
    workers: int,
    process: Process,
) -> Iterator[tuple[Tensor, ...]]:
    """Give this process's batches from a step on."""
    patches_per_scan = config.patches_per_scan if phase.name == "segment" else 1
    dataset = training_dataset(
        cases.train,
        phase,
        patch_shape=config.patch_shape,
        patches_per_scan=patches_per_scan,
        cache=output / PREPARED_NAME,
        processes=process.size,
    )
    return batches(
        dataset,
        scans_per_batch=config.batch_size // patches_per_scan,
        seed=config.seed_from(step),
        workers=workers,
        rank=process.rank,
        world_size=process.size,
    )


def _check_same_run(path: Path, phase: PhaseConfig) -> None:
    """Refuse to go on with a run of another network."""
    if not path.exists():
        return
    begun = json.loads(path.read_text(encoding="utf-8"))["phase"]
    if begun != json.loads(json.dumps(asdict(phase))):
        raise UsageError(f"{path}: begun with another grid or network; choose another --output")


def _write_run(
    output: Path,
    phase: PhaseConfig,
    config: TrainingConfig,
    cases: CaseList,
    process: Process,
    *,
    start_from: Path | None,
    resumed_at: int | None,
) -> None:
    """Write down what the run is before it starts, and the record its weights travel with.

    What the first start has written stays; a run that goes on otherwise adds how.
    """
    path = output / RUN_NAME
    if resumed_at is not None and path.exists():
        run = json.loads(path.read_text(encoding="utf-8"))
    else:
        run = {
            "phase": asdict(phase),
            "training": json.loads(json.dumps(asdict(config))),
            "seed": config.seed,
            "commit": commit() if resumed_at is None else UNKNOWN,
            "processes": process.size,
            "device": str(process.device),
            "start_from": str(start_from) if start_from else None,
            "cases": CASES_NAME,
        }
    if resumed_at is not None:
        add_resume(run, run["training"], config, resumed_at)
    write_json(run, path)
    write_record(
        output,
        phase=phase,
        config=config,
        cases=[case.name for case in cases.train],
        provenance=f"Trained on {len(cases.train)} scans of a user's own; see the list of cases.",
        terms=OWN_TERMS,
        start_from=start_from,
        resumed_at=resumed_at,
    )
