"""stack: three blocks; the instruction names which goes on which. Nothing to remember."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.blocks import LIFTED, Blocks
from envs.lab.buttons import scatter, start_hand
from envs.lab.parts import BLOCK_HALF, COLOUR_NAMES, Parts, block
from envs.lab.task import GOING, LOST, WON, LabTask, Trial
from envs.lab.world import World
from envs.spec import Advance

COUNT = 3
COLOURS = COLOUR_NAMES[:4]
PHRASES = (
    "stack the {} block on the {} block",
    "put the {} block on top of the {} block",
    "place the {} block onto the {} one",
    "build a tower with the {} block on the {} block",
)
PARTS = Parts("".join(block(f"block{i}") for i in range(COUNT)), timestep=0.005, substeps=10)


class Stack(Trial):
    """The first block let go on top of another decides. Score: 0.3 for lifting the right block, 0.6 for holding it
    above the right one, 1 when it rests there."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        self.blocks = Blocks(world, COUNT)
        self.blocks.lay(scatter(rng, COUNT, spacing=0.125), rng)
        colours = rng.permutation(len(COLOURS))[:COUNT]
        self.blocks.paint(colours)
        self.upper, self.lower = (int(i) for i in rng.permutation(COUNT)[:2])
        names = COLOURS[colours[self.upper]], COLOURS[colours[self.lower]]
        self.instruction = str(rng.choice(PHRASES)).format(*names)
        start_hand(world, rng, opening=0.04)

    def judge(self) -> Advance:
        if self.blocks.gone(self.upper) or self.blocks.gone(self.lower):
            return LOST
        places = [self.blocks.place(i) for i in range(COUNT)]
        upper, lower = places[self.upper], places[self.lower]
        if upper[2] > BLOCK_HALF + LIFTED and self.blocks.held(self.upper):
            above = np.hypot(*(upper - lower)[:2]) < BLOCK_HALF and upper[2] > lower[2] + 1.6 * BLOCK_HALF
            self.score = max(self.score, 0.6 if above else 0.3)
        for i in range(COUNT):
            under = self._rests_on(i, places)
            if under is not None:
                return self._decide(i, under)
        return GOING

    def _rests_on(self, index: int, places: list[npt.NDArray[np.float64]]) -> int | None:
        """The block on which this one was left and rests, if any."""
        if places[index][2] < 2.5 * BLOCK_HALF:
            return None
        for other, place in enumerate(places):
            gap = places[index] - place
            on_it = abs(gap[2] - 2 * BLOCK_HALF) < 0.008 and np.hypot(gap[0], gap[1]) < 1.4 * BLOCK_HALF
            if other != index and on_it and not self.blocks.held(index) and self.blocks.still(index):
                return other
        return None

    def _decide(self, index: int, under: int) -> Advance:
        if (index, under) == (self.upper, self.lower):
            self.right_choices, self.score = 1, 1.0
            return WON
        self.wrong_choices = 1
        return LOST

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        return self.blocks.seen()

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("goal", np.array([self.upper, self.lower]))]


TASKS = (LabTask("stack", PARTS, Stack),)
