"""Experts of lab_imagination. They read what one picture shows and go to where the thing *will* be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from policies.expert.lab import Seen
from policies.expert.lab.moves import TURN, Action, HandPose, Vector


def head_for(hand: HandPose, goal: Sequence[float] | Vector, step: float, *, closed: bool, yaw: float = 0.0) -> Action:
    """One action [7] towards tip position `goal` [3], each axis as fast as it can, the hand levelled and at `yaw`.

    step: metres an action of 1 moves the hand in this task (these tasks slow it down).
    """
    move = np.clip((np.asarray(goal) - hand.tip) / step, -1.0, 1.0)
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
    LOW, STEP = 0.02, 0.012

    def __init__(self, instruction: str) -> None:
        pass

    def act(self, seen: Seen) -> Action:
        x, y, aim = (float(number) for number in seen["aim"])
        line = float(seen["line"][0])
        left, right = seen["walls"] + (self.PUCK_RADIUS, -self.PUCK_RADIUS)
        cross = thrown_back(x + (y - line) * math.tan(aim), left, right)
        return head_for(HandPose.of(seen), (cross, line, self.LOW), self.STEP, closed=True)


class InterceptBall:
    """To the nearest point of the ball's line over the mat, and there in its way."""

    LOW, STEP = 0.02, 0.008
    INSET = 0.02
    """How far inside the mat's edges the ball is met, metres."""

    def __init__(self, instruction: str) -> None:
        pass

    def act(self, seen: Seen) -> Action:
        hand = HandPose.of(seen)
        x, y, aim = (float(number) for number in seen["aim"])
        ys = np.linspace(seen["mat"][0] + self.INSET, seen["mat"][1] - self.INSET, 13)
        xs = x + (y - ys) * math.tan(aim)
        nearest = int(np.argmin(np.maximum(np.abs(xs - hand.tip[0]), np.abs(ys - hand.tip[1]))))
        return head_for(hand, (xs[nearest], ys[nearest], self.LOW), self.STEP, closed=True)


class ConveyorPick:
    """Across to the belt at a clear height, down ahead of the block or upon it, along with it, close, up.

    The fingers open across the belt, so a low hand that is in line with the block lets it come between them.
    """

    STEP = 0.010
    CLEAR, LOW = 0.085, 0.032
    """Tip heights: over the block, and gripping it, metres."""
    APART = 0.045
    """The hand may be low and out of line only while the block is further upstream than this, metres."""
    HALF = 0.025
    """Half the block's edge, metres."""

    def __init__(self, instruction: str) -> None:
        pass

    def act(self, seen: Seen) -> Action:
        hand = HandPose.of(seen)
        x, y, z, yaw = (float(number) for number in seen["blocks"][0])
        run, end = float(seen["belt"][1]) * 0.05, float(seen["belt"][2])
        aside, gap = x - hand.tip[0], y - hand.tip[1]
        between = abs(aside) < 0.015 and abs(gap) < 0.026 and 0.0 < z - hand.tip[2] < 0.03
        if between and (hand.opening < 0.036 or abs(gap) < 0.018):
            gripped = hand.opening < self.HALF + 0.003
            up = hand.tip[2] + 2 * self.STEP if gripped else self.LOW
            return head_for(hand, (x, y - run, up), self.STEP, closed=True, yaw=hand.yaw)
        in_line = abs(aside) < 0.012 and abs(hand.yaw - yaw) < 0.15 and hand.opening > 0.034
        steps = abs(aside) / self.STEP + 1
        before = y - run * steps - self.APART
        ahead = hand.opening > 0.034 and before > max(end, hand.tip[1] - self.STEP * steps)
        if ahead and not in_line:
            return head_for(hand, (x, min(before, 0.20), self.LOW), self.STEP, closed=False, yaw=yaw)
        low = self.LOW if in_line else self.CLEAR
        beside = hand.tip[2] < self.CLEAR - 0.02 and abs(aside) < 0.10 and abs(gap) < 0.10
        if beside and not in_line:
            return head_for(hand, (hand.tip[0], hand.tip[1], self.CLEAR), self.STEP, closed=False, yaw=hand.yaw)
        meet = y - run * (max(abs(aside), abs(low - hand.tip[2])) / self.STEP + 2)
        return head_for(hand, (x, min(meet, 0.20), low), self.STEP, closed=False, yaw=yaw)


SCRIPTS = {
    "catch_puck": CatchPuck,
    "intercept_ball": InterceptBall,
    "conveyor_low": ConveyorPick,
    "conveyor_mid": ConveyorPick,
    "conveyor_high": ConveyorPick,
}
