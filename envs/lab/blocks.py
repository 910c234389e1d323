"""Loose blocks as tasks use them: where they lie, which colour each has, whether the hand holds one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.hand import REACH_HIGH, REACH_LOW
from envs.lab.parts import BLOCK_HALF, COLOUR_NAMES, COLOURS
from envs.lab.world import Vector, World

LIFTED = 0.03
"""A block counts as lifted when it is so far above where it would lie, metres."""
FALLEN = -0.05
"""Below this height a block has left the table."""
BEYOND = 0.005
"""A block whose middle is so far outside the hand's reach cannot be fetched back, metres."""


def cube_yaw(quaternion: Vector) -> float:
    """The turn about the vertical of a cube, in [-pi/4, pi/4): its most level edge, whichever face is up."""
    w, x, y, z = quaternion
    axes = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
            [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
            [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    level = axes[int(np.argmin(np.abs(axes[:, 2])))]
    quarter = np.pi / 2
    return float((np.arctan2(level[1], level[0]) + quarter / 2) % quarter - quarter / 2)


class Blocks:
    """The blocks `block0` ... of a world, cubes with an edge of 2 `BLOCK_HALF`."""

    def __init__(self, world: World, count: int) -> None:
        self._world = world
        self.count = count
        self.names = tuple(f"block{i}" for i in range(count))
        self.colours = np.full(count, -1)

    def lay(self, xy: Vector, rng: np.random.Generator) -> None:
        """The first n on the table at these places [n, 2], each turned at random."""
        for name, (x, y) in zip(self.names[: len(xy)], xy, strict=True):
            self._world.lay(name, (x, y, BLOCK_HALF), float(rng.uniform(-np.pi / 4, np.pi / 4)))

    def paint(self, colours: npt.ArrayLike) -> None:
        """In these colours, numbers into COLOUR_NAMES, [count]."""
        self.colours = np.asarray(colours)
        for name, colour in zip(self.names, self.colours, strict=True):
            self._world.paint(name, COLOURS[COLOUR_NAMES[colour]])

    def place(self, index: int) -> Vector:
        """Centre of a block, metres, [3]."""
        return self._world.place(self.names[index])

    def still(self, index: int) -> bool:
        """Whether a block is at rest: slower than 3 cm/s and 1 rad/s."""
        v = self._world.velocity(self.names[index])
        return float(v[:3] @ v[:3]) < 0.03**2 and float(v[3:] @ v[3:]) < 1.0

    def held(self, index: int) -> bool:
        """Whether a finger touches a block."""
        return any(self._world.touching(self.names[index], finger) for finger in ("left", "right"))

    def gone(self, index: int) -> bool:
        """Whether a block fell off the table or lies where the hand cannot reach it."""
        x, y, z = self.place(index)
        beside = not (
            REACH_LOW[0] - BEYOND < x < REACH_HIGH[0] + BEYOND and REACH_LOW[1] - BEYOND < y < REACH_HIGH[1] + BEYOND
        )
        return bool(z < FALLEN) or (beside and self.still(index) and not self.held(index))

    def poses(self) -> npt.NDArray[np.float64]:
        """x, y, z (metres) and yaw (radians, modulo a quarter turn) of every block, [count, 4]."""
        poses = [self._world.pose(name) for name in self.names]
        return np.array([[*pose[:3], cube_yaw(pose[3:])] for pose in poses])

    def seen(self) -> dict[str, npt.NDArray[Any]]:
        """`blocks` [n, 4] as `poses`; `block_colours` [n]: number of the colour."""
        return {"blocks": self.poses(), "block_colours": self.colours.astype(np.float64)}
