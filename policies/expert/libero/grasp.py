"""Where to take hold of a thing from above: a search over places and turns of the gripper, on points of the shapes.

The gripper (Panda hand, seen along its own axes: u along which the fingers close, v across, w up from the fingertips)
is three blocks: two fingers and the hand above them. A grasp is good where the fingers and the hand go down without
touching anything, what stands between the pads is narrower than their opening and spans the pads, and its sides are
square to the closing direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.expert.libero.scene import UP, Array

TIP = 0.012
"""Fingertips lie this far beyond the point that the controller moves, metres (from the finger's collision mesh)."""
PADS = (0.008, 0.024)
"""The pads' extent up from the tips."""
HAND = (0.105, 0.030, 0.040)
"""Half widths of the hand along u and v, and its lower face's height above the tips."""
FINGER = (0.038, 0.062, 0.0115)
"""An open finger's extent along u, and half width along v."""
WIDEST = 0.072
MARGIN = 0.003


@dataclass(frozen=True)
class Grasp:
    """position [3] of the controlled point, rotation [3, 3] of the gripper, score (higher is better)."""

    position: Array
    rotation: Array
    score: float


def facing_down(yaw: float) -> Array:
    """Gripper rotation [3, 3], pointing down, closing along the horizontal direction `yaw`."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])


def yaw_of(rotation: Array) -> float:
    """The horizontal direction along which a gripper closes."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def search(thing: Array, others: Array, floor: float, home: Array, base: Array) -> list[Grasp]:
    """Grasps of `thing` (points [n, 3]) among `others` [m, 3] over a floor at that height, best first.

    home: the gripper's rotation at the start, from which it can turn either way; base: where the arm stands [3] (of two
    sides, the nearer one is preferred).
    """
    middle = (thing.min(axis=0) + thing.max(axis=0)) / 2
    ahead = yaw_of(home)
    found: list[Grasp] = []
    for turn in np.arange(16) * np.pi / 16:
        yaw = ahead + (turn + np.pi / 2) % np.pi - np.pi / 2  # of the two equal turns, the nearer one
        rotation = facing_down(yaw)
        found += _search_turn(thing, others, floor, rotation, middle, base, abs(yaw - ahead))
    return sorted(found, key=lambda grasp: -grasp.score)


def pointing(out: Array, tilt: float, now: Array, *, across: bool) -> Array:
    """Gripper rotation [3, 3] that points down and, by `tilt`, against the horizontal direction `out`.

    across: the fingers close in the plane of `out` and up (around a bar), else at right angles to it. Of the two equal
    turns the one nearer to `now`.
    """
    point = -np.cos(tilt) * UP - np.sin(tilt) * out
    along = np.cross(UP, out)
    close = np.cross(along, point) if across else along
    ways = [np.column_stack([c, np.cross(point, c), point]) for c in (close, -close)]
    return np.asarray(min(ways, key=lambda way: -float(np.trace(way @ now.T))))


def _search_turn(
    thing: Array, others: Array, floor: float, rotation: Array, middle: Array, base: Array, turned: float
) -> list[Grasp]:
    axes = rotation[:, :2]
    own = np.column_stack([thing @ axes, thing[:, 2]])
    rest = np.column_stack([others @ axes, others[:, 2]])
    centre = middle @ axes
    low, high = own[:, :2].min(axis=0), own[:, :2].max(axis=0)
    found = []
    for v in np.arange(low[1] + 0.004, high[1], 0.006):
        near, near_rest = own[np.abs(own[:, 1] - v) < HAND[1] + 0.01], rest[np.abs(rest[:, 1] - v) < HAND[1] + 0.01]
        for u in np.arange(low[0] - 0.005, high[0] + 0.006, 0.005):
            at = np.array([u, v])
            scored = _score(near, near_rest, floor, at)
            if scored is None:
                continue
            tip, quality, shift = scored
            lever = float(np.linalg.norm(at - centre))
            place = axes @ np.array([u + shift, v])
            position = np.array([place[0], place[1], tip + TIP])
            reach = float(np.linalg.norm(place[:2] - base[:2]) - np.linalg.norm(middle[:2] - base[:2]))
            found.append(Grasp(position, rotation, quality - 12.0 * lever - 0.25 * turned - 2.0 * reach))
    return found


def _score(own: Array, rest: Array, floor: float, at: Array) -> tuple[float, float, float] | None:
    """Height of the tips, quality, and how far the middle of what is held lies off along u; None: no grasp."""
    place = own - [*at, 0.0]
    across, along = np.abs(place[:, 1]), np.abs(place[:, 0])
    between = (along < FINGER[0]) & (across < FINGER[2])
    if not between.any():
        return None
    top = float(place[between, 2].max())
    blocked = max(_blocked(place, FINGER[0]), _blocked(rest - [*at, 0.0], 0.0), floor + 0.002)
    tip = max(blocked, top - 0.028)
    held = place[between & (place[:, 2] > tip + PADS[0] - 0.002) & (place[:, 2] < tip + PADS[1] + 0.002)]
    reach = min(top, tip + PADS[1]) - (tip + PADS[0])
    if len(held) < 4 or reach < 0.004:
        return None
    left, right = float(held[:, 0].min()), float(held[:, 0].max())
    if right - left > WIDEST:
        return None
    square = _squareness(held)
    middle = (left + right) / 2
    if max(-left, right) > FINGER[0] - 0.001 or abs(middle) > 0.006:
        return None
    quality = 40.0 * min(reach, 0.014) - 30.0 * square - 20.0 * abs(middle) - 2.0 * max(right - left - 0.06, 0) / 0.012
    return tip, quality, middle


def _blocked(points: Array, gap: float) -> float:
    """The lowest height the tips can have with nothing in the fingers' or the hand's way (nor between the fingers,
    unless it is within `gap` of their middle)."""
    along, across = np.abs(points[:, 0]), np.abs(points[:, 1])
    fingers = (along > gap - MARGIN) & (along < FINGER[1] + MARGIN) & (across < FINGER[2] + MARGIN)
    hand = (along < HAND[0] + MARGIN) & (across < HAND[1] + MARGIN)
    low = float(points[fingers, 2].max(initial=-np.inf)) + MARGIN
    return max(low, float(points[hand, 2].max(initial=-np.inf)) - HAND[2] + MARGIN)


def _squareness(held: Array) -> float:
    """How unlike the sides are across the pads: spread of the left and right edges over slices, metres."""
    slices = np.round((held[:, 1] - held[:, 1].min()) / 0.005)
    edges = np.array([[held[slices == k, 0].min(), held[slices == k, 0].max()] for k in np.unique(slices)])
    return float(np.ptp(edges, axis=0).max())
