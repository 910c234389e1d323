"""Scripted experts of the lab benchmark, one module a task family.

A module's `SCRIPTS` maps task names to scripts; they are found there, so a new task is one more module. All of them
steer by the present state and never by a count of steps: wherever the hand was pushed, they know what to do next. What
they remember (a lamp's colour, presses made) is on the object, and a fresh object has forgotten it.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from envs.spec import EnvSpec

Seen = Mapping[str, npt.NDArray[Any]]


class Steering(Protocol):
    """One family's script for one episode: `act` gives the next action, [7], from the present state."""

    def __init__(self, instruction: str) -> None: ...

    def act(self, seen: Seen) -> npt.NDArray[np.float64]: ...


@lru_cache(maxsize=1)
def lab_scripts() -> dict[str, type[Steering]]:
    """All scripts by task name."""
    found: dict[str, type[Steering]] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        found.update(getattr(importlib.import_module(f"{__name__}.{module}"), "SCRIPTS", {}))
    return found


class LabScript:
    """The expert of any lab task. Raises KeyError, suggesting the nearest name, for a task without a script."""

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None:
        scripts = lab_scripts()
        if task not in scripts:
            near = difflib.get_close_matches(task, scripts, n=3, cutoff=0.5) or sorted(scripts)
            raise KeyError(f"no lab expert for task {task!r}; there are experts for {', '.join(near)}")
        if env.action.dim != 7 or env.action.absolute:
            raise ValueError(f"the lab experts steer by 7 delta numbers, but the environment takes {env.action}")
        self._script = scripts[task](instruction)

    def act(self, seen: Seen, step: int) -> npt.NDArray[np.float64]:
        """The next action, [1, 7]."""
        return self._script.act(seen)[None]
