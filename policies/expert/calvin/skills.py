"""What the 34 tasks are made of: press, switch, slide, draw, grasp, put."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.expert.calvin.arm import CABINET, LEVEL_YAW, LOW, Arm, Steps, shifted
from policies.expert.calvin.view import (
    BUTTON_TOP,
    DRAWER_BAR,
    DRAWER_FLOOR,
    PLANK_TOP,
    SLIDE_BAR,
    SWITCH_BAR,
    Array,
    BlockPose,
)

HOVER = 0.008
"""How far (m) a block is raised to be turned or shifted without leaving the table's contact for long."""
SHELF_TILT = -0.5
"""Pitch (rad) at which the hand keeps clear of the cabinet's walls while the fingers reach into it."""


def press_button(arm: Arm) -> Steps:
    """Down on the button with closed fingers, and up."""
    top = arm.view.point("button", BUTTON_TOP)
    arm.closed = True
    yield from arm.over(top)
    yield from arm.to(shifted(top, 0, 0, 0.06))
    yield from arm.to(shifted(top, 0, 0, -0.02), speed=0.5)
    yield from arm.to(shifted(top, 0, 0, 0.06))


def work_switch(arm: Arm, *, up: bool) -> Steps:
    """Push the switch's bar along its way, from below or above, with tilted fingers."""
    along = np.array([0.0, 0.5, 0.866])
    bar = arm.view.point("switch", SWITCH_BAR)
    arm.closed = True
    start = shifted(bar, 0, -0.02, -0.07) if up else bar + 0.05 * along
    yield from arm.over(shifted(start, 0, -0.14, 0))  # upright over the switch is out of reach
    yield from arm.turn(LEVEL_YAW, -0.7)
    yield from arm.to(shifted(start, 0, -0.12, 0))
    yield from arm.to(start)
    yield from arm.to(start + (0.12 if up else -0.14) * along, speed=0.5)


def move_slider(arm: Arm, *, left: bool) -> Steps:
    """Push the door by the side of its handle."""
    bar = arm.view.point("slide", SLIDE_BAR)
    side = 1.0 if left else -1.0
    start = shifted(bar, side * 0.07, 0.0, -0.01)
    arm.closed = True
    yield from arm.over(start)
    yield from arm.to(start)
    rest = 0.28 - arm.view.slider if left else arm.view.slider
    yield from arm.to(shifted(start, side * -(rest + 0.045), 0, 0), speed=0.6)
    yield from arm.to(start if rest < 0.05 else shifted(arm.view.tool, side * 0.02, 0, 0))


def clear_door(arm: Arm, x: float) -> Steps:
    """Push the door wholly aside where a part of it stands before x."""
    room = 0.09
    left, right = arm.view.door()
    if left - room < x < right + room:
        yield from move_slider(arm, left=x > (left + right) / 2)
        yield from arm.rise()


def open_drawer(arm: Arm) -> Steps:
    """Fingers behind the handle, and pull."""
    bar = arm.view.point("drawer", DRAWER_BAR)
    behind = shifted(bar, 0, 0.03, 0.02)
    arm.closed = True
    yield from arm.over(behind)
    yield from arm.to(behind)
    yield from arm.to(shifted(behind, 0, arm.view.drawer - 0.23, 0), speed=0.6)


def close_drawer(arm: Arm) -> Steps:
    """Fingers before the handle, and push."""
    bar = arm.view.point("drawer", DRAWER_BAR)
    before = shifted(bar, 0, -0.05, 0.01)
    arm.closed = True
    yield from arm.over(before)
    yield from arm.to(before)
    yield from arm.to(shifted(before, 0, arm.view.drawer + 0.04, 0), speed=0.6)


def grasp(arm: Arm, colour: str, *, turn: float = 0.0) -> Steps:
    """Take the block between the fingers. turn: by how much it will be turned then, so that the wrist has room."""
    block = arm.view.block(colour)
    on_shelf = block.position[1] > CABINET + 0.1
    if on_shelf:
        yield from clear_door(arm, float(block.position[0]))
    yaw = min(block.grip_yaws(), key=lambda y: abs(y + turn / 2 - LEVEL_YAW), default=LEVEL_YAW)
    arm.closed = False
    pitch = SHELF_TILT if on_shelf else 0.0
    back = 0.08 if on_shelf else 0.0
    yield from arm.over(shifted(block.position, 0, -back, 0), yaw=yaw, pitch=pitch)
    yield from arm.to(shifted(block.position, 0, -back, 0.06))
    place = shifted(arm.view.block(colour).position, 0, 0, 0.002)
    if on_shelf:  # one finger stays near the block, so that the other has room before the wall
        inward = 0.012 if place[0] < -0.085 else -0.012
        place = shifted(place, inward, -inward / np.tan(yaw), 0)
    yield from arm.to(place, speed=0.5)
    yield from arm.grip(closed=True)


