"""What is shown, apart from what is: upstream hides and moves things for the picture only.

The tasks' `evaluate` hides cubes and cups by writing poses 1,000 m up. They were written for ManiSkill's GPU physics,
where such a write changes the buffer the renderer reads and is forgotten at the next step. In CPU physics the same
write really moves the body: the cubes of RememberColor then never come back and the task cannot be solved, and the cups
of ShellGame come back falling (mikasa-robo-suite 1.0.0, rl/memory_envs). Here the writes are caught, so that the
physics is the one the published scores were made with, and are carried out when something is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import sapien
import torch
from mani_skill.utils.structs.actor import Actor
from mani_skill.utils.structs.pose import Pose
from sapien.render import RenderBodyComponent

HIDDEN = 100.0
"""What is shown above this height (m) is hidden: upstream uses 1,000."""


VELOCITIES = ("linear_velocity", "angular_velocity")


class Shown:
    """The poses `evaluate` wrote, and their drawing. One for each built environment.

    evaluated: what upstream's `evaluate` returned last.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        self._evaluate = env.evaluate
        self.evaluated: dict[str, Any] = {}
        self._poses: dict[str, Any] = {}
        self._ghosts: dict[str, tuple[sapien.Entity, Any]] = {}
        self._scene: Any = None
        env.evaluate = self._watched

    def _watched(self) -> dict[str, Any]:
        """Upstream's `evaluate`, with the poses of things read from and written to a buffer; then its part of the
        observation, since some tasks note there what their reward needs, and without pictures nobody asks for it."""
        self._poses = {}
        with _caught(self._poses):
            self.evaluated = self._evaluate()
            self._env._get_obs_extra(self.evaluated)
        return self.evaluated

    def position(self, name: str) -> npt.NDArray[np.float64]:
        """Where the thing is shown, [3] (m, world); not-a-number where it is hidden."""
        actor = self._env.scene.state_dict_registry.actors[name]
        place = _numbers(self._poses.get(name, actor.pose.raw_pose))[:3]
        return np.full(3, np.nan) if place[2] > HIDDEN else place

    def parts(self) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
        """Everything shown elsewhere than it is, by name."""
        for name in sorted(self._poses):
            yield f"shown/{name}", _numbers(self._poses[name])

    @contextmanager
    def staged(self) -> Iterator[None]:
        """While this lasts, pictures show things where they are shown. Bodies are not touched: those that are shown
        elsewhere are made invisible, and copies without a body stand in for them."""
        if self._scene is not self._env.scene:  # built anew: the copies went with the old one
            self._scene, self._ghosts = self._env.scene, {}
        changed = []
        for name, pose in self._poses.items():
            actor = self._env.scene.state_dict_registry.actors[name]
            if np.array_equal(_numbers(pose), _numbers(actor.pose.raw_pose)):
                continue
            body = actor._objs[0].find_component_by_type(RenderBodyComponent)
            body.visibility = 0
            changed.append(body)
            if _numbers(pose)[2] <= HIDDEN:
                ghost, copy = self._ghost(name, body)
                ghost.pose = Pose.create(torch.as_tensor(_numbers(pose), dtype=torch.float32)[None]).sp
                copy.visibility = 1
        try:
            yield
        finally:
            for body in changed:
                body.visibility = 1
            for _, copy in self._ghosts.values():
                copy.visibility = 0

    def _ghost(self, name: str, body: Any) -> tuple[sapien.Entity, Any]:
        if name not in self._ghosts:
            ghost, copy = sapien.Entity(), body.clone()
            ghost.name = f"shown_{name}"
            ghost.add_component(copy)
            self._env.scene.sub_scenes[0].add_entity(ghost)
            self._ghosts[name] = (ghost, copy)
        return self._ghosts[name]


@contextmanager
def _caught(poses: dict[str, Any]) -> Iterator[None]:
    """While this lasts, `Actor.pose` is written to `poses`, and read from there once it was written; velocities that
    are written are dropped, since in GPU physics they are forgotten in the same way."""
    upstream = Actor.pose
    still = {name: getattr(Actor, name) for name in VELOCITIES}

    def read(actor: Any) -> Any:
        return Pose.create(poses[actor.name]) if actor.name in poses else upstream.fget(actor)

    def write(actor: Any, pose: Any) -> None:
        raw = pose if isinstance(pose, torch.Tensor) else Pose.create(pose).raw_pose
        poses[actor.name] = raw.clone()

    Actor.pose = property(read, write)
    for name, kept in still.items():
        setattr(Actor, name, property(kept.fget, lambda actor, value: None))
    try:
        yield
    finally:
        Actor.pose = upstream
        for name in VELOCITIES:
            delattr(Actor, name)  # they are its parent's


def _numbers(pose: Any) -> npt.NDArray[np.float64]:
    """A batched pose of one as [7] numbers, xyz then quaternion wxyz."""
    raw: npt.NDArray[np.float64] = np.asarray(pose.detach().cpu().numpy(), dtype=np.float64).reshape(7)
    return raw
