"""Abdominal CT organ segmentation on a plain CPU: a two-phase cascade behind one command."""

__version__ = "0.1.0"
