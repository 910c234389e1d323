"""View: the privileged state of CALVIN by name, and where things are taken hold of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float64]
COLOURS = ("red", "blue", "pink")

BUTTON_TOP = (0.0, 0.027, 0.0)
SWITCH_BAR = (0.0, 0.053, -0.008)
SLIDE_BAR = (0.14, 0.0, 0.066)
DRAWER_BAR = (0.0, 0.04, 0.25)
DRAWER_FLOOR = (0.0, 0.021, 0.06)
PLANK_TOP = (0.0, 0.02, 0.0)
"""Points in the frames of the table's links, metres, from the meshes (scaled by 0.8)."""


@dataclass(frozen=True)
class BlockPose:
    """A block: position [3], axes (columns of [3, 3]), half sizes [3] along them, touched by the robot, by a block."""

    colour: str
    position: Array
    axes: Array
    half: Array
    touched: bool
    stacked: bool

    def lean(self, yaw: float) -> float:
        """By how much (rad) a hand at this yaw that holds it has to be pitched back for it to stand upright."""
        upright = max([*self.axes.T, *-self.axes.T], key=lambda axis: float(axis[2]))
        return float(np.arctan2(upright[0] * np.cos(yaw) + upright[1] * np.sin(yaw), upright[2]))

    def grip_yaws(self) -> list[float]:
        """Yaws of the tool, in (-pi/2, 3 pi/2), at which the fingers close on sides at most 5 cm apart."""
        found = []
        for axis, half in zip(self.axes.T, self.half, strict=True):
            if half < 0.025 and abs(axis[2]) < 0.7:
                yaw = float(np.arctan2(axis[0], -axis[1])) % np.pi
                found += [yaw - np.pi, yaw, yaw + np.pi]
        return [yaw for yaw in found if -np.pi / 2 < yaw < 3 * np.pi / 2]


class View:
    """One observation's privileged state."""

    def __init__(self, seen: Mapping[str, npt.NDArray[Any]]) -> None:
        self._seen = seen

    @property
    def subtask(self) -> str:
        """Name of the task in force."""
        return next(key.partition("/")[2] for key in self._seen if key.startswith("subtask/"))

    @property
    def tool(self) -> Array:
        """Measured position of the tool, [3]."""
        return np.asarray(self._seen["robot"][:3])

    @property
    def width(self) -> float:
        """Opening of the gripper, metres."""
        return float(self._seen["robot"][6])

    @property
    def closing(self) -> bool:
        """Whether the last action closed the gripper."""
        return bool(self._seen["robot"][14] < 0)

    @property
    def target(self) -> Array:
        """Target pose that relative actions add to: position 3, Euler angles 3."""
        return np.asarray(self._seen["target"])

    @property
    def slider(self) -> float:
        return float(self._seen["table"][0])

    @property
    def drawer(self) -> float:
        return float(self._seen["table"][1])

    def door(self) -> tuple[float, float]:
        """Left and right edge of the sliding door, x in metres."""
        left, right = self.point("slide", (0.0, 0.0, 0.0))[0], self.point("slide", (0.28, 0.0, 0.0))[0]
        return float(left), float(right)

    def block(self, colour: str) -> BlockPose:
        row = self._seen[f"block/{colour}"]
        axes = Rotation.from_quat(row[3:7]).as_matrix()
        return BlockPose(colour, row[:3], axes, row[7:10], bool(row[10]), bool(row[11]))

    def blocks(self) -> list[BlockPose]:
        return [self.block(colour) for colour in COLOURS]

    def held(self) -> BlockPose | None:
        """The block between the fingers, if any."""
        block = min(self.blocks(), key=lambda b: float(np.linalg.norm(b.position - self.tool)))
        near = np.linalg.norm(block.position - self.tool) < 0.06
        return block if near and self.closing and self.width > 0.03 else None

    def is_near_block(self) -> bool:
        """Whether closing the fingers, or moving sideways, might touch a block."""
        return min(float(np.linalg.norm(b.position - self.tool)) for b in self.blocks()) < 0.1

    def point(self, link: str, offset: tuple[float, float, float]) -> Array:
        """A point of a link of the table, in the world, [3]."""
        row = self._seen[f"link/{link}"]
        return np.asarray(row[:3] + Rotation.from_quat(row[3:7]).apply(offset))
