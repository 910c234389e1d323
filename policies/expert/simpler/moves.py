"""Small steps of a tool that is driven by changes of its target pose (see envs.simpler.WIDOWX)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Seen = Mapping[str, npt.NDArray[Any]]
Vector = npt.NDArray[np.float64]

OPEN, CLOSED = 1.0, -1.0
STEP = 0.04
"""Most metres the tool is sent in one control step."""
TURN = 0.35
"""Most radians it is turned in one control step."""


def rotation(pose: npt.NDArray[Any]) -> Rotation:
    """Of a pose xyz, quaternion wxyz."""
    return Rotation.from_quat(np.roll(pose[3:7], -1))


def step_to(seen: Seen, place: Vector, turn: Rotation, *, grip: float, most: float = STEP) -> Vector:
    """One action [7] that brings the controller's target towards a place (m) and a rotation of the tool."""
    away = place - seen["aim"][:3]
    distance = float(np.linalg.norm(away))
    if distance > most:
        away = away * (most / distance)
    change = (turn * rotation(seen["aim"]).inv()).as_rotvec()
    angle = float(np.linalg.norm(change))
    if angle > TURN:
        change = change * (TURN / angle)
    return np.array([*away, *change, grip])


def facing_down(seen: Seen, across: Vector) -> Rotation:
    """The tool pointing straight down with its fingers closing along the horizontal direction `across` [2], turned the
    shorter way from where it is. The tool points along its x axis; its fingers close along y."""
    fingers = np.array([*across / np.linalg.norm(across), 0.0])
    if fingers @ rotation(seen["tool"]).as_matrix()[:, 1] < 0:
        fingers = -fingers
    down = np.array([0.0, 0.0, -1.0])
    return Rotation.from_matrix(np.column_stack([down, fingers, np.cross(down, fingers)]))


def narrow_side(pose: npt.NDArray[Any], size: npt.NDArray[Any]) -> Vector:
    """The horizontal direction [2] across the longest side of a box of sides `size`."""
    long = rotation(pose).as_matrix()[:, int(np.argmax(size))][:2]
    return np.array([-long[1], long[0]])
