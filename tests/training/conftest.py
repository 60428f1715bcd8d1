"""What every test of training needs."""

import pytest

from app.training import machine


@pytest.fixture(autouse=True)
def _memory_as_it_comes(monkeypatch):
    """Let a command run in this process leave its memory alone: other tests measure it."""
    monkeypatch.setattr(machine, "keep_freed_memory", lambda: True)
