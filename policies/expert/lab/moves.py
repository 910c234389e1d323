"""How the lab experts move: always towards a goal, from wherever the hand is now."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Action = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

STEP, TURN = 0.02, 0.1
"""Metres and radians of one full action (envs/lab: the environment's action units)."""
TRAVEL = 0.12
"""Height at which the hand moves sideways, metres."""
GAIN = 0.8

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "pink", "white")
"""The lab's colour words, in the order of their numbers in privileged state (a test keeps the two lists equal)."""


def colours_in(instruction: str) -> list[int]:
    """Numbers of the colours a sentence names, in the order it names them."""
    return [COLOURS.index(word) for word in re.findall(r"[a-z]+", instruction.lower()) if word in COLOURS]


@dataclass(frozen=True)
class HandPose:
    """The hand as privileged state gives it: tip (metres), angles (radians), finger openings (metres)."""

    tip: Vector
    roll: float
    pitch: float
    yaw: float
    opening: float

    @classmethod
    def of(cls, seen: Mapping[str, npt.NDArray[Any]]) -> HandPose:
        x, y, z, roll, pitch, yaw, left, right = (float(number) for number in seen["hand"])
        return cls(np.array([x, y, z]), roll, pitch, yaw, (left + right) / 2)

    def away(self, xy: Sequence[float] | Vector) -> float:
        """Horizontal distance to xy, metres."""
        return float(np.hypot(self.tip[0] - xy[0], self.tip[1] - xy[1]))


def stay(hand: HandPose, *, closed: bool) -> Action:
    """Hold still."""
    return steer(hand, hand.tip, closed=closed, yaw=hand.yaw)


def steer(hand: HandPose, goal: Sequence[float] | Vector, *, closed: bool, yaw: float = 0.0) -> Action:
    """One action [7] straight towards tip position `goal` [3], levelling the hand and turning it to `yaw`."""
    move = np.clip(GAIN / STEP * (np.asarray(goal) - hand.tip), -1.0, 1.0)
    turn = np.clip(GAIN / TURN * np.array([-hand.roll, -hand.pitch, yaw - hand.yaw]), -1.0, 1.0)
    return np.array([*move, *turn, -1.0 if closed else 1.0])


def down_on(
    hand: HandPose,
    xy: Sequence[float] | Vector,
    low: float,
    *,
    closed: bool,
    yaw: float = 0.0,
    travel: float = TRAVEL,
    exact: float = 0.012,
) -> Action:
    """One action of: rise if low and off target, go sideways at `travel`, come straight down to `low` over xy.

    exact: sideways error in metres under which the hand starts down; on its way down twice that is let pass, so that a
    small slip does not send it up again.
    """
    off = hand.away(xy)
    if off <= (exact if hand.tip[2] > travel - 0.02 else 2 * exact):
        return steer(hand, (xy[0], xy[1], low), closed=closed, yaw=yaw)
    if hand.tip[2] < travel - 0.025:
        return steer(hand, (hand.tip[0], hand.tip[1], travel), closed=closed, yaw=hand.yaw)
    return steer(hand, (xy[0], xy[1], travel), closed=closed, yaw=yaw)


BLOCK_HALF = 0.025
"""Half the edge of the lab's blocks, metres."""
FINGER_ROOM = 0.03
"""What an open finger takes beside a block, metres."""
GRIP_DEPTH = 0.012
"""How far below a block's centre the tip is when the fingers close, metres."""


def holds(hand: HandPose, block: Vector) -> bool:
    """Whether the closed fingers have this block ([4]: x, y, z, yaw) between them."""
    near = hand.away(block[:2]) < 0.015 and -0.01 < block[2] - hand.tip[2] < 0.045
    return near and abs(hand.opening - BLOCK_HALF) < 0.003


def turned_clear(block: Vector, obstacles: Sequence[tuple[float, float, float]]) -> Vector:
    """The block ([4]) with its yaw a quarter turn on where a finger would else come down on an obstacle close by.

    obstacles: x, y and half the edge of squares standing near, metres. A cube can be held either way.
    """
    x, y, _, yaw = (float(number) for number in block)
    gaps = [
        (np.clip(x, ox - half, ox + half) - x, np.clip(y, oy - half, oy + half) - y)
        for ox, oy, half in obstacles
        if (ox, oy) != (x, y)
    ]
    near = min(gaps, key=lambda gap: float(np.hypot(*gap)), default=(1.0, 1.0))
    if np.hypot(*near) > BLOCK_HALF + FINGER_ROOM:
        return block
    along = abs(near[0] * np.cos(yaw) + near[1] * np.sin(yaw))
    across = abs(near[1] * np.cos(yaw) - near[0] * np.sin(yaw))
    if along <= across:
        return block
    return np.array([x, y, block[2], yaw - np.pi / 2 if yaw >= 0 else yaw + np.pi / 2])


def grasp(hand: HandPose, block: Vector, *, travel: float = TRAVEL) -> Action:
    """One action towards holding this block ([4]: x, y, z, yaw): open, over it, down, close; again if it slipped."""
    x, y, z, yaw = (float(number) for number in block)
    low = max(z - GRIP_DEPTH, 0.006)
    deep = hand.tip[2] < low + 0.012
    turned = abs(hand.yaw - yaw) < 0.15
    if deep and turned and hand.away((x, y)) < 0.014 and hand.opening > BLOCK_HALF - 0.006:
        return steer(hand, (x, y, low), closed=True, yaw=yaw)
    if hand.opening < 0.032 or not turned:  # get ready above it, so that nothing is swept aside
        clear = max(hand.tip[2], min(travel, z + 0.07))
        if hand.tip[2] < clear - 0.02:
            return steer(hand, (hand.tip[0], hand.tip[1], clear), closed=False, yaw=hand.yaw)
        goal = (x, y, clear) if hand.tip[2] > travel - 0.025 else (hand.tip[0], hand.tip[1], clear)
        return steer(hand, goal, closed=False, yaw=yaw)
    return down_on(hand, (x, y), low, closed=False, yaw=yaw, travel=travel, exact=0.007)


def carry(hand: HandPose, block: Vector, goal: Sequence[float] | Vector, *, travel: float = TRAVEL) -> Action:
    """One action of taking the block that is held ([4]) so that its centre comes to goal [3], where it is let go."""
    shift = block[:3] - hand.tip
    target = np.asarray(goal) - shift
    if hand.away(target[:2]) < 0.010 and hand.tip[2] < target[2] + 0.008:
        return steer(hand, target, closed=False, yaw=hand.yaw)
    return down_on(hand, target[:2], float(target[2]), closed=True, yaw=0.0, travel=travel, exact=0.008)


def leave(hand: HandPose) -> Action:
    """One action straight up with the fingers open."""
    return steer(hand, (hand.tip[0], hand.tip[1], TRAVEL), closed=False, yaw=hand.yaw)
