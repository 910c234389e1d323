"""Open a drawer of the Google robot's cabinet: a closed gripper hooked behind the top edge of its front, and a pull.

The handles of the benchmark's cabinets are drawn only: nothing can be held by them. The front itself has a body.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from policies.expert.simpler.moves import Seen, Vector, rotation

HOOK = np.array([0.256, 0.0, 0.055])
"""Where the fingertips go, in the frame of the drawer (m): behind its front, below the front's top edge."""
SLANT = np.deg2rad(50.0)
"""How steeply the fingers point down, through the middle of the gap above the front (rad)."""
BACK = 0.15
"""From how far out along the fingers the tips go in (m)."""
FAR = 0.25
"""How far the drawer is pulled (m); open it counts from 0.15."""
NEAR, TURNED = 0.02, 0.2
"""Metres and radians within which a pose counts as reached."""
LOST = 0.05
"""Metres by which the tips may be off their place behind the front before they are taken to have slipped out."""
PATIENCE = {"before": 40, "in": 10}
"""Control steps after which a stage ends although its pose is not reached."""
STEP = {"before": 0.12, "in": 0.06, "pull": 0.1}
"""Most metres of one control step; the arm goes a third of them."""
TURN = 0.4
"""Most radians of one control step."""
OPEN, CLOSED = 1.0, 0.0


class PullOpen:
    """One episode's script: fingers together, before the gap, into it, pull; again from the gap if they slip out."""

    def __init__(self) -> None:
        self._stage = "start"
        self._steps = 0

    def act(self, seen: Seen) -> Vector:
        """The next action, [7]."""
        following = self._following(seen)
        self._steps = self._steps + 1 if following == self._stage else 1
        self._stage = following
        if self._stage in ("start", "rest"):  # the gripper heeds changes only: it is told first that it is open
            return np.array([0.0] * 6 + [OPEN if self._stage == "start" else CLOSED])
        place, turn = self._pose(seen)
        away, change = place - seen["tool"][:3], (turn * rotation(seen["tool"]).inv()).as_rotvec()
        return np.array([*_at_most(away, STEP[self._stage]), *_at_most(change, TURN), CLOSED])

    def _following(self, seen: Seen) -> str:
        """The stage that this step belongs to."""
        if self._stage == "start":
            return "before" if self._steps else "start"
        if self._stage == "pull":
            place, _ = self._pose(seen, pulled=0.0)
            slipped = float(np.linalg.norm(place - seen["tool"][:3])) > LOST
            return "rest" if seen["drawer"][0] > FAR else "before" if slipped else "pull"
        if self._stage == "rest":
            return "rest"
        place, turn = self._pose(seen)
        off = float(np.linalg.norm(place - seen["tool"][:3]))
        angle = float((turn * rotation(seen["tool"]).inv()).magnitude())
        done = (off < NEAR and angle < TURNED) or self._steps >= PATIENCE[self._stage]
        return {"before": "in", "in": "pull"}[self._stage] if done else self._stage

    def _pose(self, seen: Seen, pulled: float = STEP["pull"]) -> tuple[Vector, Rotation]:
        """Where the tool is to be in this stage and how turned, in the base's frame. It points along its z axis; its
        fingers close along y. pulled: how far ahead of the drawer's place it is led while it pulls (m)."""
        drawer = rotation(seen["front"])
        along = np.array([-np.cos(SLANT), 0.0, -np.sin(SLANT)])
        fingers = np.array([0.0, 1.0, 0.0])
        if drawer.apply(fingers) @ rotation(seen["tool"]).as_matrix()[:, 1] < 0:
            fingers = -fingers
        turn = drawer * Rotation.from_matrix(np.column_stack([np.cross(fingers, along), fingers, along]))
        out = {"before": -BACK * along, "pull": np.array([pulled, 0.0, 0.0])}.get(self._stage, np.zeros(3))
        return np.array(seen["front"][:3] + drawer.apply(HOOK + out)), turn


def _at_most(vector: Vector, length: float) -> Vector:
    """The vector, shortened to a length."""
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-9))
