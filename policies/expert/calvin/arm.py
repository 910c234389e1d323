"""Arm: straight moves of the tool as generators of relative actions."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from envs.spec import ActionSpec
from policies.expert.calvin.view import Array, View

Steps = Generator[Array, None, None]

HIGH, LOW = 0.68, 0.6
"""Heights (m) at which the tool travels: above the handles of the cabinet, above the table."""
CABINET = -0.09
"""Beyond this y (m) handles are in the way."""
FRONT = -0.13
"""Where (y, m) the tool goes up and down before the cabinet."""
DOWN = np.pi
LEVEL_YAW = np.pi / 2


def shifted(place: Array, x: float, y: float, z: float) -> Array:
    """A place moved by so many metres."""
    return np.asarray(place + np.array((x, y, z)))


class Arm:
    """The tool, moved through its target pose. `view` is replaced before every step."""

    def __init__(self, view: View, spec: ActionSpec) -> None:
        self.view = view
        self._units = np.array([spec.translation_unit] * 3 + [spec.rotation_unit] * 3)
        self._open, self._closed = spec.gripper.open, spec.gripper.closed
        self.closed = view.closing
        self.yaw, self.pitch = LEVEL_YAW, 0.0

    def action(self, goal: Array, speed: float = 1.0) -> Array:
        """One action [7] that brings the target towards `goal` (position 3, Euler angles 3)."""
        move = np.clip((goal - self.view.target) / self._units, -speed, speed)
        return np.array([*move, self._closed if self.closed else self._open])

    def to(self, place: Sequence[float] | Array, *, speed: float = 1.0, near: float = 0.006, limit: int = 90) -> Steps:
        """Straight to a place [3], at the present yaw and pitch; ends near it, or when the tool has stopped short."""
        goal = np.array([*place, DOWN, self.pitch, self.yaw])
        stalled, before = 0, self.view.tool
        for _ in range(limit):
            there = np.abs(goal - self.view.target).max() < 1e-3
            if there and np.linalg.norm(self.view.tool - goal[:3]) < near:
                return
            stalled = stalled + 1 if there and np.linalg.norm(self.view.tool - before) < 5e-4 else 0
            if stalled >= 6:
                return
            before = self.view.tool
            yield self.action(goal, speed)

    def turn(self, yaw: float, pitch: float = 0.0, *, speed: float = 1.0) -> Steps:
        """Turn where it is."""
        self.yaw, self.pitch = yaw, pitch
        yield from self.to(self.view.target[:3], speed=speed, near=0.02)

    def wait(self, steps: int) -> Steps:
        """Hold the target."""
        goal = self.view.target.copy()
        for _ in range(steps):
            yield self.action(goal)

    def grip(self, *, closed: bool) -> Steps:
        """Close or open the fingers, and wait until they have."""
        self.closed = closed
        yield from self.wait(10)

    def rise(self, height: float = HIGH) -> Steps:
        """Straight up from where it is, turning upright on the way."""
        x, y, z = self.view.tool
        self.yaw, self.pitch = float(self.view.target[5]), float(self.view.target[4])
        yield from self.to((x, y, max(z, height)), near=0.02)

    def over(
        self, place: Sequence[float] | Array, *, yaw: float = LEVEL_YAW, pitch: float = 0.0, speed: float = 1.0
    ) -> Steps:
        """From anywhere to straight above a place, at travelling height, round the handles of the cabinet."""
        x, y, z = self.view.tool
        if y > CABINET:
            yield from self.rise(HIGH)
            yield from self.to((x, FRONT, HIGH), speed=speed, near=0.03)
        elif z < LOW - 0.01:
            yield from self.rise(LOW)
        self.yaw, self.pitch = yaw, pitch
        if place[1] > CABINET:
            yield from self.to((place[0], FRONT, LOW), speed=speed, near=0.03)
        height = HIGH if place[1] > CABINET else LOW
        yield from self.to((place[0], place[1], height), speed=speed, near=0.02)
        yield from self.to((place[0], place[1], height), near=0.008, limit=15)
