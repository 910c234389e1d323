"""Expert of pick_place_by_colour."""

from __future__ import annotations

import numpy as np

from policies.expert.lab import Seen
from policies.expert.lab.moves import BLOCK_HALF, Action, HandPose, carry, colours_in, grasp, holds, leave, turned_clear

LET_GO = 0.036
"""Height of the block's centre at which it is let go in the tray, metres."""
TRAY_HALF = 0.066
"""Half the outer edge of the tray, metres."""
INSIDE = 0.05
"""A block this close to the tray's middle lies in it, metres."""


class PickPlaceByColour:
    """Grasp the named block, carry it over the tray, let go; whatever slips is fetched again."""

    def __init__(self, instruction: str) -> None:
        self._colour = colours_in(instruction)[0]

    def act(self, seen: Seen) -> Action:
        hand = HandPose.of(seen)
        block = seen["blocks"][list(seen["block_colours"]).index(self._colour)]
        if holds(hand, block):
            return carry(hand, block, (*seen["tray"], LET_GO))
        if np.all(np.abs(block[:2] - seen["tray"]) < INSIDE) and block[2] < LET_GO:
            return leave(hand)
        tray = seen["tray"]
        obstacles = [(tray[0], tray[1], TRAY_HALF), *((b[0], b[1], BLOCK_HALF) for b in seen["blocks"])]
        return grasp(hand, turned_clear(block, obstacles))


SCRIPTS = {"pick_place_by_colour": PickPlaceByColour}
