"""Train phase two in rounds on label maps that it made: predict, refine, train, and again.

DIR of --data lies as for `train --data`. Each round predicts all scans of its imagesTr with
the weights of the round before, refines with that the label maps of the round before, and
trains those weights on with the result as pseudo-labels. Label maps of labelsTr are never
replaced. What stands behind -- goes to `train`, such as: -- --folds 1 --devices 2

OUTPUT/round_1, round_2 and so on hold predictions, labels, segment (the run of `train`) and
weights, which `predict --weights` takes. The same command goes on where it was interrupted,
and with a higher --rounds adds some. Phase one stays as it is.

Exit code: 0 all rounds done, 1 a step failed, 2 wrong use.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli import train
from app.cli.folders import prepare_folder
from app.cli.numbers import at_least
from app.cli.preview import read_record
from app.cli.refine import RULES
from app.config import DEFAULT_WEIGHTS
from app.errors import InputError, UsageError
from app.manifest import CHECKPOINT_NAME, TRAINING_NAME

if TYPE_CHECKING:
    from app.imaging.geometry import Geometry

HELP = "train in rounds on pseudo-labels: predict, refine, train, and again"

RECORD_NAME = "rounds.json"

_SOME_FAILED = 1  # scans that cannot be predicted are left out, and the others go on

# What of `train` is set here.
_DECIDED = ("phase", "data", "pseudo_labels", "start_from", "steps", "output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="scans and label maps"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for the rounds"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default=DEFAULT_WEIGHTS,
        metavar="DIR",
        help="what to begin with: locate and segment, converted, and the checkpoint of segment "
        "(default: the weights that came with the program)",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="DIR",
        help="pseudo-labels X.nii.gz to begin with (default: the first predictions)",
    )
    parser.add_argument(
        "--rounds", type=at_least(1), default=4, help="how many (default: %(default)s)"
    )
    parser.add_argument(
        "--rule", choices=RULES, default="plausible", help="of `refine` (default: %(default)s)"
    )
    parser.add_argument(
        "--steps",
        type=at_least(1),
        default=3000,
        help="of `train`, each round (default: %(default)s)",
    )
    parser.add_argument(
        "train_options", nargs="*", metavar="-- OPTIONS", help="further options of `train`"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what is left of the rounds."""
    _check(arguments)
    # As Ctrl-C does it: the step under way ends with this process.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    weights, labels = arguments.weights, arguments.labels
    for number in range(1, arguments.rounds + 1):
        folder = arguments.output / f"round_{number}"
        if (folder / "weights").is_dir():
            print(f"round {number}: done before, left alone", flush=True)
        else:
            print(f"round {number} of {arguments.rounds}", flush=True)
            if code := _do_round(folder, weights, labels, arguments):
                return code
        weights, labels = folder / "weights", folder / "labels"
    print(f"the weights of the last round: {weights}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what would fail after hours, and to go on with what was begun otherwise."""
    if not (arguments.weights / "segment" / CHECKPOINT_NAME).is_file():
        raise UsageError(f"--weights {arguments.weights}: no checkpoint of segment in it")
    _check_train_options(arguments)
    _check_begun(arguments)


def _check_begun(arguments: argparse.Namespace) -> None:
    """Write down what the rounds are begun with, or hold what is asked for against it."""
    from app.imaging.io import atomic_path

    given = {"data": arguments.data, "weights": arguments.weights, "labels": arguments.labels}
    asked = {f"--{name}": path and str(path.resolve()) for name, path in given.items()}
    asked["--rule"] = arguments.rule
    path = arguments.output / RECORD_NAME
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        _check_folders(arguments)
        prepare_folder(arguments.output)
        with atomic_path(path) as partial:
            partial.write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
        return
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not the record of rounds ({error}); remove it") from error
    if begun != asked:
        raise UsageError(
            f"{path}: begun with {begun}, now {asked}; give the same to go on, or choose another "
            "--output to begin anew"
        )


def _check_folders(arguments: argparse.Namespace) -> None:
    """Refuse folders that are not as they must be, before any scan is predicted."""
    from app.data.cases import IMAGES, images_in
    from app.imaging.image_files import case_name

    images = images_in(arguments.data / IMAGES, "--data")
    if arguments.labels is not None:
        labels = images_in(arguments.labels, "--labels")
        scans = {case_name(path): path for path in images.values()}
        if not labels.keys() & scans.keys():
            raise UsageError(
                f"--labels {arguments.labels}: no label map is named as a scan of "
                f"{arguments.data / IMAGES} (X.nii.gz for X_0000.nii.gz)"
            )
        for name in sorted(labels.keys() & scans.keys()):
            _check_grid(labels[name], scans[name])


def _check_grid(labels: Path, scan: Path) -> None:
    """Refuse a label map that is not on its scan's grid, by the headers alone."""
    from app.imaging.label_maps import grid_difference

    try:
        expected = _grid(scan)
    except InputError:  # told and left out by `predict`
        return
    if difference := grid_difference(expected, _grid(labels)):
        raise UsageError(f"{labels}: not on the grid of {scan}: {difference}; resample it")


def _grid(path: Path) -> "Geometry":
    from app.imaging.io import peek
    from app.imaging.orientation import lps_geometry

    return lps_geometry(peek(path).geometry)


def _check_train_options(arguments: argparse.Namespace) -> None:
    """Let `train` look at its options, which must not change what the rounds decide."""
    from app.training.config import SCAN_RECIPES

    parser = argparse.ArgumentParser(prog="train (options behind --)")
    train.add_arguments(parser)
    _, *words = _train_words(arguments.output, arguments.weights, arguments)
    plain = vars(parser.parse_args(words[: len(words) - len(arguments.train_options)]))
    asked = parser.parse_args(words)
    for name in _DECIDED:
        if getattr(asked, name) != plain[name]:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} behind --: set by the rounds themselves; leave it out")
    train.check_flags(asked)
    train.settings(asked, SCAN_RECIPES[asked.phase])


