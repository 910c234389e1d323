"""shell_game: a ball is covered by one of three cups in view, cups are swapped; press down the cup over the ball.

The hand is locked until a little after the last swap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.buttons import Buttons, hover_score, start_hand
from envs.lab.parts import COLOUR_NAMES, COLOURS, Parts, button, rgba
from envs.lab.task import LabTask, Trial
from envs.lab.world import Vector, World
from envs.spec import Advance

COUNT = 3
CUP_TOP, CUP_RADIUS, BALL = 0.075, 0.045, 0.028
LIFT = 0.10
"""How high the cup hangs over the ball at first, metres."""
SHOW, LOWER, REST = (15, 19), 6, 4
"""Steps the ball is in view (drawn), of covering it, of standing still before and after each swap."""
SWAPS, SWAP = (1, 4), 12
"""Number of swaps (drawn), and steps each takes: seen by two policy calls at least at 5 steps a call."""
WAIT = (10, 16)
"""The hand stays locked for so many steps after the last swap."""
BOW = 0.06
"""How far the two cups of a swap swing out to pass each other, metres a place apart."""
PHRASES = (
    "press the cup that hides the ball",
    "find the ball: press down the cup it is under",
    "follow the ball and push the cup over it",
    "touch the cup with the ball under it",
)
PARTS = Parts(
    "".join(button(f"button{i}", CUP_RADIUS, CUP_TOP) for i in range(COUNT))
    + f"""
    <body name="ball" mocap="true">
      <geom name="ball" type="sphere" size="{BALL}" rgba="{rgba(COLOURS["red"])}" contype="0" conaffinity="0"/>
    </body>"""
)


class ShellGame(Trial):
    """The first cup pressed decides. Score: 0.3 for coming down over the right cup, 1 for pressing it."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        super().__init__(world, rng)
        self.cups = Buttons(world, COUNT, CUP_TOP)
        row = np.array([(x, 0.05) for x in (-0.16, 0.0, 0.16)])
        self.places = row + rng.uniform(-0.02, 0.02, 2) + rng.uniform(-0.012, 0.012, (COUNT, 2))
        self.cups.paint([COLOUR_NAMES.index("white")] * COUNT)
        self.goal = int(rng.integers(COUNT))
        swaps = int(rng.integers(*SWAPS))
        self.pairs = [sorted(int(i) for i in rng.permutation(COUNT)[:2]) for _ in range(swaps)]
        self.sides = [int(side) for side in rng.choice((-1, 1), swaps)]
        self.seat = [int(i) for i in rng.permutation(COUNT)]  # which place each cup starts at
        self.show = int(rng.integers(*SHOW))
        self.start = self.show + LOWER + REST
        self.still = self.start + swaps * (SWAP + REST)
        self.free = self.still + int(rng.integers(*WAIT))
        self.instruction = str(rng.choice(PHRASES))
        start_hand(world, rng, aside=True)
        self._arrange(0)

    def locked(self) -> bool:
        return self.clock < self.free

    def drive(self) -> None:
        if self.clock < self.still:
            self._arrange(self.clock + 1)

    def _arrange(self, clock: int) -> None:
        """Put cups and ball where they are after so many steps."""
        xy = self.cups_at(clock)
        self.cups.put(xy)
        sinking = (clock - self.show) / LOWER
        lift = LIFT * float(np.clip(1.0 - sinking, 0.0, 1.0))
        self.world.put(f"button{self.goal}", (*xy[self.goal], lift))
        self.world.put("ball", (*xy[self.goal], BALL))

    def cups_at(self, clock: int) -> Vector:
        """Where the cups stand after so many steps, [3, 2]."""
        seat = list(self.seat)
        done, since = divmod(max(clock - self.start, 0), SWAP + REST)
        for pair in self.pairs[:done]:
            seat = [pair[1 - pair.index(s)] if s in pair else s for s in seat]
        xy: Vector = self.places[seat].copy()
        if done < len(self.pairs):
            self._swing(xy, seat, done, min(since / SWAP, 1.0))
        return xy

    def _swing(self, xy: Vector, seat: list[int], swap: int, part: float) -> None:
        """Move the two cups of a swap along bows, one in front of the other; part 0 ... 1 of the way."""
        pair, side = self.pairs[swap], self.sides[swap]
        for cup, place in enumerate(seat):
            if place in pair:
                which = pair.index(place)
                here, there = self.places[place], self.places[pair[1 - which]]
                smooth = (1.0 - np.cos(np.pi * part)) / 2.0
                xy[cup] = here + smooth * (there - here)
                xy[cup, 1] += BOW * (pair[1] - pair[0]) * np.sin(np.pi * part) * (side if which == 0 else -side)

    def judge(self) -> Advance:
        pressed = self.cups.newly_pressed()
        if self.clock >= self.free:
            self.score = max(self.score, hover_score(self.world, self.cups.xy[self.goal], CUP_TOP))
        return self.decide(pressed, self.goal)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """`cups` [3, 3]: x, y and height of the top; `ball` [3]: its middle while it can be seen, else NaN. A cup keeps
        its row, which says nothing about the ball."""
        visible = self.clock < self.show + LOWER - 1
        ball = np.array([*self.cups.xy[self.goal], BALL]) if visible else np.full(3, np.nan)
        cups = self.cups.seen()["buttons"]
        cups[:, 2] += [self.world.stand(f"button{i}")[2] for i in range(COUNT)]
        return {"cups": cups, "ball": ball}

    def due(self) -> Vector:
        """Where the ball is now, until the hand is free."""
        return self.cups.pressed(self.goal) if self.clock < self.free else super().due()

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        timing = np.array([self.show, self.start, self.still, self.free])
        swaps = np.array([[*pair, side] for pair, side in zip(self.pairs, self.sides, strict=True)])
        return [("goal", np.array(self.goal)), ("seat", np.array(self.seat)), ("swaps", swaps), ("timing", timing)]


TASKS = (LabTask("shell_game", PARTS, ShellGame),)
