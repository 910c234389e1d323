"""LiberoScript: the scripted expert of LIBERO, part of the goal by part, until all hold."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.spec import EnvSpec
from policies.expert.libero.arm import Arm, Moves, Steps
from policies.expert.libero.grasp import facing_down, search, yaw_of
from policies.expert.libero.scene import Array, Goal, Scene


class LiberoScript:
    """One episode (see policies.expert.Script). It knows the goal from the privileged state, not from the words."""

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None:
        self._env = env
        self._arm: Arm | None = None
        self._program: Generator[Array, None, None] | None = None
        self.log: list[str] = []

    def act(self, seen: Mapping[str, npt.NDArray[Any]], step: int) -> npt.ArrayLike:
        """The next action, float [1, 7]."""
        scene = Scene(seen)
        if self._arm is None or self._program is None:
            self._arm = Arm(scene, self._env.action)
            self._program = self._run(self._arm)
        self._arm.scene = scene
        return next(self._program)[None]

    def _run(self, arm: Arm) -> Steps:
        tries = 0
        while True:
            todo = [goal for goal in arm.scene.goals if not goal.holds]
            if todo:
                yield from self._achieve(arm, todo[tries % len(todo)], tries)
                tries += 1
            yield arm.toward(arm.hand.position, arm.hand.rotation)

    def _achieve(self, arm: Arm, goal: Goal, tries: int) -> Steps:
        if goal.predicate in ("on", "in"):
            yield from pick_and_place(arm, goal, tries, self.log)


def pick_and_place(arm: Arm, goal: Goal, tries: int, log: list[str]) -> Moves:
    name, place = goal.names
    held = yield from pick(arm, name, tries, log)
    if not held:
        return False
    return (yield from put(arm, name, place, goal.predicate, log))


def pick(arm: Arm, name: str, tries: int, log: list[str]) -> Moves:
    """Take hold of an object from above and lift it a little."""
    scene = arm.scene
    arm.closed = False
    bodies = scene.bodies(name)
    thing = scene.points(bodies)
    middle = scene.pose(name).position
    others = scene.obstacles(middle, 0.25, bodies)
    grasps = search(thing, others, scene.table(middle), arm.hand.rotation, scene.base)
    if not grasps:
        log.append(f"no grasp of {name}")
        up = arm.hand.position + [0, 0, 0.05]
        yield from arm.go(up, arm.hand.rotation, within=0.01)
        return False
    grasp = grasps[min(tries * 3, len(grasps) - 1)]
    log.append(f"grasp {grasp.position.round(3)} score {grasp.score:.2f} of {len(grasps)}")
    above = grasp.position + [0, 0, 0.06]
    rotation = arm.lean(above, grasp.rotation)
    yield from arm.travel(above, rotation)
    down = yield from arm.go(grasp.position, rotation, within=0.003, speed=0.5)
    log.append(f"down {down} {arm.hand.position.round(3)}")
    yield from arm.grip(True, 14)
    start = arm.scene.pose(name).position[2]
    lift = arm.hand.position + [0, 0, 0.06]
    yield from arm.go(lift, rotation, within=0.012, speed=0.6)
    risen = arm.scene.pose(name).position[2] - start
    log.append(f"opening {arm.scene.opening:.4f} risen {risen:.3f}")
    return bool(risen > 0.02)


def put(arm: Arm, name: str, place: str, predicate: str, log: list[str]) -> Moves:
    """Carry a held object over a place, lower it and let go."""
    scene = arm.scene
    bodies = tuple(scene.bodies(name))
    target = scene.pose(place).position
    if predicate == "in" or not scene.is_object(place):
        target = scene.pose(place).position
    level = facing_down(yaw_of(arm.hand.rotation))
    hang = arm.hand.position[2] - scene.points(bodies)[:, 2].min()
    offset = arm.hand.position[:2] - scene.pose(name).position[:2]
    spot = target[:2] + offset
    top = scene.highest_between(spot, spot, bodies, 0.05)
    over = np.array([*spot, top + hang + 0.03])
    rotation = arm.lean(over, level)
    yield from arm.travel(over, rotation, carrying=bodies, drop=hang)
    lowest, stuck = arm.hand.position[2], 0
    for _ in range(70):
        scene = arm.scene
        now = scene.pose(name).position
        if np.linalg.norm(now - arm.hand.position) > 0.2:
            log.append("dropped")
            return False
        if any(goal.holds for goal in scene.goals if goal.names == (name, place)):
            break
        if stuck == 5:
            yield from arm.bend()
        aside = scene.pose(place).position[:2] - now[:2]
        effort = 1.0 + 0.4 * max(stuck - 2, 0)
        down = 0.02 if np.linalg.norm(aside) < 0.03 else 0.005
        yield arm.toward(arm.hand.position + effort * np.array([*aside, -down]), rotation)
        stuck = 0 if arm.hand.position[2] < lowest - 0.001 else stuck + 1
        lowest = min(lowest, arm.hand.position[2])
        if stuck > 8 and np.linalg.norm(aside) < 0.015 or stuck > 16:
            break
    log.append(f"put at {arm.scene.pose(name).position.round(3)} for {scene.pose(place).position.round(3)}")
    yield from arm.grip(False, 8)
    yield from arm.go(arm.hand.position + [0, 0, 0.1], rotation, within=0.02)
    return True
