"""Buttons as tasks use them: where they stand, which colour each has, which went down just now."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.parts import BUTTON_PRESS, BUTTON_RELEASE, BUTTON_TOP, COLOUR_NAMES, COLOURS
from envs.lab.world import Vector, World

FIELD_X, FIELD_Y = (-0.21, 0.21), (-0.13, 0.13)
"""The part of the table both cameras see well and the hand reaches, metres."""
OVER = 0.045
"""Horizontal distance at which the hand counts as over a thing, metres."""
LOW = 0.07
"""Height over its top below which the hand counts as having come down, metres."""


def scatter(
    rng: np.random.Generator,
    count: int,
    spacing: float,
    x: tuple[float, float] = FIELD_X,
    y: tuple[float, float] = FIELD_Y,
    taken: Vector | None = None,
) -> Vector:
    """Points [count, 2] at least `spacing` metres from each other and from those `taken` [n, 2].

    Raises RuntimeError when the field is too small for that.
    """
    for _ in range(2000):
        points = list(taken) if taken is not None else []
        first = len(points)
        for _ in range(40 * count):
            point = np.array([rng.uniform(*x), rng.uniform(*y)])
            if all(np.hypot(*(point - other)) >= spacing for other in points):
                points.append(point)
                if len(points) == first + count:
                    return np.array(points[first:])
    raise RuntimeError(f"no room for {count} things {spacing} m apart in {x} x {y}")


def start_hand(world: World, rng: np.random.Generator, *, opening: float = 0.0, aside: bool = False) -> None:
    """Stand the hand above the near edge of the table, a little elsewhere in every trial.

    aside: at the right edge of the front picture, where it hides nothing of a cue.
    """
    x, y, z = rng.uniform(-0.04, 0.04), rng.uniform(-0.10, -0.04), rng.uniform(0.17, 0.21)
    world.hand.start((x + 0.22, y - 0.02, z) if aside else (x, y, z), opening=opening)


def hover_score(world: World, xy: Vector, top: float = BUTTON_TOP) -> float:
    """0.3 while the hand is low over a button at xy [2] that is `top` metres high, else 0: the first part of a
    press."""
    tip = world.hand.tip
    over = (tip[0] - xy[0]) ** 2 + (tip[1] - xy[1]) ** 2 < OVER**2
    return 0.3 if over and tip[2] < top + LOW else 0.0


class Buttons:
    """The buttons `button0` ... of a world, `top` metres high.

    A press is an edge: down past one depth, up past another before it can count again.
    """

    def __init__(self, world: World, count: int, top: float = BUTTON_TOP) -> None:
        self._world, self._top = world, top
        self.count = count
        self.xy: Vector = np.zeros((count, 2))
        self.colours = np.full(count, -1)
        self._caps = [world.model.joint(f"button{i}_cap").qposadr[0] for i in range(count)]
        self._down = [False] * count

    def scatter(self, rng: np.random.Generator, spacing: float) -> None:
        """Anywhere on the field."""
        self.put(scatter(rng, self.count, spacing))

    def put(self, xy: Vector) -> None:
        """At these places, [count, 2]."""
        self.xy = np.asarray(xy, dtype=np.float64)
        for i, (x, y) in enumerate(self.xy):
            self._world.put(f"button{i}", (x, y, 0.0))

    def paint(self, colours: npt.ArrayLike) -> None:
        """In these colours, numbers into COLOUR_NAMES, [count]."""
        self.colours = np.asarray(colours)
        for i, colour in enumerate(self.colours):
            self._world.paint(f"button{i}_cap", COLOURS[COLOUR_NAMES[colour]])

    def pressed(self, index: int) -> Vector:
        """Where the hand is when it has pressed one down, [3] metres."""
        return np.array([*self.xy[index], self._top - BUTTON_PRESS])

    def newly_pressed(self) -> list[int]:
        """Buttons that went down in this step; to be called once a step."""
        found = []
        qpos = self._world.data.qpos
        for i, at in enumerate(self._caps):
            depth = -qpos[at]
            if self._down[i]:
                self._down[i] = depth > BUTTON_RELEASE
            elif depth > BUTTON_PRESS:
                self._down[i] = True
                found.append(i)
        return found

    def seen(self) -> dict[str, npt.NDArray[Any]]:
        """`buttons` [n, 3]: x, y and height of the top, metres; `button_colours` [n]: number of the colour."""
        tops = self._top + self._world.data.qpos[self._caps]
        return {
            "buttons": np.column_stack([self.xy, tops]),
            "button_colours": self.colours.astype(np.float64),
        }
