"""`memvla robot`: trials on a robot become episodes of a run like any other, in the same records and tables."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import extra_station
import pytest
from rich.console import Console

from harness.config import ConfigError, RunConfig, compose_run
from harness.robot import compose_robot
from harness.run import run
from policies.base import PolicyError
from reports.episode import EpisodeRecord
from reports.papers import build
from reports.records import RecordStore
from suites.protocol import SuiteError
from tests.harness.test_cli import fails

REHEARSAL = ["suite=real_rehearsal", "policy=expert", "run.trials=2"]


def records(folder: Path, policy: str) -> list[EpisodeRecord]:
    return RecordStore(folder / policy / "episodes.sqlite").attempts()


def ran(config: RunConfig) -> str:
    """Carry it out in this process; what it says."""
    said = io.StringIO()
    ended = run(config, Console(file=said, width=200), ["memvla"])
    assert ended.exit_code == 0, said.getvalue()
    return said.getvalue()


def robot(*words: str) -> str:
    return ran(compose_robot(words))


def test_the_robot_loop_does_what_the_evaluation_does(tmp_path: Path) -> None:
    robot(*REHEARSAL, f"run.dir={tmp_path / 'robot'}")
    lab = ["suite=lab_smoke", "policy=expert", "run.trials=2", "cluster=inline", "protocol.max_steps=120"]
    ran(compose_run([*lab, f"run.dir={tmp_path / 'lab'}"]))
    pairs = zip(records(tmp_path / "robot", "expert"), records(tmp_path / "lab", "expert"), strict=True)
    for rehearsed, simulated in pairs:
        for field in ("task", "trial", "scene_hash", "first_frame_hash", "action_digest", "steps", "outcome"):
            assert getattr(rehearsed, field) == getattr(simulated, field), field
    assert len(list((tmp_path / "robot" / "expert" / "videos").glob("*.mp4"))) == 2


GRADED = ["suite=real_memory", "policy=random", "station=extra_station", "policy.chunk=10", "run.trials=1"]


def test_graded_trials_stand_beside_the_published_scores(tmp_path: Path) -> None:
    counts = '{button pushed in its turn: 2, object in its place: 5, "empty grasp with counting": 2, object cleared: 3}'
    robot(*GRADED, f"station.counts={counts}", "protocol.max_steps=30", f"run.dir={tmp_path}")
    scores = {record.task: record.score for record in records(tmp_path, "random")}
    assert scores["seq_push_buttons"] == pytest.approx(0.6)
    assert scores["clean_restaurant_table"] == pytest.approx(1.0)
    assert scores["clean_table_and_count"] == pytest.approx(0.2)
    assert scores["guess_where"] == 0.0
    ours = {row["column"]: row["value"] for row in build("memoryvla/real", [tmp_path]).rows if row["row"] == "ours"}
    assert ours["Seq. Push Buttons"] == pytest.approx(60)
    assert ours["Clean Restaurant"] == pytest.approx(100)


def test_an_emergency_stop_ends_the_trial_and_it_is_graded(tmp_path: Path) -> None:
    words = [
        *GRADED,
        "run.tasks=[seq_push_buttons]",
        "station.stop_at=7",
        "station.counts={button pushed in its turn: 1}",
    ]
    robot(*words, f"run.dir={tmp_path}")
    (record,) = records(tmp_path, "random")
    assert record.outcome == "failure"
    assert record.score == pytest.approx(0.3)
    assert record.metrics["stopped"] == 1.0
    assert record.steps <= 8


def test_a_trial_the_operator_voids_is_repeated_and_never_scored(tmp_path: Path) -> None:
    extra_station.VOIDED.clear()
    words = [*GRADED, "run.tasks=[seq_push_buttons]", "station.voids=1", "protocol.max_steps=20"]
    robot(*words, f"run.dir={tmp_path}")
    first, second = records(tmp_path, "random")
    assert (first.outcome, second.outcome) == ("void", "failure")
    assert "somebody bumped into the table" in first.cause
    assert first.score is None


def test_the_same_command_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    words = [*REHEARSAL, f"run.dir={tmp_path}"]
    robot(*words)
    assert "nothing to run" in robot(*words)


def test_ctrl_c_while_it_moves_stops_the_robot_and_asks_for_the_grade(tmp_path: Path) -> None:
    words = ["suite=real_rehearsal", "policy=random", "policy.scale=0", "run.tasks=[press_by_colour]", "run.trials=1"]
    words += ["station.operator=console", "station.real_time=true", "protocol.max_steps=100000", f"run.dir={tmp_path}"]
    command = [sys.executable, "-m", "harness.cli", "robot", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        for line in process.stdout:
            if "Ctrl-C is the emergency stop" in line:
                break
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate("0\n\n", timeout=120)
    assert process.returncode == 0, said
    assert "emergency stop (the operator)" in said
    (record,) = records(tmp_path, "random")
    assert record.outcome == "failure"
    assert record.metrics["stopped"] == 1.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["suite=real_general", "policy=random"], "no robot is named"),
        (["suite=real_general", "policy=random", "station=no_such_arm"], "cannot import the station 'no_such_arm'"),
        (["suite=real_general", "policy=random", "station=json"], "station 'json' has no describe and no connect()"),
        (["suite=lab_smoke", "policy=random"], "suite lab_smoke runs in a simulator"),
        ([*REHEARSAL, "cluster=local"], "leave out cluster"),
        ([*REHEARSAL, "station.size=4"], "lab picture size must lie in"),
        ([*REHEARSAL, "station.colour=red"], "unexpected keyword argument 'colour'"),
        (["suite=real_general", "policy=expert", "station=extra_station"], "has no scripted expert"),
    ],
)
def test_a_mistake_is_told_of_before_anything_moves(tmp_path: Path, words: list[str], says: str) -> None:
    with pytest.raises((ConfigError, SuiteError, PolicyError), match=re.escape(says)):
        robot(*words, f"run.dir={tmp_path}")
    assert [path for path in tmp_path.rglob("episodes.sqlite") if RecordStore(path).attempts()] == []


def test_a_real_suite_without_a_station_is_refused_by_run_too(tmp_path: Path) -> None:
    fails(
        "run", "suite=real_general", "policy=random", "cluster=inline", f"run.dir={tmp_path}", says="no robot is named"
    )
