"""The two back ends beside each other: the original meets its recorded numbers, and ours meets the original's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from envs import calvin, calvin_upstream
from envs.assets import require
from envs.base import VLAEnv
from envs.calvin.assets import ASSETS
from envs.calvin.oracle import done_tasks
from envs.calvin.world import World
from envs.calvin_upstream.source import SourceMissing, find_source
from envs.calvin_upstream.world import UpstreamWorld


@pytest.mark.parametrize("scene", "ABCD")
def test_the_original_meets_its_recorded_trajectories_whatever_ran_before(reference: Path, scene: str) -> None:
    world = UpstreamWorld(require(ASSETS), scene, find_source())
    for k in (1, 0, 0):
        data = np.load(reference / f"calvin_{scene}_{k}.npz", allow_pickle=False)
        world.reset(data["init_robot_obs"], data["init_scene_obs"])
        for step in range(61):
            assert np.array_equal(world.robot_obs(), data["robot_obs"][step]), f"{scene}_{k} step {step}: robot_obs"
            assert np.array_equal(world.scene_obs(), data["scene_obs"][step]), f"{scene}_{k} step {step}: scene_obs"
            if step < 60:
                world.step(data["actions"][step])
    world.close()


@pytest.mark.parametrize("actions", calvin.ACTIONS)
def test_both_give_the_same_scenes_pictures_and_ends(actions: str) -> None:
    """Three chains of the evaluation list in scene D: hash, both pictures, and the state after 40 actions."""

    def seen(env: VLAEnv) -> list[object]:
        found: list[object] = []
        for trial in (0, 7, 0):
            env.reset(seed=0, options={"task": "chain", "trial": trial})
            found += [env.scene_hash(), env.draw("static").tobytes(), env.draw("gripper").tobytes()]
            told = np.random.default_rng(trial).uniform(-1, 1, (40, 7))
            if actions == "absolute":
                told[:, :6] = [0.05, -0.1, 0.55, 3.1, 0.0, 1.5]
                told[:, :3] += np.random.default_rng(trial).uniform(-0.05, 0.05, (40, 3))
            env.step_chunk(told)
            found += [env.state_hash(), env.draw("gripper").tobytes()]
        env.close()
        return found

    theirs = seen(calvin_upstream.make(actions=actions))
    assert seen(calvin.make(actions=actions)) == theirs


def test_the_rules_of_the_tasks_see_the_same_in_both(reference: Path) -> None:
    """The led goes out in this trajectory: by both worlds' snapshots, and nothing else is done."""
    data = np.load(reference / "calvin_D_1.npz", allow_pickle=False)
    found = []
    for world in (UpstreamWorld(require(ASSETS), "D", find_source()), World(require(ASSETS), "D")):
        world.reset(data["init_robot_obs"], data["init_scene_obs"])
        start = world.snapshot()
        for action in data["actions"]:
            world.step(action)
        found.append(done_tasks(start, world.snapshot()))
        world.close()
    assert "turn_off_led" in found[0]
    assert found[0] == found[1]


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match=r"is no checkout of mees/calvin_env: .*play_table_env.py is missing"):
        find_source(str(tmp_path))
