from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app.training.board import Board


def test_steps_that_a_killed_run_takes_again_are_shown_once(tmp_path):
    for after, steps in ((0, (1, 2, 3)), (1, (2, 3, 4))):
        board = Board(tmp_path, after=after)
        for step in steps:
            board.scalars(step, {"loss": 10.0 * after + step})
        board.close()

    shown = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in shown] == [(1, 1), (2, 12), (3, 13), (4, 14)]
