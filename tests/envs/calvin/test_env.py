"""The chain protocol, pictures on demand, errors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from envs.assets import AssetsMissing
from envs.base import SceneError
from envs.calvin import SCENES, SUBTASK_STEPS, describe, make
from envs.calvin.chains import Chain, chains

if TYPE_CHECKING:
    from envs.calvin.adapter import CalvinEnv

STILL = np.array([0, 0, 0, 0, 0, 0, 1], dtype=np.float32)


def reset(env: CalvinEnv, trial: int = 0) -> None:
    env.reset(seed=0, options={"task": "chain", "trial": trial})


def begin(env: CalvinEnv, tasks: tuple[str, ...], **changed: int) -> None:
    """Stand before a chain that is not on the list; `changed`: what differs from the first one's start."""
    reset(env)
    env.start(Chain({**chains()[0].state, **changed}, tasks))


def light_up(env: CalvinEnv, lamp: str, lit: bool) -> None:
    """Do a subtask by hand: the lamp is switched without the arm."""
    env.world.table._light(lamp, lit)


def test_a_subtask_that_is_done_brings_the_next_sentence_without_a_reset(blind: CalvinEnv) -> None:
    names = ("turn_on_led", "turn_off_lightbulb", "open_drawer", "turn_on_lightbulb", "turn_off_led")
    begin(blind, names, led=0, lightbulb=1)
    assert blind.instruction() == "press the button to turn on the led light"
    assert blind.step_chunk([STILL] * 3).steps == 3
    joints = blind.world.robot_obs()[7:14]
    light_up(blind, "led", True)
    did = blind.step_chunk([STILL] * 8)
    assert (did.steps, did.instruction_changed, did.success, did.terminated) == (1, True, False, False)
    assert blind.instruction() == "use the switch to turn off the light bulb"
    assert np.abs(blind.world.robot_obs()[7:14] - joints).max() < 0.01
    assert blind.metrics() == {
        "chain_length": 1.0,
        "score": 0.2,
        "task/turn_on_led": 1.0,
        "task/turn_off_lightbulb": 0.0,
    }


def test_five_subtasks_are_a_success_and_nothing_can_follow(blind: CalvinEnv) -> None:
    names = ("turn_on_led", "turn_off_led") * 2 + ("turn_on_led",)
    begin(blind, names, led=0)
    for k in range(5):
        light_up(blind, "led", k % 2 == 0)
        did = blind.step_chunk(STILL[None])
        assert did.instruction_changed == (k < 4)
    assert did.success
    assert did.terminated
    assert blind.metrics()["chain_length"] == 5.0
    with pytest.raises(RuntimeError, match="the chain has ended"):
        blind.step_chunk(STILL[None])


def test_a_subtask_has_360_steps_and_its_end_ends_the_chain(blind: CalvinEnv) -> None:
    reset(blind)
    did = blind.step_chunk([STILL] * (SUBTASK_STEPS + 5))
    assert (did.steps, did.terminated, did.success) == (360, True, False)
    assert blind.metrics()["chain_length"] == 0.0


def test_a_subtask_counts_from_its_own_start_and_steps_anew(blind: CalvinEnv) -> None:
    """The rule compares with the moment the sentence came, and each sentence has all of its steps."""
    begin(blind, ("turn_on_led", "turn_on_led"), led=0)
    blind.step_chunk([STILL] * 350)
    light_up(blind, "led", True)
    assert blind.step_chunk(STILL[None]).instruction_changed
    did = blind.step_chunk([STILL] * 400)  # the led is lit already, so it cannot be turned on
    assert (did.steps, did.terminated) == (360, True)


def test_success_in_the_last_step_of_a_subtask_counts(blind: CalvinEnv) -> None:
    begin(blind, ("turn_on_led", "turn_off_led"), led=0)
    blind.step_chunk([STILL] * 359)
    light_up(blind, "led", True)
    did = blind.step_chunk(STILL[None])
    assert (did.instruction_changed, did.terminated) == (True, False)


def test_the_gripper_goes_by_the_sign_of_its_number(blind: CalvinEnv) -> None:
    for number, opens in ((0.01, True), (0.0, False), (-1.0, False), (1.0, True)):
        reset(blind)
        blind.step_chunk([[0, 0, 0, 0, 0, 0, number]] * 10)
        assert (blind.world.robot_obs()[6] > 0.07) == opens, number
        assert blind.world.robot_obs()[14] == (1 if opens else -1)


