"""Expert of open_drawer."""

from __future__ import annotations

import math

import numpy as np

from policies.expert.lab import Seen
from policies.expert.lab.moves import Action, HandPose, colours_in, down_on, steer

BEHIND = 0.024
"""Where the closed fingers go down: so far behind the middle of the bar, metres."""
LOW = 0.025
"""Tip height while pulling, metres."""


class OpenDrawer:
    """Closed fingers down behind the bar, then towards the viewer; from anywhere else up and over it again."""

    def __init__(self, instruction: str) -> None:
        self._colour = colours_in(instruction)[0]

    def act(self, seen: Seen) -> Action:
        hand = HandPose.of(seen)
        handle = seen["handles"][list(seen["handle_colours"]).index(self._colour)]
        out = seen["pull"]
        yaw = math.atan2(out[0], -out[1])
        gap = hand.tip[:2] - handle[:2]
        ahead, aside = float(gap @ out), float(gap @ np.array([-out[1], out[0]]))
        if -0.04 < ahead < 0.0 and abs(aside) < 0.035 and hand.tip[2] < 0.042:
            goal = hand.tip[:2] + 0.03 * out - 0.5 * aside * np.array([-out[1], out[0]])
            return steer(hand, (*goal, LOW), closed=True, yaw=yaw)
        return down_on(hand, handle[:2] - BEHIND * out, LOW, closed=True, yaw=yaw, exact=0.008)


SCRIPTS = {"open_drawer": OpenDrawer}
