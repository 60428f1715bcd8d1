import threading

import numpy as np
import pytest
from full_disk import room_for
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app.training.board import Board


def test_steps_that_a_killed_run_takes_again_are_shown_once(tmp_path):
    for after, steps in ((0, (1, 2, 3)), (1, (2, 3, 4))):
        board = Board(tmp_path, after=after)
        for step in steps:
            board.scalars(step, {"loss": 10.0 * after + step})
        board.close()
        # Files are read by name, which begins with the second they were made in: runs differ there.
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        newest.rename(tmp_path / f"events.out.tfevents.{after}")

    shown = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in shown] == [(1, 1), (2, 12), (3, 13), (4, 14)]


# TensorBoard's own thread fails, too, and its error goes nowhere else.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_disk_without_room_for_events_is_told_once_and_ends_nothing(tmp_path, caplog):
    others = set(threading.enumerate())  # boards of other tests may wait for ever
    board = Board(tmp_path)
    board.scalars(1, {"loss": 2.0})
    (events,) = tmp_path.iterdir()

    with room_for(events.stat().st_size):
        for step in range(2, 5):
            board.scalars(step, {"loss": 1.0})
        board.picture(5, "held_out", np.zeros((4, 5, 3), np.uint8))
        board.close()

    for thread in set(threading.enumerate()) - others:
        if type(thread).__name__ == "_AsyncWriterThread":
            thread.join(30)  # or it would fail in another test

    (told,) = caplog.messages
    assert f"{tmp_path}: TensorBoard's events cannot be written (" in told
    assert "the training goes on without them" in told


def test_folder_of_events_that_cannot_be_made_is_told_and_ends_nothing(tmp_path, caplog):
    (tmp_path / "events").touch()
    board = Board(tmp_path / "events")
    board.scalars(1, {"loss": 2.0})
    board.close()

    (told,) = caplog.messages
    assert f"{tmp_path / 'events'}: TensorBoard's events cannot be written (" in told