def lift(arm: Arm, colour: str) -> Steps:
    """Take a block and raise it."""
    yield from grasp(arm, colour)
    x, y, z = arm.view.target[:3]
    yield from arm.to((x, y, z + 0.12), speed=0.6)
    yield from arm.wait(5)


def rotate(arm: Arm, colour: str, *, left: bool) -> Steps:
    """Take a block, turn it just above where it lay, and let it go."""
    turn = 1.25 if left else -1.25
    yield from grasp(arm, colour, turn=turn)
    x, y, z = arm.view.target[:3]
    yield from arm.to((x, y, z + HOVER), speed=0.5)
    yield from arm.turn(arm.yaw + turn)
    yield from arm.grip(closed=False)


def push(arm: Arm, colour: str, *, right: bool) -> Steps:
    """Take a block, shift it just above the table, and let it go: the hand does not touch it when it is done."""
    yield from grasp(arm, colour)
    x, y, z = arm.view.target[:3]
    yield from arm.to((x, y, z + HOVER), speed=0.5)
    yield from arm.to((x + (0.125 if right else -0.125), y, z + HOVER), speed=0.7)
    yield from arm.grip(closed=False)


def let_go(arm: Arm) -> Steps:
    """Lay a block that is still in the hand down on the table."""
    held = arm.view.held()
    if held is None and not arm.view.is_near_block():
        return
    if held is not None and held.position[2] > 0.5:
        others = [b.position[0] for b in arm.view.blocks() if b.colour != held.colour and b.position[1] < 0]
        free = max((0.0, 0.1, 0.2, 0.3), key=lambda x: min((abs(x - other) for other in others), default=1.0))
        yield from put(arm, (free, -0.1, 0.465))
    else:
        yield from arm.grip(closed=False)
        yield from arm.rise(LOW)


def put(arm: Arm, place: Sequence[float] | Array, *, above: float = 0.0) -> Steps:
    """Bring the held block to a place for its centre [3], let go of it and rise."""
    held = arm.view.held()
    shift = np.zeros(3) if held is None else arm.view.tool - held.position
    goal = shifted(np.asarray(place) + shift, 0, 0, above)
    _, _, _, _, pitch, yaw = arm.view.target  # as it was taken, so that it comes to lie flat
    yield from arm.over(goal, yaw=float(yaw), pitch=float(pitch), speed=0.6)
    held = arm.view.held()
    if held is not None:
        arm.pitch -= held.lean(arm.yaw)
        yield from arm.to(arm.view.target[:3])
        held = arm.view.held() or held
        goal = np.asarray(place) + (arm.view.tool - held.position) + np.array((0, 0, above))
    yield from arm.to(shifted(goal, 0, 0, 0.04), speed=0.6)
    yield from arm.to(goal, speed=0.5)
    yield from arm.grip(closed=False)
    yield from arm.rise(float(goal[2]) + 0.1)


def put_in_drawer(arm: Arm) -> Steps:
    """Let the held block down into the drawer."""
    floor = arm.view.point("drawer", DRAWER_FLOOR)
    yield from put(arm, shifted(floor, 0, 0, 0.03))


def put_on_shelf(arm: Arm) -> Steps:
    """Let the held block down on the side of the shelf that the door leaves open, away from other blocks."""
    top = arm.view.point("plank", PLANK_TOP)
    sides = (-0.15, -0.1, -0.2) if arm.view.slider < 0.14 else (0.18, 0.13, 0.23)
    held = arm.view.held()
    others = [
        b.position[0] for b in arm.view.blocks() if (held is None or b.colour != held.colour) and b.position[1] > 0
    ]
    side = max(sides, key=lambda x: min((abs(top[0] + x - other) for other in others), default=1.0))
    yield from put(arm, (top[0] + side, 0.085, top[2] + 0.025))


def stack(arm: Arm) -> Steps:
    """Set the held block on another one that lies free on the table."""
    held = arm.view.held()
    others = [b for b in arm.view.blocks() if held is None or b.colour != held.colour]
    below = min(others, key=lambda b: abs(b.position[1] + 0.12))
    yield from put(arm, shifted(below.position, 0, 0, 0.042))


def unstack(arm: Arm) -> Steps:
    """Take the upper block away and lay it down beside."""
    stacked = [b for b in arm.view.blocks() if b.stacked]
    top: BlockPose = max(stacked or arm.view.blocks(), key=lambda b: float(b.position[2]))
    yield from lift(arm, top.colour)


def push_into_drawer(arm: Arm) -> Steps:
    """Move a block from the table into the open drawer."""
    on_table = [b for b in arm.view.blocks() if -0.18 < b.position[1] < 0.0 and b.position[2] > 0.42]
    if not on_table:
        yield from arm.wait(10)
        return
    yield from lift(arm, on_table[0].colour)
    yield from put_in_drawer(arm)
