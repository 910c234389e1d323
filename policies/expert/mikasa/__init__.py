"""The scripted expert of MIKASA-Robo. It steers by the present state; what was shown and is gone is on the object, and
a fresh object has forgotten it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from envs.spec import EnvSpec
from policies.expert.mikasa.intercept import Intercept
from policies.expert.mikasa.recall import RememberColor, ShellGame

Seen = Mapping[str, npt.NDArray[Any]]


class Steering(Protocol):
    """One task's script for one episode: `act` gives the next action, [7], from the present state."""

    def act(self, seen: Seen) -> npt.NDArray[np.float64]: ...


SCRIPTS: dict[str, type[Steering]] = {
    "shell_game_touch": ShellGame,
    "intercept_medium": Intercept,
    "remember_color_3": RememberColor,
    "remember_color_5": RememberColor,
    "remember_color_9": RememberColor,
}


class MikasaScript:
    """The expert of any of the tasks. Raises KeyError, suggesting the nearest name, for a task without a script."""

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None:
        if task not in SCRIPTS:
            near = difflib.get_close_matches(task, SCRIPTS, n=3, cutoff=0.5) or sorted(SCRIPTS)
            raise KeyError(f"no MIKASA-Robo expert for task {task!r}; there are experts for {', '.join(near)}")
        self._script = SCRIPTS[task]()

    def act(self, seen: Seen, step: int) -> npt.NDArray[np.float64]:
        """The next action, [1, 7]."""
        return self._script.act(seen)[None]
