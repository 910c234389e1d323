"""The back end on ManiSkill 3 against bare upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from envs.base import VLAEnv
from envs.simpler.bridge import TASKS
from envs.simpler.maniskill3 import build, to_controller
from suites.protocol import load_suite

if TYPE_CHECKING:
    from envs.simpler.maniskill3 import ManiSkillBridge

SUITE = load_suite("simpler_bridge")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("task", TASKS)
def test_trial_k_is_upstreams_episode_k_and_goes_its_way(blind: ManiSkillBridge, task: str) -> None:
    """Bare upstream, told the episode: the same state, bit for bit, at the start and after five actions."""
    import torch

    found = TASKS[task]
    bare = build(found, "cpu", blind._robot)
    assert bare.get_language_instruction() == [found.instruction]
    actions = np.random.default_rng(1).uniform(-0.03, 0.03, (5, 7)).astype(np.float32)
    for trial in (7, 0):
        blind.reset(seed=0, options={"task": task, "trial": trial})
        bare.reset(options={"reconfigure": True, "episode_id": torch.tensor([trial])})
        for action in (None, *actions):
            if action is not None:
                blind.step_chunk(action[None], stop_on_done=False)
                bare.step(to_controller(action))
            ours, theirs = blind._env.get_state(), bare.get_state()
            assert np.array_equal(ours, theirs)
    bare.close()


def test_the_suites_instructions_are_the_adapters() -> None:
    assert {task.name: task.instruction for task in SUITE.tasks} == {k: v.instruction for k, v in TASKS.items()}


def test_the_fingers_slide_without_the_bar_in_their_way(blind: VLAEnv) -> None:
    """Closing pushes nothing of the arm aside: with the original's description of the robot alone it would."""
    blind.reset(seed=0, options={"task": "carrot_on_plate", "trial": 0})
    before = blind.privileged()["tool"]
    blind.step_chunk(np.array([[0, 0, 0, 0, 0, 0, -1.0]] * 4), stop_on_done=False)
    assert np.abs(blind.privileged()["tool"] - before).max() < 2e-3
