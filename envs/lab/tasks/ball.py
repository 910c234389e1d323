"""intercept_ball: a ball waits behind a gate on a ramp; when a fuse has burnt down it rolls. Be in its way on the mat.

The ball is real: it rolls down the ramp and over the table by gravity and friction. The ramp points to where it will
go, its place on the ramp says how fast, and the fuse beside it shows when.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.movers import Foreseen, fixture, heading, painted
from envs.lab.parts import COLOURS, Colour, Parts, rgba
from envs.lab.task import GOING, LOST, WON, LabTask
from envs.lab.world import World
from envs.spec import Advance

MAT = (-0.18, -0.08)
"""y of the mat's near and far edge, metres: the hand must be there when it stops the ball."""
RADIUS = 0.03
"""Of the ball, metres."""
RISE, RUN = 8 / 17, 15 / 17
"""Sine and cosine of the ramp's slope (28 degrees); fractions, so that no sine's last bit gets into a scene."""
RAMP = 0.26
"""Length of the ramp along its slope, metres."""
UP = (0.07, 0.13)
"""How far up the slope the gate is, metres, lowest and highest."""
FUSE = 0.007
"""Metres of fuse that burn in one control step; the ball goes when it reaches the gate."""
WAIT = (18, 22)
"""Control steps before the gate opens, fewest and most."""
AIM = math.radians(50)
"""Largest turn of the ramp to either side, radians."""
MISSED_BY = (0.12, 0.22)
"""The hand starts at least and at most so far (across) from where the ball will cross the middle of the mat."""
NEAR = 0.08
PATIENCE = 30
"""Control steps after the gate opened in which the ball would long be gone."""
HAND_STEP = 0.008

PHRASES = (
    "intercept the ball",
    "stop the rolling ball on the green mat",
    "get in the way of the ball",
    "block the ball before it leaves the green mat",
)
MAT_COLOUR: Colour = (0.36, 0.50, 0.38)
RAMP_COLOUR: Colour = (0.80, 0.74, 0.62)


def _on_slope(along: float, above: float) -> tuple[float, float]:
    """y and z, in the ramp's own frame (its foot at 0, rising to +y), of a point so far up the slope and above it."""
    return along * RUN - above * RISE, along * RISE + above * RUN


_TILT = "28.072487 0 0"
_Y, _Z = _on_slope(RAMP / 2, -0.004)
PARTS = Parts(
    painted((0.32, (MAT[1] - MAT[0]) / 2, 0.001), (0.0, sum(MAT) / 2, 0.001), MAT_COLOUR)
    + fixture(
        "ramp",
        f'<geom name="ramp" type="box" size="0.035 {RAMP / 2} 0.004" pos="0 {_Y:.6f} {_Z:.6f}" euler="{_TILT}" '
        f'rgba="{rgba(RAMP_COLOUR)}"/>',
    )
    + fixture(
        "gate",
        f'<geom name="gate" type="box" size="0.035 0.003 {RADIUS}" euler="{_TILT}" rgba="{rgba(COLOURS["blue"])}"/>',
    )
    + fixture("fuse", painted((0.012, 0.014, 0.010), (0.0, 0.0, 0.0), COLOURS["yellow"], euler=_TILT))
    + f'<body name="ball"><freejoint name="ball"/><geom name="ball" type="sphere" size="{RADIUS}" mass="0.05" '
    f'rgba="{rgba(COLOURS["red"])}"/></body>',
    hand_step=HAND_STEP,
)


class InterceptBall(Foreseen):
    """Take the ball half its speed at least, with the hand over the mat: nothing else on the table can. Score: 0.5 for
    having been within 8 cm of it there, 1 for the interception."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        self.rolled = 0.0
        """Greatest speed of the ball on the table so far, the way the ramp points, m/s."""
        self.launch = int(rng.integers(WAIT[0], WAIT[1] + 1))
        self.instruction = str(rng.choice(PHRASES))
        while not self._draw(rng):
            pass
        world.put("ramp", (self.foot[0], self.foot[1], 0.0), self.aim)
        world.put("gate", self._at(self.up - RADIUS - 0.003, RADIUS), self.aim)
        world.put("fuse", self._fuse(0), self.aim)
        world.lay("ball", self._at(self.up, RADIUS))
        world.hand.start((self.start, sum(MAT) / 2 + rng.uniform(-0.01, 0.01), rng.uniform(0.02, 0.05)))

    def _draw(self, rng: np.random.Generator) -> bool:
        """Ramp, gate and start of the hand; False if they do not go together."""
        self.foot = np.array([rng.uniform(-0.16, 0.16), rng.uniform(0.06, 0.10)])
        self.up = float(rng.uniform(*UP))
        cross = float(rng.uniform(-0.22, 0.22))
        self.way, self.aim = heading(cross - self.foot[0], self.foot[1] - sum(MAT) / 2)
        self.start = float(rng.uniform(-0.10, 0.10))
        in_view = abs(self._fuse(0)[0]) < 0.27
        return in_view and abs(self.aim) <= AIM and MISSED_BY[0] < abs(cross - self.start) < MISSED_BY[1]

    def _at(self, along: float, above: float, beside: float = 0.0) -> tuple[float, float, float]:
        """World place of a point so far up the slope, above it and to its right."""
        y, z = _on_slope(along, above)
        right, near = self.way
        return self.foot[0] + beside * near - y * right, self.foot[1] + beside * right + y * near, z

    def _fuse(self, clock: int) -> tuple[float, float, float]:
        """Where the fuse is at the start of step `clock`."""
        return self._at(self.up - RADIUS + FUSE * max(self.launch - clock, 0), 0.010, 0.047)

    def drive(self) -> None:
        self.world.put("fuse", self._fuse(self.clock + 1), self.aim)
        if self.clock == self.launch:
            self.world.put("gate", (0.0, 0.0, -0.3))

    def judge(self) -> Advance:
        x, y, z = self.world.place("ball")
        tip = self.world.hand.tip
        here = MAT[0] <= tip[1] <= MAT[1]
        if here and (tip[0] - x) ** 2 + (tip[1] - y) ** 2 < NEAR**2:
            self.score = 0.5
        if z < RADIUS + 0.001:
            speed = self._speed()
            self.rolled = max(self.rolled, speed)
            if speed < self.rolled / 2:
                return self._decide(here)
        gone = y < MAT[0] - 0.02 or self.clock > self.launch + PATIENCE
        return self._decide(False) if gone else GOING

    def _speed(self) -> float:
        """How fast the ball moves the way the ramp points, m/s."""
        vx, vy = self.world.velocity("ball")[:2]
        return float(vx * self.way[0] - vy * self.way[1])

    def _decide(self, won: bool) -> Advance:
        if won:
            self.right_choices, self.score = 1, 1.0
            return WON
        self.wrong_choices = 1
        return LOST

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        return {"ball": self.world.place("ball"), "aim": np.array([*self.foot, self.aim]), "mat": np.array(MAT)}

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("launch", np.array(self.launch)), ("aim", np.array([*self.foot, self.up, self.aim]))]


TASKS = (LabTask("intercept_ball", PARTS, InterceptBall),)
