"""remember_colour_3, _5, _9: a lamp shows a colour and goes out; press the button of that colour.

While the lamp shines and for `WAIT` steps after, the hand is locked: where it stands cannot carry the answer. The
colours of remember_colour_3 keep their places (moved a little); those of _5 and _9 are shuffled, and so are those of
remember_colour_3_shuffled, which no suite of ours lists.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.buttons import Buttons, hover_score, scatter, start_hand
from envs.lab.parts import COLOUR_NAMES, COLOURS, Parts, button, lamp
from envs.lab.task import LabTask, Trial
from envs.lab.world import Vector, World
from envs.spec import Advance

CUE = (15, 21)
"""The lamp shines for so many steps (first included, last not): 3 policy calls at least at 5 steps a call."""
WAIT = (10, 16)
"""... and the hand stays locked for so many more."""
LAMP_AT = (-0.22, 0.20)
PHRASES = (
    "press the button of the colour that the lamp showed",
    "remember the colour of the lamp and press the button of that colour",
    "push the button that has the colour the lamp had",
    "the lamp shows a colour: press the button of the same colour",
)


def _parts(count: int) -> Parts:
    radius = 0.045 if count <= 5 else 0.04
    return Parts("".join(button(f"button{i}", radius) for i in range(count)) + lamp("lamp"))


def _places(rng: np.random.Generator, count: int) -> Vector:
    """Three in a row, five anywhere, nine on a board; the board as a whole and each button moved a little."""
    field = (-0.14, 0.09)
    if count == 5:
        return scatter(rng, count, 0.12, y=field)
    if count == 3:
        grid, shake = np.array([(x, -0.02) for x in (-0.15, 0.0, 0.15)]), 0.018
    else:
        grid, shake = np.array([(x, y) for y in (-0.14, -0.02, 0.10) for x in (-0.13, 0.0, 0.13)]), 0.007
    return grid + rng.uniform(-0.015, 0.015, 2) + rng.uniform(-shake, shake, (count, 2))


class RememberColour(Trial):
    """The first press decides. Score: 0.3 for coming down over the right button, 1 for pressing it."""

    def __init__(self, world: World, rng: np.random.Generator, *, count: int, shuffled: bool) -> None:
        super().__init__(world, rng)
        self.buttons = Buttons(world, count)
        self.buttons.put(_places(rng, count))
        self.buttons.paint(rng.permutation(count) if shuffled else np.arange(count))
        self.goal = int(rng.integers(count))
        self.shown = int(self.buttons.colours[self.goal])
        self.cue_ends = int(rng.integers(*CUE))
        self.free = self.cue_ends + int(rng.integers(*WAIT))
        self.instruction = str(rng.choice(PHRASES))
        world.put("lamp", (*LAMP_AT, 0.0))
        world.paint("lamp", COLOURS[COLOUR_NAMES[self.shown]])
        start_hand(world, rng, aside=True)

    def locked(self) -> bool:
        return self.clock < self.free

    def judge(self) -> Advance:
        if self.clock + 1 == self.cue_ends:
            self.world.unpaint("lamp")
        pressed = self.buttons.newly_pressed()
        self.score = max(self.score, hover_score(self.world, self.buttons.xy[self.goal]))
        return self.decide(pressed, self.goal)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """The buttons, and `lamp` [1]: the number of the colour it shows now, -1 while it is off."""
        lit = self.shown if self.clock < self.cue_ends else -1
        return {**self.buttons.seen(), "lamp": np.array([float(lit)])}

    def cue(self) -> Vector:
        return self.buttons.pressed(self.goal) if self.clock < self.cue_ends else super().cue()

    def due(self) -> Vector:
        """The button of the colour, whichever a learner comes down on."""
        return self.buttons.pressed(self.goal)

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("goal", np.array(self.goal)), ("timing", np.array([self.cue_ends, self.free]))]


def _task(name: str, count: int, *, shuffled: bool) -> LabTask:
    return LabTask(name, _parts(count), partial(RememberColour, count=count, shuffled=shuffled))


TASKS = (
    _task("remember_colour_3", 3, shuffled=False),
    _task("remember_colour_3_shuffled", 3, shuffled=True),
    _task("remember_colour_5", 5, shuffled=True),
    _task("remember_colour_9", 9, shuffled=True),
)