def _do_round(
    folder: Path, weights: Path, labels: Path | None, arguments: argparse.Namespace
) -> int:
    """Do what is left of one round; give the exit code."""
    if not (folder / "labels").is_dir() and (code := _label(folder, weights, labels, arguments)):
        return code
    if code := _step(_train_words(folder, weights, arguments)):
        return code
    return _convert(folder, weights)


def _label(folder: Path, weights: Path, labels: Path | None, arguments: argparse.Namespace) -> int:
    """Predict all scans and refine the label maps with that."""
    predictions, draft = folder / "predictions", folder / "labels.part"
    words = ["predict", "--weights", weights, "--input", arguments.data / "imagesTr"]
    code = _step([*words, "--output", predictions, "--confidence", "--resume"])
    if code > _SOME_FAILED or not _has_tried_all(predictions):
        return code or _SOME_FAILED
    if labels is None:
        labels = folder / "no_labels"
        labels.mkdir(exist_ok=True)
    shutil.rmtree(draft, ignore_errors=True)
    words = ["refine", "--labels", labels, "--predictions", predictions, "--output", draft]
    if arguments.rule != "published":
        words += ["--confidence", predictions / "confidence"]
    if code := _step([*words, "--rule", arguments.rule]):
        return code
    draft.rename(folder / "labels")
    return 0


def _has_tried_all(predictions: Path) -> bool:
    """Tell a prediction of all scans, of which some may have failed, from one that broke off."""
    record = read_record(predictions)
    statuses = [entry["status"] for entry in record.get("cases", [])]
    return len(statuses) == record.get("num_cases") and "ok" in statuses


def _train_words(folder: Path, weights: Path, arguments: argparse.Namespace) -> list[str]:
    """Give the command of a round's training."""
    words = ["train", "--phase", "segment", "--data", arguments.data]
    words += ["--pseudo-labels", folder / "labels", "--output", folder / "segment"]
    words += ["--start-from", weights / "segment" / CHECKPOINT_NAME]
    words += ["--steps", str(arguments.steps), *arguments.train_options]
    return [str(word) for word in words]


def _convert(folder: Path, weights: Path) -> int:
    """Put the round's weights together, whole or not at all."""
    trained, draft = folder / "segment", folder / "weights.part"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(weights / "locate", draft / "locate")
    (draft / "segment").mkdir()
    best = trained / "best.safetensors"  # there is none where nothing is held out
    checkpoint = best if best.exists() else trained / CHECKPOINT_NAME
    shutil.copyfile(checkpoint, draft / "segment" / CHECKPOINT_NAME)
    shutil.copyfile(trained / TRAINING_NAME, draft / "segment" / TRAINING_NAME)
    if code := _step(["export", "--weights", draft, "--phase", "segment"]):
        return code
    draft.rename(folder / "weights")
    shutil.rmtree(trained / "prepared", ignore_errors=True)
    return 0


def _step(words: Sequence[str | Path]) -> int:
    """Run a command of this program in a process of its own; give its exit code."""
    command = [str(word) for word in words]
    print(f"$ python -m app {' '.join(command)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "app", *command]).returncode
    if code:
        sys.stderr.write(f"{command[0]}: ended with exit code {code}\n")
    return code if code >= 0 else 128 - code  # as a shell tells of a signal
