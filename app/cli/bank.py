"""Build the bodies that training draws from."""

import argparse
from pathlib import Path

from app.cli.numbers import at_least

HELP = "build complete bodies around organ label maps, for training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument(
        "--anatomies",
        type=Path,
        required=True,
        metavar="DIR",
        help="organ label maps (values 0 to 13, 1.5 mm), of any type that is read",
    )
    parser.add_argument(
        "--bodies",
        type=Path,
        required=True,
        metavar="DIR",
        help="whole bodies with 117 tissues, and tissues.json",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the bank")
    parser.add_argument("--limit", type=at_least(1), help="only so many anatomies")
    parser.add_argument("--variants", type=at_least(1), default=1, help="bodies for each anatomy")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="the same seed gives the same bank"
    )
    parser.add_argument("--processes", type=at_least(1), default=1, help="bodies built at a time")
    parser.add_argument("--overwrite", action="store_true", help="build again what is there")


def run(arguments: argparse.Namespace) -> int:
    """Build the bank, a line a body."""
    from app.synthesis.bank import build_bank

    files = build_bank(
        arguments.anatomies,
        arguments.bodies,
        arguments.output,
        seed=arguments.seed,
        variants=arguments.variants,
        limit=arguments.limit,
        processes=arguments.processes,
        overwrite=arguments.overwrite,
    )
    for count, file in enumerate(files, start=1):
        print(f"{count:4d} {file.name}", flush=True)
    return 0
