"""Every error this package raises on purpose.

::

    CascadeError                    base; catching it catches all of the below
    ├── UsageError                  the command line asks for something that cannot be done
    ├── InputError                  something is wrong with a file that came in
    │   ├── UnreadableScanError     missing, truncated, not an image
    │   └── UnsupportedScanError    readable, but not one 3-D CT scan
    ├── EmptyRegionError            a mask that must hold foreground holds none
    ├── OutputError                 a result cannot be written
    ├── MemoryLimitError            the scan does not fit the memory cap
    ├── ScoresError                 a network gave scores of a scan that are no numbers
    ├── TrainingError               a training run comes to nothing
    └── WeightsError                a weights folder is missing, changed or inconsistent
        └── ParityError             a converted network differs from its checkpoint

A message names the file or argument, says what was found, and says what to do.
"""


class CascadeError(Exception):
    """Base of all errors raised on purpose by this package."""


class UsageError(CascadeError):
    """The command line asks for something that cannot be done."""


class InputError(CascadeError):
    """Something is wrong with a file that came in."""


class UnreadableScanError(InputError):
    """The file is missing, truncated or not an image."""


class UnsupportedScanError(InputError):
    """The file is an image, but not one three-dimensional CT scan."""


class EmptyRegionError(CascadeError):
    """A mask that must hold foreground holds none."""


class OutputError(CascadeError):
    """A result cannot be written."""


class MemoryLimitError(CascadeError):
    """The scan does not fit the memory cap."""


class ScoresError(CascadeError):
    """A network gave scores of a scan that are no numbers."""


class TrainingError(CascadeError):
    """A training run comes to nothing."""


class WeightsError(CascadeError):
    """A weights folder is missing, changed or inconsistent."""


class ParityError(WeightsError):
    """A converted network differs from the checkpoint it was made from."""
