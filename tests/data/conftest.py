from dataclasses import replace

import numpy as np
import pytest

from app.synthesis.appearance import draw_appearance
from app.synthesis.phantom import phantom_tissues

SPACING_MM = (6.0, 4.0, 5.0)


@pytest.fixture(scope="session")
def body_file(tmp_path_factory):
    """A bank of one body, made from a phantom."""
    shape = (70, 80, 84)
    tissues = phantom_tissues(shape=shape, spacing_mm=SPACING_MM, seed=3)
    path = tmp_path_factory.mktemp("bank") / "phantom_0.npz"
    np.savez_compressed(
        path,
        tissues=tissues,
        spacing_mm=np.array(SPACING_MM),
        organ_box=np.array([[20, 20, 20], [50, 60, 60]]),
        name="phantom",
        template="none",
    )
    return path


@pytest.fixture
def dark_look():
    """A look of the scan in which all tissues are as dark as air, drawn like any other."""

    def draw(rng):
        look = draw_appearance(rng)
        return replace(look, hu=np.full(256, -1000.0, np.float32), noise_hu=0.0, sharpness=0.0)

    return draw
