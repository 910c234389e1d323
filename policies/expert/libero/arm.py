"""Moving the gripper: poses into OSC actions, step by step, with feedback.

Every motion is a generator: it yields one action [7] at a time and reads `arm.scene`, which holds the moment after the
last one; its return value says how it ended.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from scipy.spatial.transform import Rotation

from envs.spec import ActionSpec
from policies.expert.libero.grasp import TIP
from policies.expert.libero.scene import Array, Pose, Scene

Moves = Generator[Array, None, bool]
Steps = Generator[Array, None, None]


class Arm:
    """The gripper and the moment it acts in. `scene` is renewed before every step."""

    def __init__(self, scene: Scene, action: ActionSpec) -> None:
        self.scene = scene
        self.closed = False
        self._action = action
        self._previous: Pose | None = None

    @property
    def hand(self) -> Pose:
        return self.scene.hand

    def toward(self, position: Array, rotation: Array, speed: float = 1.0) -> Array:
        """The action that takes the gripper nearest to a pose in one step; speed in (0, 1]."""
        spec = self._action
        move = (position - self.hand.position) / spec.translation_unit
        turn = Rotation.from_matrix(rotation @ self.hand.rotation.T).as_rotvec() / spec.rotation_unit
        move *= min(1.0, speed / max(float(np.abs(move).max()), 1e-9))
        turn *= min(1.0, 1.0 / max(float(np.abs(turn).max()), 1e-9))
        grip = spec.gripper.closed if self.closed else spec.gripper.open
        return np.array([*move, *turn, grip])

    def go(
        self,
        position: Array,
        rotation: Array,
        *,
        within: float = 0.005,
        turned: float = 0.06,
        speed: float = 1.0,
        steps: int = 60,
    ) -> Moves:
        """Go straight to a pose. False: not there after so many steps, or no longer coming nearer."""
        best, since = np.inf, 0
        for _ in range(steps):
            apart = float(np.linalg.norm(position - self.hand.position))
            angle = float(Rotation.from_matrix(rotation @ self.hand.rotation.T).magnitude())
            if apart < within and angle < turned:
                return True
            since = 0 if apart + 0.05 * angle < best - 0.0005 else since + 1
            best = min(best, apart + 0.05 * angle)
            if since > 8:
                return False
            yield self.toward(position, rotation, speed)
        return False

    def grip(self, closed: bool, steps: int = 10) -> Steps:
        """Open or close where the gripper is."""
        self.closed = closed
        hold = self.hand
        before = np.inf
        for k in range(steps):
            yield self.toward(hold.position, hold.rotation)
            if k > 3 and abs(self.scene.opening - before) < 0.0008:
                return
            before = self.scene.opening

    def travel(self, position: Array, rotation: Array, *, carrying: tuple[int, ...] = (), drop: float = 0.0) -> Moves:
        """Go to a pose over whatever lies between: up, across, and down to it.

        carrying: the bodies held; drop: how far they hang below the gripper's point.
        """
        scene, start = self.scene, self.hand
        low = max(TIP, drop)
        over = scene.highest_between(start.position, position, carrying, 0.07) + low + 0.025
        over = max(over, position[2])
        if start.position[2] < over - 0.01 and np.linalg.norm(start.position[:2] - position[:2]) > 0.02:
            up = np.array([*start.position[:2], over])
            yield from self.go(up, start.rotation, within=0.015, turned=3.2)
        across = np.array([*position[:2], over])
        yield from self.go(across, rotation, within=0.012, turned=0.15, steps=90)
        return (yield from self.go(position, rotation, within=0.004))
