"""Logs and progress."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from policies.training.log import Log, Progress, spell
from policies.training.options import TrainingError
from policies.training.parallel import Follower, Messages


def test_rows_after_the_state_that_is_resumed_are_cut(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.csv", 0)
    for update in range(1, 6):
        log.add({"update": update, "loss": 0.5 * update})
    log.close()
    with (tmp_path / "log.csv").open("a") as file:
        file.write("6,0.")
    again = Log(tmp_path / "log.csv", 3)
    again.add({"update": 4, "loss": 9.0})
    again.close()
    assert (tmp_path / "log.csv").read_text().split() == ["update,loss", "1,0.5", "2,1.0", "3,1.5", "4,9.0"]


def test_losses_that_change_their_names_are_an_error(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.csv", 0)
    log.add({"update": 1, "loss": 1.0})
    with pytest.raises(TrainingError, match="has the columns"):
        log.add({"update": 2, "loss": 1.0, "goal": 2.0})


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(tmp_path / "log.csv", 0, tensorboard=True)
    for update in (1, 2):
        log.add({"update": update, "loss": 2.0**-update, "seconds": 1.0})
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert board.Tags()["scalars"] == ["loss"]


def test_a_pipe_gets_lines_with_loss_rate_and_remaining_time() -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=200), "lab policy", 2) as progress:
        for update in (1, 2):
            progress.row({"update": update, "loss": 0.25, "frames_per_s": 800.0})
    assert out.getvalue().splitlines() == ["lab policy: 2/2, loss 0.2500, 800 frames/s, 0 s left"]


def test_durations_are_spelt_for_people() -> None:
    assert [spell(s) for s in (12, 600, 7200)] == ["12 s", "10 min", "2.0 h"]


def test_what_the_first_process_says_reaches_the_command_in_order(tmp_path: Path) -> None:
    heard: list[object] = []

    class Watcher:
        def row(self, row: object) -> None:
            heard.append(row)

        def say(self, text: str) -> None:
            heard.append(text)

    follower = Follower(tmp_path / "messages", Watcher())
    messages = Messages(tmp_path / "messages")
    messages.say("begins")
    follower.look()
    messages.row({"update": 1, "loss": 0.5})
    with (tmp_path / "messages").open("a") as torn:
        torn.write('{"say": "half')
    follower.look()
    follower.look()
    assert heard == ["begins", {"update": 1, "loss": 0.5}]
