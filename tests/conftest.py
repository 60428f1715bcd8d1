"""Fixtures that tests of several rooms use."""

import numpy as np
import pytest
from hypothesis import settings
from stand_ins import (
    BRIGHT_HU,
    BRIGHT_ORGAN,
    DARK_HU,
    DARK_ORGAN,
    SMALL_LOCATE,
    SMALL_SEGMENT,
    TISSUE_HU,
    ball,
    locator_graph,
    segmenter_graph,
    write_weights,
)

# How long an example takes says nothing on a machine that has other work to do.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def stand_in_weights(tmp_path_factory):
    """Give a weights folder with two stand-in networks."""
    import app.cascade.engine  # noqa: F401  silences OpenVINO's usage reports

    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder / "locate", SMALL_LOCATE, locator_graph)
    write_weights(folder / "segment", SMALL_SEGMENT, segmenter_graph)
    return folder


@pytest.fixture(scope="session")
def cascade(stand_in_weights):
    """Give both stand-in phases, compiled."""
    from app.cascade.bundle import open_cascade

    return open_cascade(stand_in_weights, memory_limit_bytes=8 * 2**30, threads=1, precision="f32")


@pytest.fixture(scope="session")
def body():
    """Give a scan in HU (LPS), its label map, and its spacing in mm.

    A bright ball lies low and right, a dark one high, left and behind.
    """
    shape, spacing_mm = (44, 62, 54), (5.0, 3.0, 4.0)
    bright = ball(shape, spacing_mm, (70, 70, 60), 32)
    dark = ball(shape, spacing_mm, (150, 110, 150), 28)
    hu = np.full(shape, TISSUE_HU, np.int16)
    hu[bright], hu[dark] = BRIGHT_HU, DARK_HU
    labels = BRIGHT_ORGAN * bright.astype(np.uint8) + DARK_ORGAN * dark.astype(np.uint8)
    return hu, labels, spacing_mm
