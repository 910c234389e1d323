"""The robot loop: fixed rate, emergency stop, kept frames, and grades, on stations without hardware."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from extra_station import connect, describe

from envs.base import SceneError
from envs.real import make
from envs.real.adapter import RealEnv
from envs.real.console import ConsoleOperator
from envs.real.grades import Grade, Judgement, Voided, grades_of
from envs.real.pace import Pace
from envs.real.station import SimulatedClock

FORWARD = np.array([1, 0, 0, 0, 0, 0, 1], np.float32)
BUTTONS = {"button": [30, 3], "all in order": 10}


def env(grades: dict[str, Any] | None = None, **options: Any) -> RealEnv:
    return RealEnv(describe(), connect(**options), {"push": {"instruction": "push them", "grades": grades}})


def begin(real: RealEnv, trial: int = 0) -> RealEnv:
    real.reset(seed=0, options={"task": "push", "trial": trial})
    return real


def arm_of(real: RealEnv) -> Any:
    return real._station.robot


# ---------------------------------------------------------------------- rate


def test_commands_come_one_period_apart() -> None:
    clock, times = SimulatedClock(), []
    pace = Pace(clock, hz=10.0)
    for _ in range(5):
        pace.begin()
        times.append(clock.now())
        clock.sleep(0.03)  # what handing the command over costs
        pace.end()
    assert np.allclose(np.diff(times), 0.1)
    assert pace.late == 0


def test_a_late_command_is_counted_and_never_made_up_for() -> None:
    clock, times = SimulatedClock(), []
    pace = Pace(clock, hz=10.0)
    for k in range(4):
        pace.begin()
        times.append(clock.now())
        pace.end()
        clock.sleep(0.25 if k == 1 else 0.0)  # something held the loop up
    assert pace.late == 1
    assert np.diff(times).min() >= 0.1 - 1e-9  # no two commands in one period


def test_a_policy_call_is_no_lateness() -> None:
    clock = SimulatedClock()
    pace = Pace(clock, hz=10.0)
    for _ in range(3):
        pace.begin()
        pace.end()
        pace.rest()
        clock.sleep(0.7)  # the policy thinks
    assert pace.late == 0


# ---------------------------------------------------------------------- emergency stop


def test_after_the_emergency_stop_no_command_reaches_the_robot() -> None:
    real = begin(env(stop_at=4))
    did = real.step_chunk(np.tile(FORWARD, (10, 1)))
    assert did.terminated
    assert arm_of(real).done.count("command") == 4
    real.step_chunk(np.tile(FORWARD, (10, 1)))  # whoever goes on commanding is not heard
    assert arm_of(real).done.count("command") == 4
    assert arm_of(real).done[-1] == "stop"


def test_the_next_trial_obeys_again() -> None:
    real = begin(env(stop_at=4))
    real.step_chunk(np.tile(FORWARD, (10, 1)))
    begin(real, trial=1).step_chunk(np.tile(FORWARD, (3, 1)))
    assert arm_of(real).done.count("command") == 7


def test_leaving_the_workspace_is_an_emergency_stop() -> None:
    real = begin(env(wall=0.035))
    assert real.step_chunk(np.tile(FORWARD, (10, 1))).terminated
    assert arm_of(real).done.count("command") == 4
    assert real.judged(False) is False
    assert real.metrics()["stopped"] == 1.0
    assert "left the workspace" in real._station.operator.heard[-1]


def test_a_broken_off_episode_brings_the_robot_to_rest() -> None:
    real = begin(env())
    real.step_chunk(FORWARD[None])
    real.interrupted()
    assert arm_of(real).done[-1] == "stop"


# ---------------------------------------------------------------------- frames


def test_kept_frames_are_those_of_the_papers_filter() -> None:
    real = begin(env())
    slow = FORWARD * [0.4, 0, 0, 0, 0, 0, 1]  # 4 mm a step: over 0.01 m with every third
    did = real.step_chunk(np.tile(slow, (12, 1)), film_every=2, every_frame=True)
    assert [step for step, _ in did.frames] == [1, 4, 7, 10]
    assert [seen.step for seen in did.observations] == [1, 4, 7, 10]


def test_standing_still_keeps_a_frame_after_120() -> None:
    real = begin(env())
    did = real.step_chunk(np.tile(FORWARD * 0, (250, 1)), film_every=1)
    assert [step for step, _ in did.frames] == [1, 121, 241]


def test_two_attempts_at_a_real_scene_are_never_the_same_scene() -> None:
    real = begin(env())
    first = real.scene_hash()
    assert begin(real).scene_hash() != first


# ---------------------------------------------------------------------- grades


@pytest.mark.parametrize(
    ("counts", "score"),
    [({}, 0.0), ({"button": 2}, 0.6), ({"button": 3, "all in order": 1}, 1.0)],
)
def test_the_score_is_the_points_the_operator_counts(counts: dict[str, int], score: float) -> None:
    real = begin(env(BUTTONS, counts=counts))
    real.step_chunk(FORWARD[None])
    assert real.judged(False) is (score == 1.0)
    assert real.metrics()["score"] == pytest.approx(score)


def test_points_are_taken_off_but_never_below_nothing() -> None:
    grades = (Grade("cleared", 20, 5), Grade("empty grasp", -5, 20))
    assert Judgement({"cleared": 2, "empty grasp": 3}).points(grades) == 25
    assert Judgement({"empty grasp": 3}).points(grades) == 0


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({"buton": 1}, "no grade buton"),
        ({"button": 4}, "button: 0 to 3 can be counted"),
    ],
)
def test_a_count_that_cannot_be_is_an_error(counts: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Judgement(counts).points(grades_of(BUTTONS))


def test_more_than_all_points_is_an_error() -> None:
    grades = (Grade("counted", 20, 5), Grade("small count error", 5, 5))
    with pytest.raises(ValueError, match="counted twice"):
        Judgement({"counted": 5, "small count error": 1}).points(grades)


def test_a_scheme_that_cannot_earn_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="task push: these grades earn 90 points"):
        make(station="extra_station", tasks={"push": {"grades": {"button": [30, 3]}}})


# ---------------------------------------------------------------------- the person at the terminal


def asked(answers: str) -> tuple[ConsoleOperator, io.StringIO]:
    said = io.StringIO()
    return ConsoleOperator(io.StringIO(answers), said), said


def test_the_operator_is_asked_until_the_counts_can_be() -> None:
    operator, said = asked("4\n3\n1\nno\n2\n0\n\n")
    found = operator.judge(grades_of(BUTTONS), "40 steps")
    assert found.counts == {"button": 2, "all in order": 0}
    assert "a whole number from 0 to 3" in said.getvalue()
    assert "100 of 100 points" in said.getvalue()
    assert "60 of 100 points" in said.getvalue()


def test_the_operator_can_void_a_trial_with_a_reason() -> None:
    operator, _ = asked("1\nvoid the camera fell over\n")
    with pytest.raises(Voided, match="the camera fell over"):
        operator.judge(grades_of(BUTTONS), "40 steps")


def test_the_end_of_the_input_ends_the_session() -> None:
    operator, _ = asked("")
    with pytest.raises(KeyboardInterrupt):
        operator.prepare("push, trial 0", "push them")


# ---------------------------------------------------------------------- stations that are wrong


def test_a_station_that_gives_other_pictures_than_it_promised_is_an_error() -> None:
    real = env()
    real._station.cameras["front"].read = lambda: np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(RuntimeError, match=r"camera front gave uint8 \[4, 4, 3\]"):
        begin(real)


def test_an_unknown_task_is_an_error() -> None:
    with pytest.raises(SceneError, match="no task 'pull' here; there are: push"):
        env().reset(seed=0, options={"task": "pull", "trial": 0})


def test_a_real_station_offers_no_privileged_state() -> None:
    with pytest.raises(ValueError, match="real offers no privileged state"):
        make(station="extra_station", tasks={"push": {}}).select(privileged=True)
