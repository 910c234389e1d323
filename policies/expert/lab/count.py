"""Expert of count_blocks. A fresh one has counted nothing, so it fetches blocks for ever."""

from __future__ import annotations

import re

import numpy as np

from policies.expert.lab import Seen
from policies.expert.lab.moves import (
    BLOCK_HALF,
    TRAVEL,
    Action,
    HandPose,
    Vector,
    carry,
    colours_in,
    down_on,
    grasp,
    holds,
    turned_clear,
)
from policies.expert.lab.press import PRESSED

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
HIGH = TRAVEL + 0.03
"""Height of ways with a block in hand: it must clear the box, metres."""
LET_GO = 0.10
"""Height of the block's middle over the box's lid when it is let go, metres."""
INSIDE = 0.06
"""Half the inner edge of the box, metres."""
BOX_HALF = 0.066
"""Half the outer edge of the box, metres."""
REACH = (0.304, 0.244)
"""Blocks further from the table's middle than this are left alone, metres."""
DEEP = 0.014
"""Height of a button's top that is pressed down, metres (it stands at 0.022)."""


class CountBlocks:
    """Remembers how many blocks sank into the box, and whether the last of them was answered by a press."""

    def __init__(self, instruction: str) -> None:
        words = re.findall(r"[a-z]+", instruction.lower())
        self._goal = next(NUMBERS[word] for word in words if word in NUMBERS and NUMBERS[word] > 1)
        self._next, self._last = colours_in(instruction)[:2]
        self._over_box = False
        self._put = 0
        self._to_press = False

    def act(self, seen: Seen) -> Action:
        hand, blocks, box = HandPose.of(seen), seen["blocks"], seen["box"]
        held = [block for block in blocks if holds(hand, block)]
        self._count(blocks, box, bool(held))
        if self._to_press:
            return self._press(hand, seen)
        if held:
            return carry(hand, held[0], (*box, LET_GO), travel=HIGH)
        obstacles = [(box[0], box[1], BOX_HALF), *((b[0], b[1], BLOCK_HALF) for b in blocks)]
        return grasp(hand, turned_clear(self._choose(hand, blocks, box), obstacles))

    def _count(self, blocks: Vector, box: Vector, held: bool) -> None:
        """A block that was over the box, is not there any more and is not in the hand has sunk into it."""
        over = bool(np.any(np.all(np.abs(blocks[:, :2] - box) < INSIDE, axis=1)))
        if self._over_box and not over and not held:
            self._put += 1
            self._to_press = True
        self._over_box = over

    def _press(self, hand: HandPose, seen: Seen) -> Action:
        colour = self._last if self._put == self._goal else self._next
        row = list(seen["button_colours"]).index(colour)
        if seen["buttons"][row, 2] < DEEP:
            self._to_press = False
        return down_on(hand, seen["buttons"][row, :2], PRESSED, closed=True)

    @staticmethod
    def _choose(hand: HandPose, blocks: Vector, box: Vector) -> Vector:
        """The nearest block in reach that is not falling into the box already."""
        good = [b for b in blocks if np.all(np.abs(b[:2]) < REACH) and b[2] > 0 and np.hypot(*(b[:2] - box)) > 0.08]
        outside = good or list(blocks)
        return min(outside, key=lambda block: hand.away(block[:2]))


SCRIPTS = {"count_blocks": CountBlocks}
