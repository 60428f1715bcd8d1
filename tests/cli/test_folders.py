"""Folders that results go to are kept by one process at a time."""

import multiprocessing

import pytest

from app.cli.folders import sole_writer
from app.errors import UsageError


def live_on(begun, done):
    begun.set()
    done.wait()


def test_folder_is_free_as_soon_as_its_writer_is_gone_though_what_it_forked_lives_on(tmp_path):
    """As processes that make patches do for some seconds after their training was killed."""
    forked = multiprocessing.get_context("fork")
    begun, done = forked.Event(), forked.Event()
    with sole_writer(tmp_path):
        worker = forked.Process(target=live_on, args=(begun, done))
        worker.start()
        begun.wait()
        with pytest.raises(UsageError, match="another run writes to it"), sole_writer(tmp_path):
            pass
    try:
        with sole_writer(tmp_path):
            pass
    finally:
        done.set()
        worker.join()
    assert worker.exitcode == 0
