"""press_by_colour: three buttons on the table, the instruction names one. Nothing to remember."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.buttons import Buttons, hover_score, start_hand
from envs.lab.parts import COLOUR_NAMES, Parts, button
from envs.lab.task import LabTask, Trial
from envs.lab.world import World
from envs.spec import Advance

COUNT = 3
COLOURS = COLOUR_NAMES[:4]
PHRASES = (
    "press the {} button",
    "push the {} button",
    "press the button that is {}",
    "touch the {} button and push it down",
)
PARTS = Parts("".join(button(f"button{i}") for i in range(COUNT)))


class PressByColour(Trial):
    """Press the named button and no other. Score: 0.3 for coming down over it, 1 for pressing it."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        self.buttons = Buttons(world, COUNT)
        self.buttons.scatter(rng, spacing=0.13)
        colours = rng.permutation(len(COLOURS))[:COUNT]
        self.buttons.paint(colours)
        self.goal = int(rng.integers(COUNT))
        self.instruction = str(rng.choice(PHRASES)).format(COLOURS[colours[self.goal]])
        start_hand(world, rng)

    def judge(self) -> Advance:
        pressed = self.buttons.newly_pressed()
        self.score = max(self.score, hover_score(self.world, self.buttons.xy[self.goal]))
        return self.decide(pressed, self.goal)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        return self.buttons.seen()

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("goal", np.array(self.goal))]


TASKS = (LabTask("press_by_colour", PARTS, PressByColour),)
