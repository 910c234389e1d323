"""Whole episodes: with pictures in every suite, the success rule by hand, and the scripted expert."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.libero import SUITES, make
from envs.libero.adapter import LiberoEnv
from envs.libero.upstream import task_names
from policies.expert.libero import LiberoScript
from suites.protocol import load_suite
from tests.envs.libero.reference import random_actions


@pytest.mark.parametrize("suite", SUITES)
def test_an_episode_with_pictures_in_every_suite(suite: str) -> None:
    """Three chunks of eight: both cameras, 256 x 256, a different picture at every call, state, sentence."""
    env = make(suite=suite)
    assert isinstance(env, LiberoEnv)
    task = load_suite(suite).tasks[-1]
    env.reset(seed=0, options={"task": task.name, "trial": 1})
    pictures: dict[str, set[bytes]] = {"agentview": set(), "wrist": set()}
    for chunk in random_actions(24).reshape(3, 8, 7):
        seen = env.observe()
        for name, found in pictures.items():
            assert seen.images[name].shape == (256, 256, 3)
            assert seen.images[name].std() > 10, "the picture shows nothing"
            found.add(seen.images[name].tobytes())
        assert seen.instruction == task.instruction
        assert seen.state is not None
        assert seen.privileged is None
        result = env.step_chunk(chunk)
        assert result.steps == 8
        assert not result.success
    assert {name: len(found) for name, found in pictures.items()} == {"agentview": 3, "wrist": 3}
    env.close()


def place(env: LiberoEnv, joint: str, values: Any) -> None:
    env.simulation.data.joint(joint).qpos[: len(values)] = values


@pytest.mark.parametrize(
    ("suite", "number", "joint", "region", "height"),
    [
        ("libero_object", 0, "alphabet_soup_1_joint0", "basket_1_contain_region", 0.0),
        ("libero_spatial", 0, "akita_black_bowl_1_joint0", "plate_1_default_site", 0.004),
        ("libero_goal", 0, "wooden_cabinet_1_middle_level", None, -0.155),
        ("libero_goal", 7, "flat_stove_1_button", None, 1.0),
    ],
)
def test_the_success_rule_holds_where_the_goal_is_reached_and_not_before(
    suite: str, number: int, joint: str, region: str | None, height: float
) -> None:
    """The state is moved to the goal by hand: an object to a region, a joint to a value."""
    env = make(suite=suite)
    assert isinstance(env, LiberoEnv)
    env.select(cameras=())
    env.reset(seed=0, options={"task": task_names(suite)[number], "trial": 0})
    still = np.array([[0, 0, 0, 0, 0, 0, -1]], dtype=np.float32)
    assert not env.step_chunk(still).success
    if region is None:
        place(env, joint, [height])
    else:
        place(env, joint, env.simulation.data.site(region).xpos + np.array([0, 0, height]))
    assert env.step_chunk(still).success
    env.close()


def play(suite: str, number: int, trial: int, *, disturb: range = range(0)) -> tuple[bool, int]:
    """Success and steps of the expert; in the steps of `disturb` the gripper is forced open."""
    found = load_suite(suite)
    task = found.tasks[number]
    env = make(suite=suite)
    env.select(cameras=(), privileged=True)
    env.reset(seed=0, options={"task": task.name, "trial": trial})
    script = LiberoScript(task.name, task.instruction, found.env_spec)
    result = None
    for step in range(found.max_steps(task.name)):
        privileged = env.observe().privileged
        assert privileged is not None
        actions = np.array(script.act(privileged, step), dtype=np.float32)
        assert actions.shape == (1, 7)
        assert np.abs(actions).max() <= 1.0
        if step in disturb:
            actions[:, 6] = -1.0
        result = env.step_chunk(actions)
        if result.success:
            break
    env.close()
    assert result is not None
    return result.success, step + 1


@pytest.mark.parametrize(
    ("suite", "number"),
    [("libero_object", 7), ("libero_spatial", 4), ("libero_goal", 7), ("libero_10", 2)],
    ids=["milk in basket", "bowl out of drawer", "stove on", "stove and moka pot"],
)
def test_the_expert_solves_tasks_by_real_grasps(suite: str, number: int) -> None:
    assert play(suite, number, 0)[0]


def test_the_expert_takes_hold_again_of_what_it_dropped() -> None:
    solved, steps = play("libero_object", 7, 0)
    dropped, later = play("libero_object", 7, 0, disturb=range(70, 85))
    assert solved
    assert dropped
    assert later > steps + 30
