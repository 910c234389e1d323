"""open_drawer: a cabinet with two drawers; the instruction names one by its handle's colour. Nothing to remember."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.buttons import start_hand
from envs.lab.parts import COLOUR_NAMES, COLOURS, Colour, Parts, fixed_box, rgba
from envs.lab.task import GOING, LOST, WON, LabTask, Trial
from envs.lab.world import World
from envs.spec import Advance

NAMED = COLOUR_NAMES[:4]
WOOD: Colour = (0.62, 0.46, 0.30)
FRONT: Colour = (0.80, 0.68, 0.50)
TRAVEL = 0.11
"""How far a drawer can be pulled out, metres."""
OPENED, WRONG = 0.08, 0.04
"""The named drawer is open when this far out; another one further than the second is the wrong choice."""
SIDE = 0.095
"""Drawers stand this far left and right of the cabinet's middle."""
HANDLE_OUT, HANDLE_UP = 0.048, 0.05
"""The bar's distance from the drawer's front and height over the table, metres."""
PHRASES = (
    "open the drawer with the {} handle",
    "pull the {} handle to open its drawer",
    "pull open the drawer that has a {} handle",
    "open the drawer whose handle is {}",
)


def _drawer(index: int) -> str:
    """One drawer: front, floor, sides and bar, sliding out towards the viewer. Only the hand moves it."""
    x = (index - 0.5) * 2 * SIDE
    hand_only = 'contype="0" conaffinity="2"'
    look = f'{hand_only} rgba="{rgba(FRONT)}"'
    posts = "".join(
        f'<geom type="box" size="0.006 {HANDLE_OUT / 2} 0.006" pos="{s * 0.05} {-HANDLE_OUT / 2} {HANDLE_UP}" {look} '
        'mass="0.01"/>'
        for s in (-1, 1)
    )
    return f"""
    <body name="drawer{index}" pos="{x} 0 0">
      <joint name="drawer{index}" type="slide" axis="0 -1 0" range="0 {TRAVEL}" limited="true" damping="15"/>
      <geom type="box" size="0.08 0.005 0.045" pos="0 0.005 0.05" mass="0.2" {look}/>
      <geom type="box" size="0.075 0.05 0.003" pos="0 0.06 0.02" mass="0.1" {look}/>
      <geom type="box" size="0.003 0.05 0.03" pos="-0.072 0.06 0.045" mass="0.05" {look}/>
      <geom type="box" size="0.003 0.05 0.03" pos="0.072 0.06 0.045" mass="0.05" {look}/>
      {posts}
      <geom name="handle{index}" type="box" size="0.056 0.008 0.012" pos="0 {-HANDLE_OUT} {HANDLE_UP}" mass="0.05"
        {hand_only}/>
    </body>"""


def _cabinet() -> str:
    walls = "".join(
        fixed_box(f"cabinet_{name}", half, pos, WOOD)
        for name, half, pos in (
            ("top", (0.19, 0.065, 0.004), (0.0, 0.067, 0.102)),
            ("back", (0.19, 0.004, 0.05), (0.0, 0.128, 0.05)),
            ("left", (0.004, 0.065, 0.05), (-0.186, 0.067, 0.05)),
            ("middle", (0.004, 0.065, 0.05), (0.0, 0.067, 0.05)),
            ("right", (0.004, 0.065, 0.05), (0.186, 0.067, 0.05)),
        )
    )
    return f'<body name="cabinet" mocap="true">{walls}{_drawer(0)}{_drawer(1)}</body>'


PARTS = Parts(_cabinet())


class OpenDrawer(Trial):
    """Pull the named drawer out by 8 cm. Score: 0.3 for getting hold of its handle, then with the way, 1 when open."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        self.yaw = float(rng.uniform(-0.15, 0.15))
        self.stand = np.array([rng.uniform(-0.03, 0.03), rng.uniform(0.09, 0.13)])
        world.put("cabinet", (*self.stand, 0.0), self.yaw)
        self.colours = rng.permutation(len(NAMED))[:2]
        for i, colour in enumerate(self.colours):
            world.paint(f"handle{i}", COLOURS[NAMED[colour]])
        self.goal = int(rng.integers(2))
        self.instruction = str(rng.choice(PHRASES)).format(NAMED[self.colours[self.goal]])
        start_hand(world, rng)

    def judge(self) -> Advance:
        pulled = [self.world.slide(f"drawer{i}") for i in range(2)]
        if pulled[1 - self.goal] > WRONG:
            self.wrong_choices = 1
            return LOST
        if pulled[self.goal] > OPENED:
            self.right_choices, self.score = 1, 1.0
            return WON
        if pulled[self.goal] > 0.01:
            self.score = max(self.score, 0.3 + 0.6 * pulled[self.goal] / OPENED)
        return GOING

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """`handles` [2, 3]: middles of the bars, metres; `handle_colours` [2]; `pull` [2]: the way drawers open."""
        out = np.array([np.sin(self.yaw), -np.cos(self.yaw)])
        along = np.array([np.cos(self.yaw), np.sin(self.yaw)])
        handles = [
            self.stand + (2 * i - 1) * SIDE * along + (HANDLE_OUT + self.world.slide(f"drawer{i}")) * out
            for i in range(2)
        ]
        return {
            "handles": np.column_stack([np.array(handles), np.full(2, HANDLE_UP)]),
            "handle_colours": self.colours.astype(np.float64),
            "pull": out,
        }

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("goal", np.array(self.goal))]


TASKS = (LabTask("open_drawer", PARTS, OpenDrawer),)
