"""Find the command, set up logging, turn errors into exit codes.

A command is a module of this package, listed in :data:`COMMANDS`, that holds
``HELP``, ``add_arguments(parser)`` and ``run(arguments) -> int``. Modules import
the room they work with inside ``run`` only, so that no command pays for another.
"""

import argparse
import importlib
import importlib.util
import logging
import sys
from collections.abc import Sequence

from app import __version__
from app.cli.console import guarded_streams
from app.errors import CascadeError

logger = logging.getLogger(__name__)

COMMANDS = (
    "predict",
    "preview",
    "statistics",
    "convert",
    "synthesize",
    "info",
    "export",
    "bank",
    "train",
    "refine",
    "rounds",
    "norms",
    "evaluate",
    "benchmark",
)
"""Commands, each in the module of its name, in the order of the help text."""

EXIT_USAGE = 2
EXIT_UNTOLD = 3

WELCOME = """\
Finds 13 abdominal organs in CT scans, on a plain computer. Not for clinical use.

Start here: put scans (NIfTI, MetaImage, NRRD, or DICOM folders) into a folder and run

  python -m app predict --input SCANS --output LABELS --preview

Each scan becomes a label map; then open LABELS/report.html in a browser.

  python -m app info              what is installed, and what the networks are
  python -m app --help            all commands
  python -m app COMMAND --help    one of them
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``python -m app``; by default the process's own.

    Returns
    -------
    int
        Exit code: 0 all good, 1 some case failed, 2 wrong use, 3 all good, but standard
        output could not be written (a full disk; a reader that went away is none).
    """
    with guarded_streams() as console:
        code = _run(arguments)
    return EXIT_UNTOLD if code == 0 and console.is_lost else code


def _run(arguments: Sequence[str] | None) -> int:
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        sys.stderr.write(WELCOME)
        return EXIT_USAGE
    set_up_logging(parsed.verbose)
    try:
        return int(parsed.run(parsed))
    except CascadeError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"error: the command {parsed.command!r} needs the package {error.name!r}, "
            "which is not installed here; see the README on setting up for development\n"
        )
        return EXIT_USAGE
    except OSError as error:
        if error.filename is None:
            raise
        # No step expected it, and --verbose tells which one it was.
        logger.debug("%s", error, exc_info=True)
        sys.stderr.write(
            f"error: {error.filename}: cannot be used ({error.strerror}); allow using it and "
            "entering its folders, or name another\n"
        )
        return EXIT_USAGE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Segment 13 abdominal organs in CT scans on a plain CPU. Not for clinical use.",
        epilog="Start with: python -m app predict --input SCANS --output LABELS. "
        "'python -m app COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    # Accepted after the command as well, where people look for it.
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v", "--verbose", action="store_true", help="log every step and the shapes in it"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in COMMANDS:
        # The container ships only the commands that need no more than it holds.
        if importlib.util.find_spec(f"app.cli.{name}") is None:
            continue
        module = importlib.import_module(f"app.cli.{name}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def set_up_logging(verbose: bool) -> None:
    """Let warnings, or all that happens, go to the standard error stream."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
        force=True,
    )
