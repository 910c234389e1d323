"""The scripted experts of SimplerEnv, real contact and all: WidowX's grasp from above and drop on the target, and the
Google robot's pull at a drawer."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.spec import EnvSpec
from policies.expert.simpler.drawer import PullOpen
from policies.expert.simpler.pick_place import HOLDS, PickAndPlace

DRAWERS = re.compile(r"open_(top|middle|bottom)_drawer_\w+")
"""The variants of the Google robot's tasks that there is an expert for."""


class SimplerScript:
    """The expert of any of the four Bridge tasks, and of opening a drawer. Raises KeyError, suggesting the nearest
    name, for another."""

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None:
        if not self.knows(task):
            near = difflib.get_close_matches(task, HOLDS, n=3, cutoff=0.5) or [*sorted(HOLDS), "open_*_drawer_*"]
            raise KeyError(f"no SimplerEnv expert for task {task!r}; there are experts for {', '.join(near)}")
        self._script = PickAndPlace(HOLDS[task]) if task in HOLDS else PullOpen()

    @staticmethod
    def knows(task: str) -> bool:
        """Whether there is an expert for the task."""
        return task in HOLDS or DRAWERS.fullmatch(task) is not None

    def act(self, seen: Mapping[str, npt.NDArray[Any]], step: int) -> npt.NDArray[np.float64]:
        """The next action, [1, 7]."""
        return self._script.act(seen)[None]
