"""Numbers of options, which the parser refuses where they are out of their range."""

import argparse
import math
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """Give what takes a whole number from an option, for ``type`` of an argument.

    Parameters
    ----------
    least : int
        Smaller ones are refused.
    """

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value}: at least {least} expected")
        return value

    return number


def positive_number(text: str) -> float:
    """Take a number above 0 from an option; infinite ones are none."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text}: a number above 0 expected")
    return value
