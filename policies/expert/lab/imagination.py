"""Experts of lab_imagination. They read what one picture shows and go to where the thing *will* be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from policies.expert.lab import Seen
from policies.expert.lab.moves import TURN, Action, HandPose, Vector

SLOW_STEP = 0.012
"""Metres of one full action in these tasks: the hand is slowed (envs/lab/tasks)."""


def head_for(hand: HandPose, goal: Sequence[float] | Vector, *, closed: bool, yaw: float = 0.0) -> Action:
    """One action [7] towards tip position `goal` [3], each axis as fast as it can, the hand levelled and at `yaw`."""
    move = np.clip((np.asarray(goal) - hand.tip) / SLOW_STEP, -1.0, 1.0)
    turn = np.clip(0.8 / TURN * np.array([-hand.roll, -hand.pitch, yaw - hand.yaw]), -1.0, 1.0)
    return np.array([*move, *turn, -1.0 if closed else 1.0])


def thrown_back(x: float, low: float, high: float) -> float:
    """Where a straight run to x ends between two walls that throw back like mirrors."""
    while not low <= x <= high:
        x = 2 * low - x if x < low else 2 * high - x
    return x


class CatchPuck:
    """To where the launcher's aim, thrown back at the walls, meets the line; that never changes in a trial."""

    PUCK_RADIUS = 0.028
    LOW = 0.02

    def __init__(self, instruction: str) -> None:
        pass

    def act(self, seen: Seen) -> Action:
        x, y, aim = (float(number) for number in seen["aim"])
        line = float(seen["line"][0])
        left, right = seen["walls"] + (self.PUCK_RADIUS, -self.PUCK_RADIUS)
        cross = thrown_back(x + (y - line) * math.tan(aim), left, right)
        return head_for(HandPose.of(seen), (cross, line, self.LOW), closed=True)


SCRIPTS = {"catch_puck": CatchPuck}
