"""Demonstrations of the lab's real expert, few and short."""

from __future__ import annotations

from functools import cache

import numpy as np

from envs.lab import describe, make
from policies.expert.lab import LabScript
from policies.training.demos import Demo

SCENE_SEED = 77


@cache
def lab_demo(task: str, trial: int, longest: int = 200) -> Demo:
    """One episode of the expert, both cameras, as `read_demos` would give it."""
    env, seen = make(), []
    env.select(privileged=True)
    env.reset(seed=SCENE_SEED, options={"task": task, "trial": trial})
    script = LabScript(task, env.instruction(), describe())
    for step in range(longest):
        now = env.observe()
        assert now.privileged is not None
        action = script.act(now.privileged, step)
        seen.append((now, action[0]))
        result = env.step_chunk(action.astype(np.float32))
        if result.success or result.terminated:
            break
    actions = np.stack([action for _, action in seen]).astype(np.float32)
    actions[:, 6] = actions[:, 6] > 0
    return Demo(
        dataset="lab",
        task=task,
        trial=trial,
        instruction=seen[0][0].instruction,
        pictures={name: np.stack([now.images[name] for now, _ in seen]) for name in ("front", "wrist")},
        state=np.stack([now.state for now, _ in seen]).astype(np.float32),
        actions=actions,
    )
