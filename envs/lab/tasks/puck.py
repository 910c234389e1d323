"""catch_puck: a launcher whose aim is in plain view sends a puck off between two walls; be where it crosses the line.

The puck creeps along the launcher's bar first (what is left of the bar shows when it will go), leaves at the muzzle
at a fixed speed along the bar, and bounces without loss. So one picture, any picture, fixes the whole future.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.movers import Foreseen, fixture, fold, heading, painted
from envs.lab.parts import COLOURS, DARK, Colour, Parts, rgba
from envs.lab.task import GOING, LOST, WON, LabTask
from envs.lab.world import World
from envs.spec import Advance

LINE = -0.13
"""y of the catching line, metres."""
PIVOT_Y, BAR_HALF = 0.20, 0.10
"""y of the launcher's middle and half its length, metres."""
AIM = math.radians(55)
"""Largest aim to either side, radians; 0 points straight at the line."""
RADIUS = 0.028
"""Of the puck, metres."""
CREEP, SPEED = 0.008, 0.045
"""Metres the puck moves per control step along the bar, and after it left."""
WAIT = (16, 22)
"""Control steps before the launch, fewest and most: three or four policy calls of five steps."""
CATCH_X, CATCH_Y, CATCH_Z = 0.04, 0.05, 0.07
"""The tip of the hand catches the puck when it is so close to where it crosses the line, and so low, metres."""
MISSED_BY = (0.06, 0.20)
"""The hand starts at least and at most so far (across) from where the puck will cross: standing still never wins."""
HAND_STEP = 0.012

WALL: Colour = (0.72, 0.70, 0.66)
PHRASES = (
    "catch the puck",
    "catch the puck at the white line",
    "stop the puck when it crosses the white line",
    "be where the puck crosses the line",
)
PARTS = Parts(
    painted((0.30, 0.006, 0.001), (0.0, LINE, 0.001), COLOURS["white"])
    + fixture("left_wall", painted((0.006, 0.21, 0.02), (-0.006, 0.04, 0.02), WALL))
    + fixture("right_wall", painted((0.006, 0.21, 0.02), (0.006, 0.04, 0.02), WALL))
    + fixture(
        "launcher",
        painted((0.020, BAR_HALF, 0.005), (0.0, 0.0, 0.005), COLOURS["blue"])
        + painted((0.030, 0.008, 0.004), (0.0, -BAR_HALF, 0.004), DARK),
    )
    + fixture(
        "puck",
        f'<geom name="puck" type="cylinder" size="{RADIUS} 0.008" pos="0 0 0.018" rgba="{rgba(COLOURS["red"])}" '
        'contype="0" conaffinity="0"/>',
    ),
    hand_step=HAND_STEP,
)


class CatchPuck(Foreseen):
    """Have the low hand within 4 cm (across) and 5 cm (along) of the puck when it crosses the line. Score: 0.5 within
    8 cm, 1 for the catch."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        self.launch = int(rng.integers(WAIT[0], WAIT[1] + 1))
        self.instruction = str(rng.choice(PHRASES))
        while not self._draw(rng):
            pass
        world.hand.start((self.start, LINE + rng.uniform(-0.02, 0.02), rng.uniform(0.03, 0.06)))
        world.put("left_wall", (self.walls[0], 0.0, 0.0))
        world.put("right_wall", (self.walls[1], 0.0, 0.0))
        world.put("launcher", (self.pivot, PIVOT_Y, 0.0), self.aim)
        self._place(0)

    def _draw(self, rng: np.random.Generator) -> bool:
        """Walls, launcher, landing point and start of the hand; False if they do not go together."""
        self.walls = np.array([-rng.uniform(0.19, 0.23), rng.uniform(0.19, 0.23)])
        low, high = self.walls[0] + RADIUS, self.walls[1] - RADIUS
        self.landing = float(rng.uniform(low, high))
        straight = (self.landing, 2 * low - self.landing, 2 * high - self.landing)[int(rng.integers(3))]
        """x at which the puck would cross the line if the wall it bounces off (none, left, right) were not there."""
        self.pivot = float(rng.uniform(-0.07, 0.07))
        self.way, self.aim = heading(straight - self.pivot, PIVOT_Y - LINE)
        self.start = float(rng.uniform(-0.08, 0.08))
        away = abs(self.landing - self.start)
        return abs(self.aim) <= AIM and MISSED_BY[0] < away < MISSED_BY[1]

    def at(self, gone: float) -> tuple[float, float]:
        """The puck's x, y when it has gone so many metres past the muzzle (negative: still on the bar)."""
        right, near = self.way
        x, y = self.pivot + (BAR_HALF + gone) * right, PIVOT_Y - (BAR_HALF + gone) * near
        return (fold(x, self.walls[0] + RADIUS, self.walls[1] - RADIUS) if gone > 0 else x), y

    def _place(self, clock: int) -> None:
        """Stand the puck where it is at the start of step `clock`."""
        late = clock - self.launch
        self.puck = self.at(SPEED * late if late >= 0 else CREEP * late)
        self.world.put("puck", (self.puck[0], self.puck[1], 0.0))

    def drive(self) -> None:
        self._place(self.clock + 1)

    def judge(self) -> Advance:
        if self.puck[1] > LINE:
            return GOING
        tip = self.world.hand.tip
        miss = abs(tip[0] - self.landing)
        low = abs(tip[1] - LINE) <= CATCH_Y and tip[2] <= CATCH_Z
        if low and miss <= CATCH_X:
            self.right_choices, self.score = 1, 1.0
            return WON
        self.wrong_choices, self.score = 1, 0.5 if low and miss <= 2 * CATCH_X else 0.0
        return LOST

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "puck": np.array(self.puck),
            "aim": np.array([self.pivot, PIVOT_Y, self.aim]),
            "walls": self.walls.copy(),
            "line": np.array([LINE]),
        }

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("launch", np.array(self.launch)), ("aim", np.array([self.pivot, self.aim, *self.walls]))]


TASKS = (LabTask("catch_puck", PARTS, CatchPuck),)
