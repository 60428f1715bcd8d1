"""Train one phase, on scans synthesized from a bank of bodies or on scans of your own.

With --bank, patches are synthesized from the bodies that `python -m app bank` has built; with
--real as well, some are taken from real scans, which lie as those of --data do.
With --data, DIR lies as the FLARE challenge's data does: imagesTr/X_0000.nii.gz and
labelsTr/X.nii.gz; docs/TRAINING.md tells the rest. A run that was killed goes on when
it is started again with the same words.

FILE of --config is JSON or TOML with the tables "phase" (fields of app/config.py's
PhaseConfig, such as spacing_mm) and "training" (of app/training/config.py's
TrainingConfig, but for patch_shape, which --data takes from "phase"). Flags win over the
file.
"""

import argparse
import contextlib
import json
import logging
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from app.cli.folders import prepare_folder, sole_writer
from app.cli.numbers import at_least, positive_number
from app.errors import UsageError

if TYPE_CHECKING:
    from app.config import PhaseConfig
    from app.data.case_list import CaseList
    from app.training.config import TrainingConfig
    from app.training.processes import Process

Settings = TypeVar("Settings", "PhaseConfig", "TrainingConfig")

HELP = "train one phase on synthesized scans or on your own"

# Flags of scans from disk, and what stands for one that was not given.
_WITH_DATA = {"fold": 0, "folds": 5, "validate_every": None, "devices": 1}
_WITH_SCANS = ("pseudo_labels", "labeled_organs")

# Fields of PhaseConfig that code decides, not a file of settings.
_FIXED = {"name", "class_names", "patch_divisor", "preprocessing_version"}


def _three_sizes(text: str) -> tuple[int, int, int]:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected three sizes such as 64x64x64, got {text!r}")
    z, y, x = (int(part) for part in parts)
    return (z, y, x)


