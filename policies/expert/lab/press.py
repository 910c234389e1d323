"""Expert of press_by_colour."""

from __future__ import annotations

from policies.expert.lab import Seen
from policies.expert.lab.moves import Action, HandPose, colours_in, down_on

PRESSED = 0.008
"""Tip height that presses a button home, metres."""


class PressByColour:
    """Over the named button, then straight down."""

    def __init__(self, instruction: str) -> None:
        self._colour = colours_in(instruction)[0]

    def act(self, seen: Seen) -> Action:
        row = list(seen["button_colours"]).index(self._colour)
        return down_on(HandPose.of(seen), seen["buttons"][row, :2], PRESSED, closed=True)


SCRIPTS = {"press_by_colour": PressByColour}
