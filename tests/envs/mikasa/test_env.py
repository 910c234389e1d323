"""Scenes, what is shown against what is, pictures, conventions, the expert."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest

from envs.assets import stand_ins
from envs.base import SceneError
from envs.mikasa.assets import ASSETS
from envs.mikasa.tasks import TASKS
from envs.mikasa.upstream import build
from policies.expert.mikasa import MikasaScript
from suites.protocol import load_suite

if TYPE_CHECKING:
    from envs.mikasa.adapter import MikasaEnv

SUITE = load_suite("mikasa_memoryvla")
CLOSED = np.array([[0, 0, 0, 0, 0, 0, -1]], dtype=np.float32)
CUE, EMPTY, CHOICE = 0, 7, 12
"""Steps at which RememberColor shows the cue, nothing, and all cubes (mikasa-robo-suite 1.0.0, remember_color.py)."""


def reset(env: MikasaEnv, task: str, trial: int = 0) -> str:
    env.reset(seed=SUITE.protocol.scene_seed, options={"task": task, "trial": trial})
    return env.scene_hash()


def wait(env: MikasaEnv, steps: int) -> None:
    """Hold still with closed fingers."""
    env.step_chunk(np.repeat(CLOSED, steps, axis=0), stop_on_done=False)


def play(env: MikasaEnv, task: str, trial: int, *, memory: bool = True) -> bool:
    """Whether the expert succeeds within the protocol's limit."""
    reset(env, task, trial)
    script = MikasaScript(task, env.instruction(), env.env_spec)
    for step in range(SUITE.max_steps(task)):
        if not memory:
            script = MikasaScript(task, env.instruction(), env.env_spec)
        if env.step_chunk(script.act(env.privileged(), step)).success:
            return True
    return False


# ------------------------------------------------------------------ protocol and scenes


def test_suite_and_adapter_agree_with_upstream_on_limits_and_instructions(blind: MikasaEnv) -> None:
    reset(blind, "remember_color_3")
    assert {task.name for task in SUITE.tasks} == set(TASKS)
    for task in SUITE.tasks:
        facts = TASKS[task.name]
        assert task.instruction == facts.instruction
        assert SUITE.max_steps(task.name) == gymnasium.spec(facts.env_id).max_episode_steps


@pytest.mark.parametrize("task", TASKS)
def test_trial_k_is_upstreams_scene_of_seed_k_plus_1(blind: MikasaEnv, task: str) -> None:
    """Bare upstream, reset with the seed: the same positions and the same right answer, bit for bit."""
    bare = build(TASKS[task].env_id, 128, "cpu")
    bare.evaluate = dict  # its own hiding would move the bodies
    for trial in (2, 0):
        reset(blind, task, trial)
        bare.reset(seed=trial + 1, options={"reconfigure": True})
        ours, theirs = blind._env.get_state_dict(), bare.get_state_dict()
        for kind in theirs:
            for name in theirs[kind]:
                assert np.array_equal(ours[kind][name], theirs[kind][name]), name
        assert np.array_equal(blind._env.oracle_info, bare.oracle_info)
    bare.close()


def test_a_scene_has_one_hash_in_any_order_and_in_another_process(blind: MikasaEnv) -> None:
    scenes = [(task, trial) for task in TASKS for trial in (0, 1)]
    forward = {scene: reset(blind, *scene) for scene in scenes}
    wait(blind, 8)
    assert {scene: reset(blind, *scene) for scene in reversed(scenes)} == forward
    assert len(set(forward.values())) == len(scenes)
    lines = [
        "from envs.mikasa import make",
        "env = make(); env.select(())",
        f"for task, trial in {scenes[::3]}:",
        "    print('hash', env.reset(seed=0, options={'task': task, 'trial': trial})[1]['scene_hash'])",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    told = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("hash ")]
    assert told == [forward[scene] for scene in scenes[::3]]


