"""The free-flying two-finger gripper: from 7 numbers a step to joint targets, and back to where the hand is.

The action moves a *target* pose. Over a control step the joint targets run evenly from the old to the new one, so that
what is held is not shaken loose; position controllers (natural frequency 120 rad/s) follow 17 ms behind. The target
never runs further than `LEASH` from the hand, so that pushing against the table does not wind it up.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab import TURN_STEP

REACH_LOW = (-0.30, -0.24, 0.0)
REACH_HIGH = (0.30, 0.24, 0.30)
"""The box the tip's target is held in, metres."""
TILT = 0.6
"""Largest roll and pitch, radians."""
TURN = 1.7
"""Largest yaw, radians (the gripper looks the same half a turn on)."""
LEASH = 0.03
"""The target's largest distance from the hand along each axis, metres."""
OPEN, CLOSED = 0.04, -0.004
"""Finger targets, metres from the middle; closed presses on."""

Triple = tuple[float, float, float]


def compose(turn: Triple, roll: float, pitch: float, yaw: float) -> Triple:
    """Angles of R(turn) R(roll, pitch, yaw), with R(r, p, y) = Rz(y) Ry(p) Rx(r): a turn about the world's axes.

    Raises nothing; at a pitch of +-90 degrees (never reached here) roll would be set to 0.
    """
    if turn[0] == 0.0 and turn[1] == 0.0:
        return roll, pitch, yaw + turn[2]
    a, b = _matrix(*turn), _matrix(roll, pitch, yaw)
    c = [[sum(a[i][k] * b[k][j] for k in range(3)) for j in range(3)] for i in range(3)]
    return math.atan2(c[2][1], c[2][2]), -math.asin(max(-1.0, min(1.0, c[2][0]))), math.atan2(c[1][0], c[0][0])


def _matrix(roll: float, pitch: float, yaw: float) -> list[list[float]]:
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    return [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]


def _hold(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value


class Hand:
    """Commands and senses of the gripper in one world. Its eight joints are the first eight of the model."""

    def __init__(self, data: Any, step: float) -> None:
        self._data = data
        self._step = step
        self._target = [0.0] * 6
        self._closed = True

    def start(self, xyz: Triple, *, opening: float = 0.0) -> None:
        """Stand at xyz (tip, metres), upright, fingers `opening` metres from the middle each, at rest."""
        self._target = [*map(float, xyz), 0.0, 0.0, 0.0]
        self._closed = opening < 0.02
        self._data.qpos[0:8] = (*xyz, 0.0, 0.0, 0.0, opening, opening)
        self._data.qvel[0:8] = 0.0
        self._data.ctrl[0:8] = self.goal()

    def goal(self) -> tuple[float, ...]:
        """Joint targets at the end of the control step, in the model's order, [8]."""
        x, y, z, roll, pitch, yaw = self._target
        finger = CLOSED if self._closed else OPEN
        return (x, y, z, yaw, pitch, roll, finger, finger)

    def command(self, action: npt.NDArray[Any]) -> None:
        """Move the target by one action [7]: world-frame translation and turn in [-1, 1], gripper (> 0 opens).

        Raises ValueError for an action that is not finite.
        """
        numbers = action.tolist()
        if not math.isfinite(sum(numbers)):
            raise ValueError(f"the action must be finite, was {numbers}")
        target, qpos = self._target, self._data.qpos[0:3].tolist()
        for axis in range(3):
            moved = target[axis] + self._step * _hold(numbers[axis], -1.0, 1.0)
            moved = _hold(moved, qpos[axis] - LEASH, qpos[axis] + LEASH)
            target[axis] = _hold(moved, REACH_LOW[axis], REACH_HIGH[axis])
        turn = tuple(TURN_STEP * _hold(number, -1.0, 1.0) for number in numbers[3:6])
        roll, pitch, yaw = compose((turn[0], turn[1], turn[2]), target[3], target[4], target[5])
        target[3:6] = _hold(roll, -TILT, TILT), _hold(pitch, -TILT, TILT), _hold(yaw, -TURN, TURN)
        self._closed = numbers[6] <= 0.0

    def pose(self) -> npt.NDArray[np.float64]:
        """Tip and angles now: x, y, z (metres), roll, pitch, yaw (radians), left and right opening (metres), [8]."""
        q = self._data.qpos
        return np.array([q[0], q[1], q[2], q[5], q[4], q[3], q[6], q[7]])

    @property
    def tip(self) -> npt.NDArray[np.float64]:
        """Tip position now, metres, a view of [3]."""
        tip: npt.NDArray[np.float64] = self._data.qpos[0:3]
        return tip

    def target(self) -> npt.NDArray[np.float64]:
        """The pose the joints are driven to: x, y, z, roll, pitch, yaw, [6]."""
        return np.array(self._target)
