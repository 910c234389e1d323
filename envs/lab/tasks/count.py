"""count_blocks: put exactly two or three blocks into a box nobody can look into, with a press between.

After each block but the last the yellow button is pressed, after the last the red one. The present frame never shows
what was done: a block sinks through the box's dark lid and comes up at a new place on the table, so that there are
always four, and the buttons spring back. (A policy that wrote the count into its own pose could do without memory;
the expert's pose depends on what is to be done next, and on nothing else.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.blocks import Blocks
from envs.lab.buttons import Buttons, scatter, start_hand
from envs.lab.parts import BLOCK_HALF, COLOUR_NAMES, DARK, Colour, Parts, block, button, rgba, tray
from envs.lab.task import GOING, LOST, WON, LabTask, Trial
from envs.lab.world import World
from envs.spec import Advance

TOTAL = 4
"""Blocks on the table, always."""
SPARE = 3
"""Places where blocks come up again, drawn with the layout."""
GOALS = (2, 3)
WORDS = {2: "two", 3: "three"}
NEXT, LAST = 0, 1
"""The yellow and the red button."""
BOX_HALF, BOX_HEIGHT, LID = 0.06, 0.09, 0.08
BOX: Colour = (0.80, 0.74, 0.62)
SUNK = 0.05
"""A block whose middle is this low inside the box has gone in."""
PHRASES = (
    "put exactly {} blocks into the box; press the yellow button after each block but the last, then the red one",
    "move {} blocks from the table into the box, pressing yellow between the blocks and red at the end",
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
        field = sorted((-self.side * 0.21, self.side * 0.02))
        places = scatter(rng, TOTAL + SPARE, 0.09, x=(field[0], field[1]), y=(-0.14, 0.15))
        self.blocks.lay(places[:TOTAL], rng)
        self.spare = [(*places[TOTAL + i], rng.uniform(-np.pi / 4, np.pi / 4)) for i in range(SPARE)]
        self.put_in = 0
        self.to_press = False
        self.instruction = str(rng.choice(PHRASES)).format(WORDS[self.goal])
        start_hand(world, rng, opening=0.04)

    def _come_up(self, index: int) -> None:
        """Lay a sunk block at the spare place that has most room; it falls there from above if that is not enough."""
        others = [self.blocks.place(i)[:2] for i in range(TOTAL) if i != index]
        room = [min(np.hypot(*(np.array(spare[:2]) - other)) for other in others) for spare in self.spare]
        x, y, yaw = self.spare.pop(int(np.argmax(room)))
        free = max(room) > 3.2 * BLOCK_HALF
        self.world.lay(f"block{index}", (x, y, BLOCK_HALF + (0.001 if free else 0.08)), yaw)

    def judge(self) -> Advance:
        for index in range(TOTAL):
            place = self.blocks.place(index)
            if place[2] < SUNK and np.all(np.abs(place[:2] - self.box) < BOX_HALF):
                if self.to_press:
                    return self._wrong()
                self.put_in += 1
                self.to_press = True
                self._come_up(index)
        if all(self.blocks.gone(index) for index in range(TOTAL)):
            return LOST
        return self._judge_presses()

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
        """`blocks` [4, 4], from left to right, so that their order tells nothing; `box` [2]; the buttons."""
        poses = self.blocks.poses()
        return {"blocks": poses[np.argsort(poses[:, 0])], "box": self.box.copy(), **self.buttons.seen()}

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("goal", np.array(self.goal)), ("spare", np.array(self.spare))]


TASKS = (LabTask("count_blocks", PARTS, CountBlocks),)
