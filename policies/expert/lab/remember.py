"""Experts of the tasks in which something was shown and is gone. A fresh one, which has seen nothing, takes whatever is
nearest to the hand: chance, and as good as any other guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from policies.expert.lab import Seen
from policies.expert.lab.moves import TRAVEL, Action, HandPose, down_on, stay
from policies.expert.lab.press import PRESSED


def nearest(hand: HandPose, places: npt.NDArray[Any]) -> int:
    """Row of `places` [n, 2 or more] nearest to the hand, horizontally."""
    return int(np.argmin([hand.away(place) for place in places]))


class RememberColour:
    """Keep the colour the lamp shows; when the hand is free, press the button of that colour."""

    def __init__(self, instruction: str) -> None:
        self._colour: float | None = None

    def act(self, seen: Seen) -> Action:
        hand = HandPose.of(seen)
        if seen["lamp"][0] >= 0:
            self._colour = float(seen["lamp"][0])
        if seen["locked"][0]:
            return stay(hand, closed=True)
        buttons, colours = seen["buttons"], list(seen["button_colours"])
        row = nearest(hand, buttons) if self._colour is None else colours.index(self._colour)
        return down_on(hand, buttons[row, :2], PRESSED, closed=True)


class PressOrder:
    """Keep the order of the lights and the presses made."""

    DEEP = 0.014
    """Height of a top that is pressed down, metres (it stands at 0.022)."""

    def __init__(self, instruction: str) -> None:
        self._order: list[int] = []
        self._made = 0

    def act(self, seen: Seen) -> Action:
        hand, buttons = HandPose.of(seen), seen["buttons"]
        self._order += [row for row, lit in enumerate(seen["lit"]) if lit and row not in self._order]
        if seen["locked"][0]:
            return stay(hand, closed=True)
        if self._made < len(self._order) and buttons[self._order[self._made], 2] < self.DEEP:
            self._made += 1
        row = self._order[self._made] if self._made < len(self._order) else nearest(hand, buttons)
        return down_on(hand, buttons[row, :2], PRESSED, closed=True)


class ShellGame:
    """Keep the cup that came down over the ball."""

    PRESSED = 0.055
    """Tip height that presses a cup home, metres (its top is at 0.075)."""

    def __init__(self, instruction: str) -> None:
        self._cup: int | None = None

    def act(self, seen: Seen) -> Action:
        hand, cups, ball = HandPose.of(seen), seen["cups"], seen["ball"]
        if np.isfinite(ball).all():
            self._cup = int(np.argmin(np.hypot(cups[:, 0] - ball[0], cups[:, 1] - ball[1])))
        if seen["locked"][0]:
            return stay(hand, closed=True)
        row = nearest(hand, cups) if self._cup is None else self._cup
        return down_on(hand, cups[row, :2], self.PRESSED, closed=True, travel=TRAVEL + 0.02)


SCRIPTS = {
    "remember_colour_3": RememberColour,
    "remember_colour_3_shuffled": RememberColour,
    "remember_colour_5": RememberColour,
    "remember_colour_9": RememberColour,
    "press_order": PressOrder,
    "press_order_marked": PressOrder,
    "shell_game": ShellGame,
}
