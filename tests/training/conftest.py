"""What every test of training needs."""

import numpy as np
import pytest

from app.synthesis.phantom import phantom_tissues
from app.training import machine


@pytest.fixture(autouse=True)
def _memory_as_it_comes(monkeypatch):
    """Let a command run in this process leave its memory alone: other tests measure it."""
    monkeypatch.setattr(machine, "keep_freed_memory", lambda: True)


@pytest.fixture(scope="session")
def bank(tmp_path_factory):
    """Give a bank of two bodies, made from phantoms."""
    folder = tmp_path_factory.mktemp("bank")
    for seed in (1, 2):
        shape, spacing_mm = (60, 62, 64), (8.0, 6.0, 7.0)
        np.savez_compressed(
            folder / f"testing_000{seed}_0.npz",
            tissues=phantom_tissues(shape=shape, spacing_mm=spacing_mm, seed=seed),
            spacing_mm=np.array(spacing_mm),
            organ_box=np.array([[15, 15, 15], [45, 45, 45]]),
            name=f"testing_000{seed}",
            template="none",
        )
    return folder
