"""pick_place_by_colour: three blocks and a tray; the instruction names the block that goes in. Nothing to remember."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.blocks import LIFTED, Blocks
from envs.lab.buttons import scatter, start_hand
from envs.lab.parts import BLOCK_HALF, COLOUR_NAMES, Colour, Parts, block, tray
from envs.lab.task import GOING, LOST, WON, LabTask, Trial
from envs.lab.world import World
from envs.spec import Advance

COUNT = 3
COLOURS = COLOUR_NAMES[:4]
TRAY_HALF, TRAY_HEIGHT = 0.06, 0.025
TRAY: Colour = (0.80, 0.74, 0.62)
PHRASES = (
    "put the {} block into the tray",
    "place the {} block in the tray",
    "pick up the {} block and put it in the tray",
    "move the {} block to the tray",
)
PARTS = Parts(
    "".join(block(f"block{i}") for i in range(COUNT)) + tray("tray", TRAY_HALF, TRAY_HEIGHT, TRAY),
    timestep=0.005,
    substeps=10,
)


class PickPlaceByColour(Trial):
    """The first block let go in the tray decides. Score: 0.3 for lifting the right block, 0.6 for holding it over the
    tray, 1 for leaving it there."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        places = scatter(rng, COUNT + 1, spacing=0.125)
        self.tray = places[0]
        world.put("tray", (*self.tray, 0.0))
        self.blocks = Blocks(world, COUNT)
        self.blocks.lay(places[1:], rng)
        colours = rng.permutation(len(COLOURS))[:COUNT]
        self.blocks.paint(colours)
        self.goal = int(rng.integers(COUNT))
        self.instruction = str(rng.choice(PHRASES)).format(COLOURS[colours[self.goal]])
        start_hand(world, rng, opening=0.04)

    def judge(self) -> Advance:
        goal = self.blocks.place(self.goal)
        if goal[2] > BLOCK_HALF + LIFTED and self.blocks.held(self.goal):
            self.score = max(self.score, 0.6 if self._over_tray(goal) else 0.3)
        for i in range(COUNT):
            if self._left_in_tray(i):
                return self._decide(i)
        return LOST if self.blocks.gone(self.goal) else GOING

    def _decide(self, index: int) -> Advance:
        if index == self.goal:
            self.right_choices, self.score = 1, 1.0
            return WON
        self.wrong_choices = 1
        return LOST

    def _over_tray(self, place: npt.NDArray[np.float64]) -> bool:
        return bool(np.all(np.abs(place[:2] - self.tray) < TRAY_HALF - 0.01))

    def _left_in_tray(self, index: int) -> bool:
        place = self.blocks.place(index)
        inside = place[2] < BLOCK_HALF + 0.02 and self._over_tray(place)
        return inside and not self.blocks.held(index) and self.blocks.still(index)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        return {**self.blocks.seen(), "tray": self.tray.copy()}

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("goal", np.array(self.goal))]


TASKS = (LabTask("pick_place_by_colour", PARTS, PickPlaceByColour),)
