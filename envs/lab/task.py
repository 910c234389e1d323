"""What a lab task is: its parts, and a trial of it. To add one, write a module in envs/lab/tasks with `TASKS`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from envs.lab.parts import Parts
from envs.spec import Advance

if TYPE_CHECKING:
    from envs.lab.world import Vector, World

GOING = Advance(success=False)
WON = Advance(success=True, terminated=True)
LOST = Advance(success=False, terminated=True)


class Trial:
    """One start of one task, and its rules while it runs. Made anew at every reset, so it knows nothing of others.

    `__init__(world, rng)` places and paints everything and draws *all* chance of the episode from `rng`. A subclass
    sets `instruction` and fills in the hooks.
    """

    instruction: str = ""
    score: float = 0.0
    right_choices: int = 0
    wrong_choices: int = 0

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world = world
        self.rng = rng
        self.clock = 0

    def locked(self) -> bool:
        """Whether commands are ignored in the coming step (the palm is amber then). While a cue is shown they must be,
        and a little longer than a policy's chunk after it, so that the hand cannot carry what memory is to carry."""
        return False

    def drive(self) -> None:
        """Before the physics of step `clock`: lamps, scripted movers, launchers. Default: nothing moves."""

    def judge(self) -> Advance:
        """After the physics of step `clock`: did something succeed or end? Updates the score and the choices."""
        raise NotImplementedError

    def decide(self, chosen: list[int], goal: int) -> Advance:
        """The rule of tasks in which the first choice decides: chosen are the things picked in this step."""
        if not chosen:
            return GOING
        if chosen == [goal]:
            self.right_choices, self.score = 1, 1.0
            return WON
        self.wrong_choices, self.score = 1, 0.0
        return LOST

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """What a perfect observer of the present picture would know: float arrays. No hidden target, no inside of
        opaque things, no count of what was done. The environment adds `hand` [8] and `locked` [1], and for the labels
        of demonstrations `cue` [3] and `due` [3], which no expert steers by."""
        raise NotImplementedError

    def cue(self) -> Vector:
        """The place [3] (metres, in the world's frame) that what is shown now is about: where the hand must act because
        of it, sooner or later. NaN while nothing is shown."""
        return np.full(3, np.nan)

    def due(self) -> Vector:
        """The place [3] where the hand would have to act if it could now, seen or not. Where it acts in the end may be
        another place: things move that it waits for, or somebody else drives it. NaN: it is the same place."""
        return np.full(3, np.nan)

    def hidden(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        """Every choice of this trial that the physics state does not show (targets, orders, timings), for the hash."""
        return ()

    def metrics(self) -> dict[str, float]:
        """`score` in [0, 1], `right_choices`, `wrong_choices`; a task may add more."""
        return {
            "score": float(self.score),
            "right_choices": float(self.right_choices),
            "wrong_choices": float(self.wrong_choices),
        }


@dataclass(frozen=True)
class LabTask:
    """A task: its name, the parts of its scene, and how a trial of it starts."""

    name: str
    parts: Parts
    start: Callable[[World, np.random.Generator], Trial]


@lru_cache(maxsize=1)
def lab_tasks() -> dict[str, LabTask]:
    """All tasks by name: the `TASKS` of every module in envs/lab/tasks. Raises ValueError for a name used twice."""
    package = importlib.import_module("envs.lab.tasks")
    found: dict[str, LabTask] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        for task in getattr(importlib.import_module(f"envs.lab.tasks.{module}"), "TASKS", ()):
            if task.name in found:
                raise ValueError(f"two lab tasks are called {task.name!r}")
            found[task.name] = task
    return found


def lab_task(name: str) -> LabTask:
    """The task of that name. Raises KeyError suggesting the nearest."""
    tasks = lab_tasks()
    if name in tasks:
        return tasks[name]
    near = difflib.get_close_matches(name, tasks, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(tasks)}"
    raise KeyError(f"unknown lab task {name!r}; {hint}")


def trial_generator(seed: int, task: str, trial: int) -> np.random.Generator:
    """The generator of everything a trial chooses: keyed by (scene seed, task, trial) through SHA-256."""
    digest = hashlib.sha256(f"lab|{seed}|{task}|{trial}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
