"""Which of the 34 tasks happened between two moments.

Rules and thresholds: mees/calvin_env, envs/tasks.py, with the values of mees/calvin, new_playtable_tasks.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.spatial.transform import Rotation

from envs.calvin.layout import COLOURS
from envs.calvin.snapshot import Block, Snapshot
from envs.calvin.tasks import TASKS

Rule = Callable[[Snapshot, Snapshot], bool]
"""(at the start, now) -> whether the task is done."""

TURN, TILT, DRIFT = 60.0, 30.0, 0.1
PUSH = 0.1
SLIDE, DRAW = 0.15, 0.12
LIFT = {"table": 0.05, "slider": 0.03, "drawer": 0.05}
SURFACE = {"table": "base_link", "slider": "plank_link", "drawer": "drawer_link"}
CALM = 1.0
"""Degrees; metres; metres of the doors; metres a block rises, and the link of the table it lay on; m/s and rad/s."""


def is_done(task: str, start: Snapshot, now: Snapshot) -> bool:
    """Whether this task was done between the two. Raises KeyError for a name that is none of the 34."""
    return RULES[task](start, now)


def done_tasks(start: Snapshot, now: Snapshot) -> set[str]:
    """All tasks done between the two."""
    return {name for name, rule in RULES.items() if rule(start, now)}


def _rotated(colour: str, sign: int, start: Snapshot, now: Snapshot) -> bool:
    """Turned by more than 60 degrees (positive: to the left) about the vertical and by little about the others, near
    where it was, and resting on something."""
    before, after = start.blocks[colour], now.blocks[colour]
    turn = Rotation.from_quat(after.quaternion) * Rotation.from_quat(before.quaternion).inv()
    x, y, z = turn.as_euler("xyz", degrees=True)
    if np.linalg.norm(after.position - before.position) > DRIFT or not after.bodies - {start.robot}:
        return False
    return bool(TURN < sign * z < 180.0 and abs(x) < TILT and abs(y) < TILT)


def _pushed(colour: str, sign: int, start: Snapshot, now: Snapshot) -> bool:
    """Moved by more than 0.1 m along x (positive: to the right) and still touching all it touched, the robot aside."""
    before, after = start.blocks[colour], now.blocks[colour]
    touched = {contact for contact in before.contacts if contact[0] != start.robot}
    touches = {contact for contact in after.contacts if contact[0] != start.robot}
    moved = float(after.position[0] - before.position[0])
    return bool(touched) and touched <= touches and sign * moved > PUSH


def _lifted(colour: str, place: str, start: Snapshot, now: Snapshot) -> bool:
    """Raised from where it lay, and in contact with nothing but the robot."""
    before, after = start.blocks[colour], now.blocks[colour]
    raised = float(after.position[2] - before.position[2]) > LIFT[place]
    return raised and after.bodies == {start.robot} and start.link(SURFACE[place]) in before.contacts


def _placed(place: str, start: Snapshot, now: Snapshot) -> bool:
    """The block that the robot held, and it alone, lies on the shelf or in the drawer and is let go."""
    touched = {body for body, _ in start.robot_contacts}
    held = [colour for colour, block in start.blocks.items() if touched == {block.body}]
    if not held or start.blocks[held[0]].body in {body for body, _ in now.robot_contacts}:
        return False
    before, after = start.blocks[held[0]], now.blocks[held[0]]
    return before.bodies == {start.robot} and now.link(SURFACE[place]) in after.contacts


def _pushed_into_drawer(start: Snapshot, now: Snapshot) -> bool:
    """A block that lay on the table and touched nothing else, the robot neither, lies in the drawer.

    The original's text says that the robot may not touch it at the end either. Its code looks for a body's number among
    (body, link) pairs, where it never is, so a block still held over the drawer's floor counts. Published scores were
    made with the code, and so are ours.
    """

    def fell(before: Block, after: Block) -> bool:
        alone = before.contacts == {start.link("base_link")}
        return alone and now.link("drawer_link") in after.contacts

    return any(fell(start.blocks[colour], now.blocks[colour]) for colour in start.blocks)


def _stacked(start: Snapshot, now: Snapshot) -> bool:
    """A block that touched no block touches blocks alone, and is calm."""
    blocks = {block.body for block in start.blocks.values()}
    return any(
        not blocks & start.blocks[colour].bodies and _rests_on(after, blocks) for colour, after in now.blocks.items()
    )


def _unstacked(start: Snapshot, now: Snapshot) -> bool:
    """A block that touched blocks alone, and was calm, touches none."""
    blocks = {block.body for block in start.blocks.values()}
    return any(
        _rests_on(before, blocks) and not blocks & now.blocks[colour].bodies for colour, before in start.blocks.items()
    )


def _rests_on(block: Block, others: set[int]) -> bool:
    speeds = np.abs([*block.linear, *block.angular])
    return bool(block.bodies) and block.bodies <= others and bool((speeds < CALM).all())


def _moved(door: str, change: float, start: Snapshot, now: Snapshot) -> bool:
    """A door moved by more than `change` metres, in its direction."""
    moved = getattr(now, door) - getattr(start, door)
    return bool(moved > change if change > 0 else moved < change)


def _switched(lamp: str, lit: int, start: Snapshot, now: Snapshot) -> bool:
    return bool(getattr(start, lamp) == 1 - lit and getattr(now, lamp) == lit)


_FIXED: dict[str, Rule] = {
    "move_slider_left": partial(_moved, "slider", SLIDE),
    "move_slider_right": partial(_moved, "slider", -SLIDE),
    "open_drawer": partial(_moved, "drawer", DRAW),
    "close_drawer": partial(_moved, "drawer", -DRAW),
    "place_in_slider": partial(_placed, "slider"),
    "place_in_drawer": partial(_placed, "drawer"),
    "push_into_drawer": _pushed_into_drawer,
    "stack_block": _stacked,
    "unstack_block": _unstacked,
    "turn_on_lightbulb": partial(_switched, "lightbulb", 1),
    "turn_off_lightbulb": partial(_switched, "lightbulb", 0),
    "turn_on_led": partial(_switched, "led", 1),
    "turn_off_led": partial(_switched, "led", 0),
}


def _rule(name: str) -> Rule:
    if name in _FIXED:
        return _FIXED[name]
    verb, colour, how = re.fullmatch(rf"(\w+?)_({'|'.join(COLOURS)})_block_(\w+)", name).groups()  # type: ignore[union-attr]
    if verb == "lift":
        return partial(_lifted, colour, how)
    if verb == "rotate":
        return partial(_rotated, colour, 1 if how == "left" else -1)
    assert verb == "push", name
    return partial(_pushed, colour, 1 if how == "right" else -1)


RULES: dict[str, Rule] = {task.name: _rule(task.name) for task in TASKS}
