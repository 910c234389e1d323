"""Take the source from above, carry it over the target, set it down, go up and wait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from policies.expert.simpler.moves import CLOSED, OPEN, Seen, Vector, facing_down, narrow_side, rotation, step_to

NEAR = 0.008
"""Metres within which a place counts as reached."""
PATIENCE = 14
"""Control steps after which a stage ends although its place is not reached."""


@dataclass(frozen=True)
class Hold:
    """How one object is taken and set down (m). grasp: of the tool's reference point over the object's middle when it
    is grasped; clear: of the object over its target while it is carried; drop: of its underside over the target when
    it is let go; along: where along its longest side it is taken; straight: its longest side does not matter."""

    grasp: float = 0.0
    clear: float = 0.09
    drop: float = 0.01
    along: float = 0.0
    straight: bool = False


HOLDS = {
    "spoon_on_towel": Hold(),
    "carrot_on_plate": Hold(),
    "stack_cube": Hold(drop=0.004, straight=True),
    "eggplant_in_basket": Hold(clear=0.12, drop=0.06),
}


class PickAndPlace:
    """One episode's script. It goes through its stages once; a drop is not tried again."""

    STAGES = ("over", "down", "close", "lift", "carry", "lower", "open", "away", "rest")

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._stage = 0
        self._steps = 0
        self._turn: Rotation | None = None
        self._from = np.zeros(3)

    def act(self, seen: Seen) -> Vector:
        """The next action, [7]."""
        if self._turn is None:
            self._turn = self._grip_turn(seen)
        while self._done(seen):
            self._stage, self._steps = self._stage + 1, 0
            self._from = np.array(seen["tool"][:3])
        self._steps += 1
        name = self.STAGES[self._stage]
        slow = {"down": 0.025, "lower": 0.02, "lift": 0.03}.get(name, 0.04)
        grip = CLOSED if name in ("close", "lift", "carry", "lower") else OPEN
        return step_to(seen, self._place(seen, name), self._turn, grip=grip, most=slow)

    def _grip_turn(self, seen: Seen) -> Rotation:
        across = narrow_side(seen["source"], seen["source_size"])
        if self._hold.straight:
            across = rotation(seen["source"]).as_matrix()[:2, 1]
        return facing_down(seen, across)

    def _done(self, seen: Seen) -> bool:
        name = self.STAGES[self._stage]
        if name == "rest":
            return False
        if name in ("close", "open"):
            return self._steps >= 4
        off = float(np.linalg.norm(self._place(seen, name) - seen["tool"][:3]))
        return self._steps > 0 and (off < NEAR or self._steps >= PATIENCE)

    def _place(self, seen: Seen, name: str) -> Vector:
        """Where the tool is to go in this stage, [3] in the base's frame."""
        hold, tool, source, target = self._hold, seen["tool"][:3], seen["source"][:3], seen["target"][:3]
        up = np.array([0.0, 0.0, 1.0])
        if name in ("over", "down"):
            long = rotation(seen["source"]).as_matrix()[:, int(np.argmax(seen["source_size"]))]
            return np.array(source + hold.along * long + (hold.grasp + (0.08 if name == "over" else 0.0)) * up)
        if name == "lift":
            return np.array(self._from + hold.clear * up)
        if name in ("carry", "lower"):
            height = hold.clear if name == "carry" else hold.drop
            rest = (seen["source_size"].min() + seen["target_size"].min()) / 2
            return np.array(tool + (target + (rest + height) * up - source))
        if name == "away":
            return np.array(self._from + 0.08 * up)
        return np.array(self._from)