def test_relative_actions_move_the_target_not_the_measured_pose(blind: CalvinEnv) -> None:
    reset(blind)
    before = blind.world.target_position.copy()
    blind.step_chunk([[0, 0, 1, 0, 0, 0, 1]] * 2)
    assert np.allclose(blind.world.target_position - before, [0, 0, 0.04], atol=1e-9)


def test_absolute_actions_go_to_a_pose() -> None:
    env = make(actions="absolute")
    env.select(())
    reset(env)  # type: ignore[arg-type]
    goal = np.add(env.state()[:6], [0.03, 0.02, 0.05, 0, 0, 0.2])  # type: ignore[index]
    env.step_chunk([[*goal, 1.0]] * 40)
    assert np.abs(np.array(env.state())[:6] - goal).max() < 0.005
    env.close()


def test_nothing_is_clipped() -> None:
    assert describe().action.limit is None


def test_pictures_are_drawn_on_demand_and_change_nothing() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 7)).astype(np.float32)
    ends = []
    for every_frame in (False, True):
        env = make()
        reset(env)  # type: ignore[arg-type]
        drawn: list[str] = []
        draw = env.draw
        env.draw = lambda camera, draw=draw, drawn=drawn: drawn.append(camera) or draw(camera)  # type: ignore
        env.step_chunk(actions, every_frame=every_frame)
        assert len(drawn) == (22 if every_frame else 0)
        images = env.observe().images
        assert images["static"].shape == (200, 200, 3)
        assert images["gripper"].shape == (84, 84, 3)
        ends.append((env.state_hash(), images["static"].tobytes(), images["gripper"].tobytes()))
        env.close()
    assert ends[0] == ends[1]


def test_every_table_stands_and_is_drawn() -> None:
    hashes, pictures = set(), set()
    for scene in SCENES:
        env = make(scene=scene)
        reset(env, 3)  # type: ignore[arg-type]
        hashes.add(env.scene_hash())
        pictures.update(image.tobytes() for image in env.observe().images.values())
        assert all(image.std() > 20 for image in env.observe().images.values())
        env.close()
    assert len(hashes) == 4
    assert len(pictures) == 8


def test_lamps_are_seen_to_be_lit(blind: CalvinEnv) -> None:
    reset(blind)
    pictures = []
    for lit in (True, False):
        light_up(blind, "led", lit)
        light_up(blind, "lightbulb", lit)
        pictures.append(blind.draw("static").astype(int))
    changed = np.abs(pictures[0] - pictures[1]).sum(axis=2) > 100
    assert 100 < changed.sum() < 3000


def test_the_first_picture_does_not_depend_on_what_ran_before() -> None:
    env = make()
    reset(env, 3)  # type: ignore[arg-type]
    first = env.observe().images["static"]
    env.step_chunk(np.random.default_rng(0).uniform(-1, 1, (30, 7)))
    reset(env, 1)  # type: ignore[arg-type]
    reset(env, 3)  # type: ignore[arg-type]
    assert np.array_equal(env.observe().images["static"], first)
    env.close()


def test_a_task_or_trial_that_does_not_exist_is_an_error(blind: CalvinEnv) -> None:
    with pytest.raises(SceneError, match="no trial 1000"):
        reset(blind, 1000)
    with pytest.raises(SceneError, match="one task, 'chain'"):
        blind.reset(seed=0, options={"task": "open_drawer", "trial": 0})


def test_an_action_that_is_not_finite_is_an_error(blind: CalvinEnv) -> None:
    reset(blind)
    with pytest.raises(ValueError, match="not finite"):
        blind.step_chunk([[np.nan, 0, 0, 0, 0, 0, 1]])


def test_missing_models_are_an_error_that_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(AssetsMissing, match=r"panda_longer_finger\.urdf.*named by assets=.*memvla setup calvin"):
        make(assets=str(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scene": "E"}, "scene must be one of A, B, C, D"),
        ({"renderer": "osmesa"}, "renderer must be one of tiny, egl"),
        ({"actions": "joint"}, "actions must be one of relative, absolute"),
        ({"steps": 0}, "steps must be 1 or more"),
    ],
)
def test_an_option_that_does_not_exist_is_an_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe(**options)  # type: ignore[arg-type]


def test_many_resets_leave_nothing_behind() -> None:
    import resource

    env = make()
    env.select(())

    def peak(trials: range) -> int:
        for trial in trials:
            reset(env, trial)  # type: ignore[arg-type]
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    first = peak(range(20))
    assert peak(range(20, 120)) - first < 30, "MiB in 100 resets"
    env.close()
