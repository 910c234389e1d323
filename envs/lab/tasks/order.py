"""press_order: three buttons light up one after the other; press them in that order. Pressed and unpressed look alike.
press_order_marked: the same, and a button that was pressed in its turn stays green, so that the lights alone must be
remembered and not the presses.

The hand is locked until a little after the last light.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.buttons import Buttons, start_hand
from envs.lab.parts import COLOUR_NAMES, COLOURS, Colour, Parts, button
from envs.lab.task import GOING, LOST, WON, LabTask, Trial
from envs.lab.world import Vector, World
from envs.spec import Advance

COUNT = 3
BLUE, GREEN = COLOUR_NAMES.index("blue"), COLOUR_NAMES.index("green")
LIT: Colour = (1.0, 0.96, 0.45)
FIRST, FLASH, GAP = (2, 6), 10, 5
"""Steps before the first light (drawn), of each light (two policy calls at 5 steps a call), between two."""
WAIT = (10, 16)
"""The hand stays locked for so many steps after the last light."""
EACH = 0.3
"""Score of each right press; having made all adds what is left to 1."""
PHRASES = (
    "press the buttons in the order in which they lit up",
    "watch the lights, then press the buttons in the same order",
    "push the three buttons in the order of their lights",
    "repeat the order of the lights on the buttons",
)
PARTS = Parts("".join(button(f"button{i}") for i in range(COUNT)))


class PressOrder(Trial):
    """The first press out of order ends it. Pressing the last right one once more counts for nothing."""

    marks = False
    """Whether what was pressed can be seen."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        self.buttons = Buttons(world, COUNT)
        self.buttons.scatter(rng, spacing=0.14)
        self.buttons.paint([BLUE] * COUNT)
        self.order = [int(i) for i in rng.permutation(COUNT)]
        self.first = int(rng.integers(*FIRST))
        self.free = self.first + COUNT * (FLASH + GAP) - GAP + int(rng.integers(*WAIT))
        self.instruction = str(rng.choice(PHRASES))
        self._shown = -1
        start_hand(world, rng, aside=True)

    def locked(self) -> bool:
        return self.clock < self.free

    def lit(self, clock: int) -> int:
        """The button that shines after so many steps, -1 for none."""
        turn, since = divmod(clock - self.first, FLASH + GAP)
        return self.order[turn] if 0 <= turn < COUNT and since < FLASH else -1

    def judge(self) -> Advance:
        self._show(self.lit(self.clock + 1))
        for index in self.buttons.newly_pressed():
            if self.right_choices and index == self.order[self.right_choices - 1]:
                continue
            if index != self.order[self.right_choices]:
                self.wrong_choices = 1
                return LOST
            self.right_choices += 1
            if self.marks:
                self.buttons.paint([GREEN if i in self.order[: self.right_choices] else BLUE for i in range(COUNT)])
            self.score = EACH * self.right_choices
            if self.right_choices == COUNT:
                self.score = 1.0
                return WON
        return GOING

    def _show(self, lit: int) -> None:
        if lit != self._shown:
            self._shown = lit
            for i in range(COUNT):
                self.world.paint(f"button{i}_cap", LIT if i == lit else COLOURS["blue"])

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """The buttons, and `lit` [3]: 1 for the button that shines now."""
        lit = self.lit(self.clock)
        return {**self.buttons.seen(), "lit": np.array([float(i == lit) for i in range(COUNT)])}

    def cue(self) -> Vector:
        """The button that shines, whose turn may come later."""
        lit = self.lit(self.clock)
        return super().cue() if lit < 0 else self.buttons.pressed(lit)

    def due(self) -> Vector:
        """The button whose turn it is, whatever the hand is doing: a learner's own right press, or a push that happens
        to press one, is no turn of the demonstrator's."""
        if self.right_choices == COUNT:
            return super().due()
        return self.buttons.pressed(self.order[self.right_choices])

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("order", np.array(self.order)), ("timing", np.array([self.first, self.free]))]


class MarkedPressOrder(PressOrder):
    """`press_order` whose pressed buttons stay green."""

    marks = True


TASKS = (LabTask("press_order", PARTS, PressOrder), LabTask("press_order_marked", PARTS, MarkedPressOrder))
