"""The Gymnasium interface, checked by Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from gymnasium.utils.env_checker import check_env

from envs.lab import describe
from envs.lab.env import LabEnv


class Addressed(LabEnv):
    """The checker knows nothing of tasks and trials, and ours are never guessed: this says which one it resets to."""

    task = "press_by_colour"

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        return super().reset(seed=seed, options={"task": self.task, "trial": 0, **(options or {})})


@pytest.mark.parametrize("task", ["press_by_colour", "remember_colour_5", "count_blocks"])
@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*infinity.*")  # proprioception has no bounds
@pytest.mark.filterwarnings("error")
def test_the_environment_passes_gymnasiums_checker(task: str) -> None:
    env = Addressed(describe(size=32), "ray")
    env.task = task
    check_env(env, skip_render_check=True)
