"""Expert of stack."""

from __future__ import annotations

import numpy as np

from policies.expert.lab import Seen
from policies.expert.lab.moves import (
    BLOCK_HALF,
    TRAVEL,
    Action,
    HandPose,
    carry,
    colours_in,
    grasp,
    holds,
    leave,
    turned_clear,
)

HIGH = TRAVEL + 0.03
"""Height of the hand's ways with a block that must clear another, metres."""


class Stack:
    """Grasp the first named block, carry it over the second, let go; fetch it again if it fell."""

    def __init__(self, instruction: str) -> None:
        self._upper, self._lower = colours_in(instruction)[:2]

    def act(self, seen: Seen) -> Action:
        hand, colours = HandPose.of(seen), list(seen["block_colours"])
        upper, lower = (seen["blocks"][colours.index(colour)] for colour in (self._upper, self._lower))
        gap = upper[:3] - lower[:3]
        if holds(hand, upper):
            goal = (lower[0], lower[1], lower[2] + 2 * BLOCK_HALF + 0.003)
            return carry(hand, upper, goal, travel=HIGH)
        if np.hypot(gap[0], gap[1]) < 0.03 and abs(gap[2] - 2 * BLOCK_HALF) < 0.01:
            return leave(hand)
        obstacles = [(b[0], b[1], BLOCK_HALF) for b in seen["blocks"]]
        return grasp(hand, turned_clear(upper, obstacles))


SCRIPTS = {"stack": Stack}