def test_libraries_are_set_aside_from_garbage_collection_and_scenes_are_not(blind: MikasaEnv) -> None:
    reset(blind, "remember_color_3")
    first = weakref.ref(blind._env.scene)
    reset(blind, "remember_color_3", 1)
    reset(blind, "remember_color_3", 2)
    assert first() is None
    assert gc.get_freeze_count() > 100_000


def test_twenty_trials_are_twenty_scenes_with_every_answer_among_them(blind: MikasaEnv) -> None:
    for task, answers in (("remember_color_3", 3), ("shell_game_touch", 3)):
        found = [(reset(blind, task, trial), int(blind._env.oracle_info.item())) for trial in range(20)]
        assert len({scene for scene, _ in found}) == 20
        assert len({answer for _, answer in found}) == answers


def test_the_hash_covers_the_hidden_answer_and_the_arms_target(blind: MikasaEnv) -> None:
    reset(blind, "remember_color_3")
    before = blind.state_hash()
    assert before == blind.scene_hash()
    env: Any = blind._env
    answer = env.true_color_indices
    env.true_color_indices = (answer + 1) % 3
    assert blind.state_hash() != before
    env.true_color_indices = answer
    assert blind.state_hash() == before
    joint = env.agent.robot.active_joints[0]
    joint.set_drive_target(joint.drive_target + 0.1)
    assert blind.state_hash() != before


def test_an_unknown_task_and_an_action_that_is_no_number_are_errors(blind: MikasaEnv) -> None:
    with pytest.raises(SceneError, match="remember_color_3"):
        reset(blind, "remember_colour_3")
    reset(blind, "remember_color_3")
    with pytest.raises(ValueError, match="not finite"):
        blind.step_chunk(np.full((1, 7), np.nan))


def test_a_score_with_a_stand_in_for_the_mug_is_marked(blind: MikasaEnv) -> None:
    reset(blind, "shell_game_touch")
    assert blind.metrics() == ({"stand_in_mug": 1.0} if stand_ins(ASSETS, blind._assets) else {})
    reset(blind, "remember_color_3")
    assert blind.metrics() == {}


# ------------------------------------------------------------------ what is shown, and what is


def test_what_is_hidden_rests_where_it_will_be_shown(blind: MikasaEnv) -> None:
    """Upstream's own writes would send the bodies 1,000 m up in CPU physics; the second half shows that they do."""
    reset(blind, "remember_color_5", 3)
    start = {k: cube.pose.p[0].numpy().copy() for k, cube in blind._env.cubes.items()}
    wait(blind, EMPTY)
    assert not np.isfinite(blind.privileged()["cubes"]).any()
    for k, cube in blind._env.cubes.items():
        assert np.abs(cube.pose.p[0].numpy() - start[k]).max() < 1e-3
    wait(blind, CHOICE - EMPTY)
    assert np.abs(blind.privileged()["cubes"] - np.array([start[k] for k in range(5)])).max() < 1e-3

    bare = build("RememberColor5-v0", 128, "cpu")
    bare.reset(seed=4, options={"reconfigure": True})
    for _ in range(CHOICE):
        bare.step(CLOSED[0])
    assert min(float(cube.pose.p[0, 2]) for cube in bare.cubes.values()) > 900
    bare.close()


def test_the_expert_is_told_the_present_and_nothing_of_the_past(blind: MikasaEnv) -> None:
    reset(blind, "remember_color_9", 1)
    answer = int(blind._env.true_color_indices.item())
    assert list(np.isfinite(blind.privileged()["cubes"]).all(axis=1)) == [k == answer for k in range(9)]
    wait(blind, CHOICE)
    assert np.isfinite(blind.privileged()["cubes"]).all()
    reset(blind, "shell_game_touch")
    assert np.isfinite(blind.privileged()["ball"]).all()
    assert not np.isfinite(blind.privileged()["mugs"]).any()
    wait(blind, EMPTY)
    assert not np.isfinite(blind.privileged()["ball"]).any()
    assert np.isfinite(blind.privileged()["mugs"]).all()