def _three_steps(text: str) -> tuple[float, float, float]:
    try:
        z, y, x = (positive_number(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected three spacings such as 2x1.5x1.5, got {text!r}"
        ) from error
    return (z, y, x)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("--phase", choices=("locate", "segment"), required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--bank", type=Path, metavar="DIR", help="bodies, from `python -m app bank`"
    )
    source.add_argument(
        "--data", type=Path, metavar="DIR", help="scans and label maps in the FLARE layout"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="where state, weights and curve go; a run begun there before goes on",
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="FILE",
        help="state.pt or checkpoint.safetensors of an earlier stage",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="JSON or TOML; see above")
    parser.add_argument("--steps", type=at_least(1), help="optimizer steps (default: the recipe's)")
    parser.add_argument(
        "--spacing",
        type=_three_steps,
        metavar="ZxYxX",
        help="grid that the phase works on, in mm (default: the phase's)",
    )
    parser.add_argument(
        "--patch",
        type=_three_sizes,
        metavar="ZxYxX",
        help="size of the patches, in voxels; with --data that in use as well",
    )
    parser.add_argument("--batch", type=at_least(1), help="patches a step, on each device")
    parser.add_argument("--learning-rate", type=positive_number, help="peak of the schedule")
    parser.add_argument("--seed", type=at_least(0), help="start of all random streams")
    parser.add_argument(
        "--workers", type=at_least(0), default=1, help="processes that make patches"
    )
    bank = parser.add_argument_group("with --bank")
    bank.add_argument(
        "--hold-out",
        type=Path,
        metavar="FILE",
        help="the anatomies' manifest.json; every ninth patient is then left out",
    )
    bank.add_argument(
        "--real",
        type=Path,
        metavar="DIR",
        help="scans and label maps, laid out as for --data, for a share of the patches "
        "(real_share of --config)",
    )
    bank.add_argument(
        "--scan-on-device",
        action="store_true",
        help="let the device that trains, such as a GPU, compute blur, noise and resampling of "
        "phase two's patches, a third of what they cost; not with --real",
    )
    labeled = parser.add_argument_group("with --data or --real")
    labeled.add_argument(
        "--pseudo-labels",
        type=Path,
        metavar="DIR",
        help="label maps X.nii.gz of all organs, for scans and organs without one in labelsTr",
    )
    labeled.add_argument(
        "--labeled-organs",
        type=lambda text: tuple(text.split(",")),
        metavar="NAME[,NAME...]",
        help="organs labeled in labelsTr, where not all 13 were (default: as dataset.json says)",
    )
    data = parser.add_argument_group("with --data")
    data.add_argument("--fold", type=at_least(0), help="part to hold out (default: %(default)s)")
    data.add_argument(
        "--folds",
        type=at_least(1),
        help="number of parts; 1 holds nothing out (default: %(default)s)",
    )
    data.add_argument("--validate-every", type=at_least(0), help="steps between validations")
    data.add_argument(
        "--devices", type=at_least(1), help="processes, one for each GPU (default: %(default)s)"
    )
    parser.set_defaults(**_WITH_DATA)


def run(arguments: argparse.Namespace) -> int:
    """Train to the end of the stage."""
    check_flags(arguments)
    _check_start(arguments)
    _let_training_speak()
    if arguments.bank is not None:
        _train_on_bank(arguments)
    else:
        _train_on_data(arguments)
    return 0


def check_flags(arguments: argparse.Namespace) -> None:
    """Refuse flags that would be ignored beside the others.

    Parameters
    ----------
    arguments : Namespace
        As described by :func:`add_arguments`.

    Raises
    ------
    UsageError
        Naming the flag, and what it belongs to.
    """
    given = vars(arguments)
    if arguments.bank is None:
        wrong = {
            "real": "--bank; lay those scans into the folder of --data",
            "hold_out": "--bank; --fold and --folds hold scans out",
            "scan_on_device": "--bank; other scans are scanned already",
        }
    else:
        wrong = dict.fromkeys(_WITH_DATA, "--data; leave it out")
        if arguments.real is None:
            wrong |= dict.fromkeys(_WITH_SCANS, "--data or --real; leave it out")
    for name, belongs in wrong.items():
        value = given[name]
        if value is not False and value != _WITH_DATA.get(name):
            shown = ",".join(value) if isinstance(value, tuple) else value
            told = f"--{name.replace('_', '-')}" + ("" if value is True else f" {shown}")
            raise UsageError(f"{told}: only with {belongs}")
    if arguments.scan_on_device and (arguments.phase != "segment" or arguments.real is not None):
        raise UsageError("--scan-on-device: only with --phase segment, and without --real")


def _check_start(arguments: argparse.Namespace) -> None:
    """Refuse a start that is missing before all scans are read; a run that goes on needs none."""
    from app.training.loop import STATE_NAME

    start = arguments.start_from
    if start is None or start.is_file() or (arguments.output / STATE_NAME).exists():
        return
    raise UsageError(f"--start-from {start}: no such file; give a state.pt or .safetensors")


def _let_training_speak() -> None:
    """Log what training does: a run of hours must not be mute."""
    logging.getLogger("app.training").setLevel(logging.INFO)


def _train_on_bank(arguments: argparse.Namespace) -> None:
    from app.training.config import RECIPES
    from app.training.machine import keep_freed_memory
    from app.training.own_cases import OwnData, settle_mixture
    from app.training.run import train

    keep_freed_memory()
    phase, config = settings(arguments, RECIPES[arguments.phase])
    replace(phase, patch_shape=config.patch_shape)  # refuses one that the network cannot take
    prepare_folder(arguments.output)
    data = None
    if arguments.real is not None:
        data = OwnData(
            folder=arguments.real,
            pseudo_labels=arguments.pseudo_labels,
            labeled_organs=arguments.labeled_organs,
            num_folds=1,
            flag="--real",
        )
    with sole_writer(arguments.output):
        real = settle_mixture(data, phase, arguments.output)
        if real is not None:
            _tell(real)
        train(
            phase,
            config,
            bank=arguments.bank,
            output=arguments.output,
            manifest=arguments.hold_out,
            real=real,
            start_from=arguments.start_from,
            workers=arguments.workers,
            scan_on_device=arguments.scan_on_device,
        )


def _train_on_data(arguments: argparse.Namespace) -> None:
    from app.training.config import SCAN_RECIPES
    from app.training.own_cases import OwnData, settle_cases
    from app.training.processes import launched_rank, run_on_devices

    phase, config = settings(arguments, SCAN_RECIPES[arguments.phase])
    if arguments.patch is not None:
        phase = replace(phase, patch_shape=arguments.patch)
    # Patches are as large in use as they were in training: instance norms depend on the size.
    config = replace(config, patch_shape=phase.patch_shape)
    prepare_folder(arguments.output)
    data = OwnData(
        folder=arguments.data,
        pseudo_labels=arguments.pseudo_labels,
        labeled_organs=arguments.labeled_organs,
        fold=arguments.fold,
        num_folds=arguments.folds,
    )
    # Of the processes that torchrun starts, the first writes the files.
    is_first = launched_rank() == 0
    with sole_writer(arguments.output) if is_first else contextlib.nullcontext():
        cases = settle_cases(data, phase, arguments.output)
        _tell(cases)
        run_on_devices(
            _train_in_process,
            arguments.devices,
            verbose=arguments.verbose,
            phase=phase,
            config=config,
            cases=cases,
            output=arguments.output,
            start_from=arguments.start_from,
            workers=arguments.workers,
        )


def _tell(cases: "CaseList") -> None:
    """Print which scans are used, which are not, and what the reader noticed."""
    print(
        f"{len(cases.train)} cases to train on, {len(cases.held_out)} held out, "
        f"{len(cases.refused)} files refused"
    )
    for refusal in cases.refused:
        print(f"refused {refusal.path}: {refusal.reason}")
    for case in (*cases.train, *cases.held_out):
        for note in case.notes:
            print(f"note on {case.scan_path}: {note}")


def _train_in_process(*, process: "Process", verbose: bool, **arguments: Any) -> None:
    """Train in one of several processes, which knows nothing of how the first logs."""
    from app.cli.main import set_up_logging
    from app.training.machine import keep_freed_memory
    from app.training.own_data import train_on_scans

    keep_freed_memory()
    if process.size > 1:
        set_up_logging(verbose)
        _let_training_speak()
    train_on_scans(process=process, **arguments)


def settings(
    arguments: argparse.Namespace, recipe: "TrainingConfig"
) -> "tuple[PhaseConfig, TrainingConfig]":
    """Merge defaults, file and flags.

    Parameters
    ----------
    arguments : Namespace
        As described by :func:`add_arguments`.
    recipe : TrainingConfig
        What is not given.

    Returns
    -------
    PhaseConfig, TrainingConfig

    Raises
    ------
    UsageError
        If the file cannot be read, or a setting is not known or out of its range.
    """
    from app.config import LOCATE, SEGMENT

    phase = {"locate": LOCATE, "segment": SEGMENT}[arguments.phase]
    if arguments.config is not None:
        tables = _read_tables(arguments.config)
        phase = _override(phase, tables.get("phase", {}), arguments.config)
        recipe = _override(recipe, tables.get("training", {}), arguments.config)
    if arguments.spacing is not None:
        phase = replace(phase, spacing_mm=arguments.spacing)
    given = {
        "steps": arguments.steps,
        "patch_shape": arguments.patch,
        "batch_size": arguments.batch,
        "learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
        "validate_every": arguments.validate_every,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    return phase, replace(recipe, **changes)


def _read_tables(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise UsageError(f"--config {path}: not readable as JSON or TOML ({error})") from error
    are_tables = isinstance(tables, dict) and all(isinstance(t, dict) for t in tables.values())
    if not are_tables or set(tables) - {"phase", "training"}:
        raise UsageError(f'--config {path}: only the tables "phase" and "training" are known')
    return tables


def _override(settings: Settings, table: Mapping[str, Any], path: Path) -> Settings:
    """Change the fields that a file names; it knows no tuples, where they know no lists."""
    unknown = set(table) - ({field.name for field in fields(settings)} - _FIXED)
    if unknown:
        raise UsageError(f"--config {path}: unknown fields {sorted(unknown)}")
    for name, value in table.items():
        present = getattr(settings, name)
        if not _is_like(value, present):
            like = list(present) if isinstance(present, tuple) else present
            raise UsageError(f"--config {path}: {name} = {value!r}, the like of {like!r} expected")
    changes: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in table.items()
    }
    return replace(settings, **changes)


def _is_like(value: object, present: object) -> bool:
    """Tell whether a value of a file is of the type of the one that it replaces."""
    if isinstance(present, tuple):
        return (
            isinstance(value, list)
            and len(value) == len(present)
            and all(map(_is_like, value, present))
        )
    if isinstance(present, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(present)
