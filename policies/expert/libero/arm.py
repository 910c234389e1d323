"""Moving the gripper: poses into OSC actions, step by step, with feedback.

Every motion is a generator: it yields one action [7] at a time and reads `arm.scene`, which holds the moment after the
last one; its return value says how it ended.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from scipy.spatial.transform import Rotation

from envs.spec import ActionSpec
from policies.expert.libero.grasp import HAND, TIP
from policies.expert.libero.scene import UP, Array, Pose, Scene

Moves = Generator[Array, None, bool]
Steps = Generator[Array, None, None]

EASY = 0.66
"""Distance of wrist and shoulder up to which the arm moves freely, metres."""
HIGHEST = 0.45
"""Nothing in the scenes asks for more height over the table than this, metres."""
STRETCHED = -0.2
"""Beyond this angle the elbow is close to its limit (-0.07), radians."""


class Arm:
    """The gripper and the moment it acts in. `scene` is renewed before every step."""

    def __init__(self, scene: Scene, action: ActionSpec) -> None:
        self.scene = scene
        self.closed = False
        self._action = action
        self.home = scene.hand.rotation
        self._rest = scene.hand.position - scene.base
        self.notes: list[str] = []

    @property
    def hand(self) -> Pose:
        return self.scene.hand

    def note(self, what: str) -> None:
        self.notes.append(what)

    def stay(self) -> Array:
        """The action that holds the gripper where it is."""
        return self.toward(self.hand.position, self.hand.rotation)

    def toward(self, position: Array, rotation: Array, speed: float = 1.0) -> Array:
        """The action that takes the gripper nearest to a pose in one step; speed in (0, 1]."""
        spec = self._action
        move = (position - self.hand.position) / spec.translation_unit
        turn = Rotation.from_matrix(rotation @ self.hand.rotation.T).as_rotvec() / spec.rotation_unit
        move *= min(1.0, speed / max(float(np.abs(move).max()), 1e-9))
        turn *= min(1.0, 1.0 / max(float(np.abs(turn).max()), 1e-9))
        return np.array([*move, *turn, self._grip()])

    def _grip(self) -> float:
        return self._action.gripper.closed if self.closed else self._action.gripper.open

    def go(
        self,
        position: Array,
        rotation: Array,
        *,
        within: float = 0.005,
        turned: float = 0.06,
        speed: float = 1.0,
        steps: int = 60,
    ) -> Moves:
        """Go straight to a pose. False: not there after so many steps, or no longer coming nearer."""
        best, since, effort = np.inf, 0, 1.0
        for _ in range(steps):
            apart = float(np.linalg.norm(position - self.hand.position))
            angle = float(Rotation.from_matrix(rotation @ self.hand.rotation.T).magnitude())
            if apart < within and angle < turned:
                return True
            since = 0 if apart + 0.05 * angle < best - 0.0005 else since + 1
            best = min(best, apart + 0.05 * angle)
            if since > 12:
                return False
            effort = min(effort * 1.2, 4.0) if since > 2 else 1.0  # what resists may be friction, or a stretched arm
            yield self.toward(self.hand.position + effort * (position - self.hand.position), rotation, speed)
        return False

    def grip(self, closed: bool, steps: int = 10) -> Steps:
        """Open or close where the gripper is."""
        self.closed = closed
        hold = self.hand
        before = np.inf
        for k in range(steps):
            yield self.toward(hold.position, hold.rotation)
            if k > 3 and abs(self.scene.opening - before) < 0.0008:
                return
            before = self.scene.opening

    def lean(self, position: Array, rotation: Array) -> Array:
        """A rotation that points down, leant outward as far as a place out of easy reach asks for.

        The arm is stretched out when its wrist (0.204 m behind the gripper's point, 0.088 m off the flange: Panda's
        measures) is about 0.7 m from its shoulder (0.333 m over the base).
        """
        shoulder = self.scene.base + 0.333 * UP
        out = np.array([*(position - shoulder)[:2], 0.0])
        out /= np.linalg.norm(out)
        for lean in np.arange(0.0, 0.61, 0.05):
            c, s = np.cos(lean), np.sin(lean)
            wrist = position + 0.204 * (c * UP - s * out) - 0.088 * (c * out + s * UP)
            if np.linalg.norm(wrist - shoulder) < EASY:
                break
        return np.asarray(Rotation.from_rotvec(-lean * np.cross(UP, out)).as_matrix() @ rotation)

    def bend(self, steps: int = 16) -> Steps:
        """Pull back until the elbow is off its limit, if it is near it.

        There the controller, which decouples position from rotation, moves the wrist instead of the elbow whichever
        way it is sent; turning the hand's back toward the base while pulling is what bends the arm.
        """
        if self.scene.elbow < STRETCHED:
            return
        back = (self.scene.base - self.hand.position)[:2]
        back /= np.linalg.norm(back)
        for _ in range(steps):
            if self.scene.elbow < -0.4:
                return
            yield np.array([*back, 0.0, 0.5 * back[1], -0.5 * back[0], 0.0, self._grip()])

    def retire(self) -> Steps:
        """From a pose turned away to the one above the table that the arm starts in: inward first, then turned back."""
        rest = self.scene.base + self._rest
        yield from self.go(rest, self.hand.rotation, within=0.05, turned=4.0, steps=40)
        yield from self.go(rest, self.home, within=0.04, turned=0.2, steps=40)

    def travel(self, position: Array, rotation: Array, *, carrying: tuple[int, ...] = (), drop: float = 0.0) -> Moves:
        """Go to a pose over whatever lies between: as high as what lies just ahead asks for, and down to it at the end.

        The way bends toward the arm's base: an arm that is stretched out locks at its elbow's limit.

        carrying: the bodies held; drop: how far they hang below the gripper's point.
        """
        yield from self.bend()
        low = max(TIP, drop) + 0.025
        for _ in range(120):
            here = self.hand.position
            line = position[:2] - here[:2]
            left = float(np.linalg.norm(line))
            if left < 0.012:
                break
            ahead = here[:2] + line * min(1.0, 0.12 / left)
            under_hand = self.scene.highest_between(here, ahead, carrying, HAND[0] + 0.02) - HAND[2] + 0.035
            need = max(self.scene.highest_between(here, ahead, carrying, 0.07) + low, under_hand)
            need = max(min(need, self.scene.table(position) + HIGHEST), position[2])
            inward = (self.scene.base - position)[:2]
            aim = position[:2] + inward / np.linalg.norm(inward) * min(0.15, 0.5 * (left - 0.012))
            wanted = np.array([*(here[:2] if here[2] < need - 0.02 else aim), need])
            yield self.toward(wanted, rotation)
        return (yield from self.go(position, rotation, within=0.004))
