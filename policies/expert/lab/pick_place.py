"""Expert of pick_place_by_colour."""

from __future__ import annotations

from policies.expert.lab import Seen
from policies.expert.lab.moves import Action, HandPose, carry, colours_in, grasp, holds

RELEASE = 0.025
"""Tip height at which the block is let go over the tray, metres."""


class PickPlaceByColour:
    """Grasp the named block, carry it over the tray, let go; whatever slips is fetched again."""

    def __init__(self, instruction: str) -> None:
        self._colour = colours_in(instruction)[0]

    def act(self, seen: Seen) -> Action:
        hand = HandPose.of(seen)
        block = seen["blocks"][list(seen["block_colours"]).index(self._colour)]
        if holds(hand, block):
            return carry(hand, seen["tray"], RELEASE)
        return grasp(hand, block)


SCRIPTS = {"pick_place_by_colour": PickPlaceByColour}
