"""Which frames of a moving hand are worth keeping: the papers' filter for recordings of real robots."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation as Turn

MOVED, TURNED, WAIT = 0.01, 0.4, 120
"""Metres, radians, frames: the real-robot filter (MemoryVLA paper, appendix on data)."""

ANGLES = (
    ("roll", "pitch", "yaw"),
    ("euler_x", "euler_y", "euler_z"),
    ("axis_angle_x", "axis_angle_y", "axis_angle_z"),
)
"""Names of the three numbers after x, y, z in a state that tell the tip's rotation."""


class FrameFilter:
    """Frame by frame: keeps the first one, and each in which the tip moved over `moved` metres or turned over `turned`
    radians since the last kept one, or that comes `wait` frames after it."""

    def __init__(self, *, moved: float = MOVED, turned: float = TURNED, wait: int = WAIT) -> None:
        self._moved, self._turned, self._wait = moved, turned, wait
        self._last: tuple[npt.NDArray[np.float64], Turn] | None = None
        self._since = 0

    def keeps(self, place: npt.ArrayLike, turn: Turn) -> bool:
        """Whether the frame taken now is kept. place: of the tip, [3] in metres; turn: its orientation."""
        here = np.asarray(place, dtype=np.float64)
        self._since += 1
        if self._last is not None and self._since < self._wait:
            place_kept, turn_kept = self._last
            far = float(np.linalg.norm(here - place_kept)) > self._moved
            if not far and float((turn * turn_kept.inv()).magnitude()) <= self._turned:
                return False
        self._last, self._since = (here, turn), 0
        return True


def tells_pose(names: tuple[str, ...]) -> bool:
    """Whether a state of these numbers begins with the tip's x, y, z and its angles."""
    return names[:3] == ("x", "y", "z") and names[3:6] in ANGLES


def turn_of(names: tuple[str, ...], state: npt.NDArray[Any]) -> Turn:
    """The rotation in a state [D] (or in T of them, [T, D]) for which `tells_pose` holds."""
    angles = np.asarray(state, dtype=np.float64)[..., 3:6]
    return Turn.from_rotvec(angles) if "axis" in names[3] else Turn.from_euler("xyz", angles)
