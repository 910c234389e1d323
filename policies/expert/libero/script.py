"""LiberoScript: the scripted expert of LIBERO, part of the goal by part, until all hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from envs.spec import EnvSpec
from policies.expert.libero.arm import Arm, Steps
from policies.expert.libero.fixtures import close_door, close_drawer, open_drawer, turn
from policies.expert.libero.handling import drag, pick, put
from policies.expert.libero.scene import Goal, Scene

ORDER = ("open", "turnon", "turnoff", "in", "on", "close")
"""What is done first: a drawer is opened before things go in, and closed after."""


class LiberoScript:
    """One episode (see policies.expert.Script). It knows the goal from the privileged state, not from the words."""

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None:
        self._env = env
        self._arm: Arm | None = None
        self._program: Steps | None = None

    @property
    def notes(self) -> list[str]:
        """What was tried so far, for people."""
        return [] if self._arm is None else self._arm.notes

    def act(self, seen: Mapping[str, npt.NDArray[Any]], step: int) -> npt.ArrayLike:
        """The next action, float [1, 7]."""
        scene = Scene(seen)
        if self._arm is None or self._program is None:
            self._arm = Arm(scene, self._env.action)
            self._program = _program(self._arm)
        self._arm.scene = scene
        return next(self._program)[None]


def _program(arm: Arm) -> Steps:
    """For ever: one more try at a part of the goal that does not hold."""
    tries: dict[tuple[str, ...], int] = {}
    while True:
        yield arm.stay()
        todo = [goal for goal in arm.scene.goals if not goal.holds]
        if todo:
            goal = min(todo, key=lambda g: (tries.get((g.predicate, *g.names), 0), ORDER.index(g.predicate)))
            key = (goal.predicate, *goal.names)
            tries[key] = tries.get(key, 0) + 1
            yield from _achieve(arm, goal, tries[key] - 1)


def _achieve(arm: Arm, goal: Goal, tries: int) -> Steps:
    scene, name = arm.scene, goal.names[0]
    if goal.predicate in ("turnon", "turnoff"):
        yield from turn(arm, name, goal.predicate == "turnon", tries)
    elif goal.predicate == "open":
        yield from open_drawer(arm, name)
    elif goal.predicate == "close":
        if scene.joint(name).slides:
            yield from close_drawer(arm, name)
        else:
            yield from close_door(arm, name)
    else:
        yield from _move(arm, name, goal.names[1], tries)


def _move(arm: Arm, name: str, place: str, tries: int) -> Steps:
    """Bring an object on or into a place; a drawer is opened for it."""
    scene = arm.scene
    drawer = None if scene.is_object(place) else scene.drawer(place)
    if drawer is not None and abs(drawer.position) < 0.1:
        yield from open_drawer(arm, place)
    if scene.is_flat(name):
        yield from drag(arm, name, place)
    elif (yield from pick(arm, name, tries)):
        yield from put(arm, name, place)
