"""The expert that brings a rolling ball to a target: it flies along over the ball, comes down around it, closes the
fingers and carries it there. The task asks for nothing but the ball's being over the target."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from policies.expert.mikasa.recall import UNIT, Action, Seen

STEP = 0.05
"""Seconds of one control step."""
FOLLOWS = 0.43
"""Part of a commanded change that the arm has made after one step, once it moves (measured)."""
REACH = 0.66
"""How far from its base the tool can work near the table, m."""


class Intercept:
    """Steers by the present state alone: wherever arm and ball are, it knows what to do next."""

    HOVER = 0.10
    GRASP = 0.02
    CARRY = 0.035
    """Heights of the tool over the table, m: on the way, at the ball, with the ball."""
    ROUND = 0.016
    """How far off the tool's middle the ball may be and still lie between the fingers, m."""

    def act(self, seen: Seen) -> Action:
        tool, ball = seen["tool"][:3], seen["ball"]
        pace = seen["ball_velocity"][:2] * STEP
        meet = ball[:2] + pace  # where it will be when this step is over
        off = float(np.hypot(*(tool[:2] - ball[:2])))
        if off < 0.03 and abs(tool[2] - ball[2]) < 0.02 and seen["opening"][0] < 0.06:
            return _action(seen, np.array([*seen["goal"][:2], self.CARRY]), np.zeros(2), grip=-1.0, most=0.6)
        away = np.hypot(*(meet - seen["base"][:2]))
        if away > REACH:
            return _action(seen, np.array([*self._wait(seen), self.HOVER]), np.zeros(2), grip=1.0)
        near = off < self.ROUND or (off < 2 * self.ROUND and tool[2] < 0.06)
        close = near and tool[2] < 0.035
        height = self.GRASP if near else self.HOVER
        return _action(seen, np.array([*meet, height]), pace, grip=-1.0 if close else 1.0)

    @staticmethod
    def _wait(seen: Seen) -> npt.NDArray[np.float64]:
        """The point of the ball's line at which it comes into reach."""
        place, speed = seen["ball"][:2] - seen["base"][:2], seen["ball_velocity"][:2]
        a, b, c = speed @ speed, place @ speed, place @ place - (REACH - 0.03) ** 2
        root = b * b - a * c
        if a < 1e-6 or root < 0:
            return np.asarray(seen["tool"][:2], dtype=np.float64)
        return np.asarray(seen["base"][:2] + place + speed * max(0.0, (-b - np.sqrt(root)) / a))


def _action(seen: Seen, target: npt.NDArray[Any], pace: npt.NDArray[Any], *, grip: float, most: float = 1.0) -> Action:
    """Go to `target` [3] (m, world), which moves on by `pace` [2] (m) a step; no faster than `most` of full speed."""
    change = target - seen["tool"][:3]
    change[:2] += pace * (1.0 / FOLLOWS - 1.0)
    move = np.clip(change / UNIT, -most, most)
    return np.array([*move, 0.0, 0.0, 0.0, grip])
