"""Train one phase on synthetic scans."""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

HELP = "train one phase on scans synthesized from a bank of bodies"


def _three_sizes(text: str) -> tuple[int, int, int]:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected three sizes such as 64x64x64, got {text!r}")
    z, y, x = (int(part) for part in parts)
    return (z, y, x)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("--phase", choices=("locate", "segment"), required=True)
    parser.add_argument(
        "--bank", type=Path, required=True, metavar="DIR", help="bodies, from `python -m app bank`"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="where state, weights and curve go; a run begun there before goes on",
    )
    parser.add_argument(
        "--hold-out",
        type=Path,
        metavar="FILE",
        help="the anatomies' manifest.json; every ninth patient is then left out",
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="FILE",
        help="state.pt or checkpoint.safetensors of an earlier stage",
    )
    parser.add_argument("--steps", type=int, help="optimizer steps (default: the recipe's)")
    parser.add_argument(
        "--patch", type=_three_sizes, metavar="ZxYxX", help="size of the patches, in voxels"
    )
    parser.add_argument("--batch", type=int, help="patches a step")
    parser.add_argument("--learning-rate", type=float, help="peak of the schedule")
    parser.add_argument("--seed", type=int, help="start of all random streams")
    parser.add_argument("--workers", type=int, default=1, help="processes that make patches")


def run(arguments: argparse.Namespace) -> int:
    """Train to the end of the stage."""
    from app.config import LOCATE, SEGMENT
    from app.training.config import RECIPES
    from app.training.run import train

    logging.getLogger("app.training").setLevel(logging.INFO)  # a run of hours must not be mute
    given = {
        "steps": arguments.steps,
        "patch_shape": arguments.patch,
        "batch_size": arguments.batch,
        "learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    train(
        {"locate": LOCATE, "segment": SEGMENT}[arguments.phase],
        replace(RECIPES[arguments.phase], **changes),
        bank=arguments.bank,
        output=arguments.output,
        manifest=arguments.hold_out,
        start_from=arguments.start_from,
        workers=arguments.workers,
    )
    return 0
