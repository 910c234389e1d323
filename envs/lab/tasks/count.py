"""count_blocks: put exactly two or three blocks into a box nobody can look into, with a press between.

After each block but the last the yellow button is pressed, after the last the red one. Neither the buttons nor the box
show what was done: what is in the box has sunk through a dark lid, and how many blocks lay on the table is drawn anew
in each trial, so those that are left do not say it either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.blocks import Blocks
from envs.lab.buttons import Buttons, scatter, start_hand
from envs.lab.parts import COLOUR_NAMES, DARK, Colour, Parts, block, button, rgba, tray
from envs.lab.task import GOING, LOST, WON, LabTask, Trial
from envs.lab.world import World
from envs.spec import Advance

TOTAL = 6
"""Blocks there are; 4, 5 or 6 of them lie on the table, the others are out of sight from the start."""
GOALS = (2, 3)
WORDS = {2: "two", 3: "three"}
NEXT, LAST = 0, 1
"""The yellow and the red button."""
BOX_HALF, BOX_HEIGHT, LID = 0.06, 0.09, 0.08
BOX: Colour = (0.80, 0.74, 0.62)
SUNK = 0.05
"""A block whose middle is this low inside the box has gone in."""
CELLAR = -0.475
"""Where blocks out of sight lie: on the floor under the table, middle's height."""
PHRASES = (
    "put exactly {} blocks into the box; press the yellow button after each block but the last, then the red one",
    "clean {} blocks from the table into the box, pressing yellow between the blocks and red at the end",
    "drop {} blocks into the box one by one: yellow button after each, red button after the last",
    "count {} blocks into the box: press yellow between them and red when all of them are in",
)
_LID = (
    f'<geom name="lid" type="box" size="{BOX_HALF} {BOX_HALF} 0.001" pos="0 0 {LID}" rgba="{rgba(DARK)}" '
    'contype="0" conaffinity="0"/>'
)
PARTS = Parts(
    "".join(block(f"block{i}") for i in range(TOTAL))
    + button("button0", 0.04)
    + button("button1", 0.04)
    + tray("box", BOX_HALF, BOX_HEIGHT, BOX, inside=_LID),
    timestep=0.005,
    substeps=10,
)


class CountBlocks(Trial):
    """Any wrong press, and a second block without a press, ends it. Score: each block and each press alike, up to 0.9,
    and 1 when all are right."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        self.goal = int(rng.choice(GOALS))
        self.side = int(rng.choice((-1, 1)))
        self.box = np.array([self.side * rng.uniform(0.15, 0.17), rng.uniform(0.06, 0.10)])
        world.put("box", (*self.box, 0.0))
        self.buttons = Buttons(world, 2)
        self.buttons.paint([COLOUR_NAMES.index("yellow"), COLOUR_NAMES.index("red")])
        column = self.box[0] + rng.uniform(-0.012, 0.012, 2)
        self.buttons.put(np.column_stack([column, [-0.04, -0.14]]))
        self.blocks = Blocks(world, TOTAL)
        self.blocks.paint([COLOUR_NAMES.index("cyan")] * TOTAL)
        self.on_table = int(rng.integers(4, TOTAL + 1))
        field = sorted((-self.side * 0.21, self.side * 0.02))
        xy = scatter(rng, self.on_table, 0.095, x=(field[0], field[1]), y=(-0.14, 0.13))
        self.blocks.lay(xy, rng)
        for index in range(self.on_table, TOTAL):
            self._sink(index)
        self.sunk = set(range(self.on_table, TOTAL))
        self.put_in = 0
        self.to_press = False
        self.instruction = str(rng.choice(PHRASES)).format(WORDS[self.goal])
        start_hand(world, rng, opening=0.04)

    def _sink(self, index: int) -> None:
        """Through the lid, out of the way of those that come after it."""
        self.world.lay(f"block{index}", (0.1 * (index - 2.5), 0.1, CELLAR))

    def judge(self) -> Advance:
        for index in range(TOTAL):
            if index in self.sunk:
                continue
            place = self.blocks.place(index)
            inside = np.all(np.abs(place[:2] - self.box) < BOX_HALF)
            if inside and place[2] < SUNK:
                if self.to_press:
                    return self._wrong()
                self.put_in += 1
                self.to_press = True
                self.sunk.add(index)
                self._sink(index)
        if self._left() < self.goal - self.put_in:
            return LOST
        return self._judge_presses()

    def _left(self) -> int:
        """Blocks that can still be fetched."""
        return sum(index not in self.sunk and not self.blocks.gone(index) for index in range(TOTAL))

    def _judge_presses(self) -> Advance:
        for pressed in self.buttons.newly_pressed():
            if not self.to_press or pressed != (LAST if self.put_in == self.goal else NEXT):
                return self._wrong()
            self.right_choices += 1
            self.to_press = False
        self.score = 0.9 * (self.put_in + self.right_choices) / (2 * self.goal)
        if self.right_choices == self.goal:
            self.score = 1.0
            return WON
        return GOING

    def _wrong(self) -> Advance:
        self.wrong_choices = 1
        return LOST

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """`blocks` [6, 4]: those in sight from left to right, the rest NaN; `box` [2]; the buttons."""
        in_sight = [pose for i, pose in enumerate(self.blocks.poses()) if i not in self.sunk]
        blocks = np.full((TOTAL, 4), np.nan)
        if in_sight:
            blocks[: len(in_sight)] = sorted(in_sight, key=lambda pose: float(pose[0]))
        return {"blocks": blocks, "box": self.box.copy(), **self.buttons.seen()}

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("goal", np.array([self.goal, self.on_table]))]


TASKS = (LabTask("count_blocks", PARTS, CountBlocks),)