def table(env: MikasaEnv) -> npt.NDArray[np.float64]:
    """The part of the base camera's picture in which there is only the table and what lies on it."""
    return np.asarray(env.observe().images["base"][58:, 20:108], dtype=np.float64)


@pytest.mark.timeout(600)
def test_the_first_frame_shows_the_cue_then_nothing_then_every_cube(env: MikasaEnv) -> None:
    """For one scene of each colour: red, green, blue is the strongest channel where the first frame differs."""
    seen: dict[int, int] = {}
    for trial in range(20):
        env.select(())
        reset(env, "remember_color_3", trial)
        seen.setdefault(int(env._env.true_color_indices.item()), trial)
    assert set(seen) == {0, 1, 2}
    for colour, trial in seen.items():
        env.select(("base",))
        reset(env, "remember_color_3", trial)
        cue = table(env)
        wait(env, EMPTY)
        empty = table(env)
        wait(env, CHOICE - EMPTY)
        choice = table(env)
        shown = np.abs(cue - empty).max(axis=2) > 60
        assert 3 <= shown.sum() <= 80
        assert int(np.argmax(cue[shown].mean(axis=0))) == colour
        cubes = np.abs(choice - empty).max(axis=2) > 60
        assert cubes.sum() > 2 * shown.sum()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("task", ["remember_color_5", "shell_game_touch"])
def test_drawing_changes_nothing_while_things_are_hidden_moved_and_shown(env: MikasaEnv, task: str) -> None:
    ends = []
    actions = np.random.default_rng(0).uniform(-1, 1, (14, 7)).astype(np.float32)
    for cameras in ((), None):
        env.select(cameras)
        reset(env, task, 1)
        for action in actions:
            env.step_chunk(action[None], stop_on_done=False)
            env.observe()
        ends.append(env.state_hash())
    assert ends[0] == ends[1]


# ------------------------------------------------------------------ conventions


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_actions_move_and_turn_the_tool_as_the_action_spec_says(blind: MikasaEnv, axis: int) -> None:
    from scipy.spatial.transform import Rotation

    spec = blind.env_spec.action
    for part, unit in ((0, spec.translation_unit), (3, spec.rotation_unit)):
        reset(blind, "intercept_medium")
        wait(blind, 4)
        before = blind.privileged()["tool"]
        action = CLOSED.copy()
        action[0, part + axis] = 0.5
        for _ in range(4):
            blind.step_chunk(action)
        after = blind.privileged()["tool"]
        turns = [Rotation.from_quat(np.roll(tool[3:], -1)) for tool in (before, after)]
        change = (after - before)[:3] if part == 0 else (turns[1] * turns[0].inv()).as_rotvec()
        assert int(np.argmax(np.abs(change))) == axis
        assert np.sign(change[axis]) == np.sign(unit)
        assert abs(change[axis]) < 4 * 0.5 * abs(unit)  # the controller lags behind its target, never beyond it


def test_the_gripper_opens_and_closes_as_the_action_spec_says(blind: MikasaEnv) -> None:
    grip = blind.env_spec.action.gripper
    reset(blind, "intercept_medium")
    for value, width in ((grip.closed, 0.0), (grip.open, 0.08)):
        for _ in range(10):
            blind.step_chunk(np.array([[0, 0, 0, 0, 0, 0, value]]))
        state = blind.state()
        assert state[-1] == pytest.approx(width, abs=0.004)
        assert state[:3] == pytest.approx(blind.privileged()["tool"][:3], abs=1e-6)


# ------------------------------------------------------------------ the positive control


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds(blind: MikasaEnv, task: str) -> None:
    assert [play(blind, task, trial) for trial in range(5)].count(True) >= 4


def test_without_memory_the_expert_is_no_better_than_chance(blind: MikasaEnv) -> None:
    """One of nine cubes: six or more of twelve would come about once in 2,000 tries."""
    assert [play(blind, "remember_color_9", trial, memory=False) for trial in range(12)].count(True) <= 5
