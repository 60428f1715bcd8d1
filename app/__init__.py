"""Abdominal CT organ segmentation on a plain CPU: a two-phase cascade behind one command.

``from app import segment`` is the same from Python; see :mod:`app.api`. Importing this
package loads nothing until one of its names is asked for.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.api import Segmentation, Segmenter, segment

__version__ = "0.1.0"
__all__ = ["Segmentation", "Segmenter", "__version__", "segment"]


def __getattr__(name: str) -> object:
    if name in ("Segmentation", "Segmenter", "segment"):
        return getattr(importlib.import_module("app.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
