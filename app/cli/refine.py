"""Refine label maps with predictions: the pseudo-label step between two rounds of training.

For every X.nii.gz in the folder of --predictions, the label map of the same name is
refined and written to the folder of --output; where there is none yet, the prediction
is taken as it is. A prediction's label map must lie on the grid of the given one; one
without any organ counts as none.

Rules:
  published  an organ is wherever the label map or the prediction has it
  plausible  missing slices are filled, parts that touch their organ join it, parts that
             lie apart or in the wrong place go, left and right are told apart; borders
             stay where the label map has them

--measure breaks true label maps on purpose and prints how well each rule repairs them.
--learn measures where organs lie to each other, for the plausible rule.
`python -m app rounds` runs whole rounds of it. Exit code: 0 all done, 1 some failed, 2 wrong use.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from app.cli.folders import prepare_folder
from app.cli.numbers import at_least, positive_number
from app.errors import CascadeError, UsageError

HELP = "refine label maps with predictions (pseudo-labels)"

RULES = ("published", "plausible")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("--labels", type=Path, metavar="DIR", help="label maps to refine")
    parser.add_argument(
        "--predictions", type=Path, metavar="DIR", help="predictions for the same scans"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where refined ones go")
    parser.add_argument("--rule", choices=RULES, default="plausible", help="(default: %(default)s)")
    parser.add_argument(
        "--confidence",
        type=Path,
        metavar="DIR",
        help="the predictions' probabilities, 0 to 100, for the plausible rule",
    )
    trial = parser.add_argument_group("instead of refining")
    trial.add_argument(
        "--measure", type=Path, metavar="DIR", help="true label maps to break and repair"
    )
    trial.add_argument(
        "--learn", type=Path, metavar="DIR", help="label maps to learn the organs' places from"
    )
    trial.add_argument(
        "--hold-out",
        type=Path,
        metavar="FILE",
        help="the anatomies' manifest.json; every ninth patient is measured, others learnt from",
    )
    trial.add_argument("--count", type=at_least(1), help="measure only so many label maps")
    trial.add_argument(
        "--spacing",
        type=positive_number,
        default=1.5,
        help="grid to measure on, in mm (default: 1.5)",
    )
    trial.add_argument("--seed", type=at_least(0), default=0, help="start of the random faults")


def run(arguments: argparse.Namespace) -> int:
    """Refine, measure or learn."""
    if arguments.measure is not None:
        return _measure(arguments)
    if arguments.learn is not None:
        return _learn(arguments)
    if None in (arguments.labels, arguments.predictions, arguments.output):
        raise UsageError("--labels, --predictions and --output belong together; see --help")
    return _refine(arguments)


def _refine(arguments: argparse.Namespace) -> int:
    from app.data.refinement import refine_folder

    prepare_folder(arguments.output)
    num_failed = 0
    outcomes = refine_folder(
        arguments.labels,
        arguments.predictions,
        arguments.output,
        rule=arguments.rule,
        confidence=arguments.confidence,
    )
    for outcome in outcomes:
        if outcome.problem:
            num_failed += 1
            sys.stderr.write(f"{outcome.name}: {outcome.problem}\n")
        elif outcome.note:
            sys.stderr.write(f"{outcome.name}: {outcome.note}\n")
        else:
            print(f"{outcome.name}: {outcome.changed:.1%} of the labeled voxels changed")
    return 1 if num_failed else 0


def _measure(arguments: argparse.Namespace) -> int:
    from app.data.positions import read_positions
    from app.training.refinement_trial import as_table, run_trials

    found = _label_maps("--measure", arguments.measure, arguments.hold_out, held_out=True)
    paths = found[: arguments.count]
    positions, trials, num_failed = read_positions(), [], 0
    for number, path in enumerate(paths):
        seed = (arguments.seed, number)
        try:
            for trial in run_trials(path, positions, spacing_mm=arguments.spacing, seed=seed):
                trials.append(trial)
                scores = "  ".join(f"{rule} {score:.4f}" for rule, score in trial.dice.items())
                print(f"{trial.case}  {trial.kind}:  {scores}", flush=True)
        except CascadeError as error:
            num_failed += 1
            sys.stderr.write(f"{error}\n")
    if trials:
        print(
            f"\nMean Dice over {len(paths) - num_failed} label maps (worst in brackets), "
            f"{arguments.spacing} mm:\n"
        )
        print(as_table(trials))
    return 1 if num_failed else 0


def _learn(arguments: argparse.Namespace) -> int:
    from app.data.positions import TABLE, learn_positions, write_positions
    from app.training.refinement_trial import read_labels

    paths = _label_maps("--learn", arguments.learn, arguments.hold_out, held_out=False)
    positions = learn_positions(read_labels(path, arguments.spacing) for path in paths)
    write_positions(positions, TABLE)
    print(f"learnt from {len(paths)} label maps: {TABLE}")
    return 0


def _label_maps(
    flag: str, folder: Path, manifest: Path | None, *, held_out: bool
) -> Sequence[Path]:
    """List the label maps of one side of the split; all of them without a manifest."""
    from app.data.splits import split_anatomies
    from app.imaging.image_files import images_by_name

    found = images_by_name(folder, flag)
    if manifest is not None:
        split = split_anatomies(manifest)
        wanted = set(split.held_out if held_out else split.train)
        found = {name: path for name, path in found.items() if name in wanted}
    if not found:
        raise UsageError(f"{flag} {folder}: no label maps in it")
    return list(found.values())
