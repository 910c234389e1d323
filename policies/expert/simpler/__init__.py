"""The scripted expert of SimplerEnv-Bridge: a grasp from above, real contact and all, and a drop on the target."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.spec import EnvSpec
from policies.expert.simpler.pick_place import HOLDS, PickAndPlace


class SimplerScript:
    """The expert of any of the four tasks. Raises KeyError, suggesting the nearest name, for another."""

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None:
        if task not in HOLDS:
            near = difflib.get_close_matches(task, HOLDS, n=3, cutoff=0.5) or sorted(HOLDS)
            raise KeyError(f"no SimplerEnv expert for task {task!r}; there are experts for {', '.join(near)}")
        self._script = PickAndPlace(HOLDS[task])

    def act(self, seen: Mapping[str, npt.NDArray[Any]], step: int) -> npt.NDArray[np.float64]:
        """The next action, [1, 7]."""
        return self._script.act(seen)[None]
