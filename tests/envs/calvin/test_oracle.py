"""The rules of all 34 tasks on constructed moments: each where it holds, and where one condition is missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from envs.calvin.oracle import RULES, done_tasks
from envs.calvin.snapshot import Block, Snapshot
from envs.calvin.tasks import TASKS

ROBOT, TABLE = 0, 5
LINKS = {"base_link": -1, "button_link": 0, "slide_link": 2, "drawer_link": 3, "plank_link": 6}
BODIES = {"red": 2, "blue": 3, "pink": 4}
HAND = (ROBOT, 9)


def on(link: str) -> tuple[int, int]:
    return TABLE, LINKS[link]


def block(colour: str, touches: Iterable[tuple[int, int]] = (), **changed: object) -> Block:
    """At rest on the table, unless something is changed."""
    spot = {"red": 0.0, "blue": 0.2, "pink": 0.4}[colour]
    plain = Block(
        body=BODIES[colour],
        position=np.array([spot, -0.12, 0.46]),
        quaternion=np.array([0.0, 0.0, 0.0, 1.0]),
        linear=np.zeros(3),
        angular=np.zeros(3),
        contacts=frozenset(touches or [on("base_link")]),
    )
    return replace(plain, **changed)  # type: ignore[arg-type]


def world(*blocks: Block, held: Iterable[tuple[int, int]] = (), **changed: float) -> Snapshot:
    """Three blocks on the table, but for those given; closed, dark, the hand free."""
    colours = {body: colour for colour, body in BODIES.items()}
    lying = {colour: block(colour) for colour in BODIES} | {colours[b.body]: b for b in blocks}
    plain = Snapshot(ROBOT, TABLE, LINKS, frozenset(held), lying, slider=0.0, drawer=0.0, lightbulb=0, led=0)
    return replace(plain, **changed)  # type: ignore[arg-type]


def turned(degrees: float, axis: str = "z") -> np.ndarray:
    return Rotation.from_euler(axis, degrees, degrees=True).as_quat()


def moved(colour: str, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    return block(colour).position + np.array([x, y, z])


STILL = world()
ROTATE = [(f"rotate_{c}_block_{side}", c, sign) for c in BODIES for side, sign in (("left", 1), ("right", -1))]
PUSH = [(f"push_{c}_block_{side}", c, sign) for c in BODIES for side, sign in (("right", 1), ("left", -1))]
LIFT = [
    (f"lift_{c}_block_{place}", c, link, height)
    for c in BODIES
    for place, link, height in (
        ("table", "base_link", 0.05),
        ("slider", "plank_link", 0.03),
        ("drawer", "drawer_link", 0.05),
    )
]


def test_there_is_a_rule_for_each_of_the_34_tasks() -> None:
    assert list(RULES) == [task.name for task in TASKS]
    assert len(RULES) == 34


def test_when_nothing_changes_nothing_is_done() -> None:
    held = block("red", [HAND], position=moved("red", z=0.1))
    stacked = block("blue", [(BODIES["red"], -1)], position=moved("red", z=0.04))
    for moment in (STILL, world(held, held=[(BODIES["red"], -1)]), world(stacked), world(lightbulb=1, led=1)):
        assert done_tasks(moment, moment) == set()


@pytest.mark.parametrize(("task", "colour", "sign"), ROTATE)
def test_rotate(task: str, colour: str, sign: int) -> None:
    assert done_tasks(STILL, world(block(colour, quaternion=turned(61 * sign)))) == {task}
    assert done_tasks(STILL, world(block(colour, quaternion=turned(59 * sign)))) == set()
    other = task.replace("left", "RIGHT").replace("right", "left").replace("RIGHT", "right")
    assert done_tasks(STILL, world(block(colour, quaternion=turned(-61 * sign)))) == {other}
    tilted = (Rotation.from_quat(turned(35, "x")) * Rotation.from_quat(turned(70 * sign))).as_quat()
    assert done_tasks(STILL, world(block(colour, quaternion=tilted))) == set()
    far = block(colour, quaternion=turned(70 * sign), position=moved(colour, y=0.101))
    assert done_tasks(STILL, world(far)) == set()
    in_hand = block(colour, [HAND], quaternion=turned(70 * sign))
    assert done_tasks(STILL, world(in_hand, held=[(BODIES[colour], -1)])) == set()


@pytest.mark.parametrize(("task", "colour", "sign"), PUSH)
def test_push(task: str, colour: str, sign: int) -> None:
    there = moved(colour, x=0.101 * sign)
    assert done_tasks(STILL, world(block(colour, position=there))) == {task}
    touched = block(colour, [on("base_link"), HAND], position=there)
    assert done_tasks(STILL, world(touched)) == {task}
    assert done_tasks(STILL, world(block(colour, position=moved(colour, x=0.099 * sign)))) == set()
    assert done_tasks(STILL, world(block(colour, [HAND], position=there))) == set()
    shelf = block(colour, [on("plank_link")], position=there)
    assert done_tasks(STILL, world(shelf)) == set()
    at_button = world(block(colour, [on("base_link"), on("button_link")]))
    assert done_tasks(at_button, world(block(colour, position=there))) == set()
    assert done_tasks(STILL, world(block(colour, [on("base_link"), on("button_link")], position=there))) == {task}


@pytest.mark.parametrize(("task", "colour", "link", "height"), LIFT)
def test_lift(task: str, colour: str, link: str, height: float) -> None:
    start = world(block(colour, [on(link)]))
    up, held = moved(colour, z=height + 0.001), [(BODIES[colour], -1)]
    assert done_tasks(start, world(block(colour, [HAND], position=up), held=held)) == {task}
    low = moved(colour, z=height - 0.001)
    assert done_tasks(start, world(block(colour, [HAND], position=low), held=held)) == set()
    resting = block(colour, [HAND, on(link)], position=up)
    assert done_tasks(start, world(resting, held=held)) == set()
    flying = replace(block(colour, position=up), contacts=frozenset())
    assert done_tasks(start, world(flying)) == set()
    elsewhere = world(block(colour, [on("slide_link")]))
    assert done_tasks(elsewhere, world(block(colour, [HAND], position=up), held=held)) == set()


@pytest.mark.parametrize("colour", BODIES)
@pytest.mark.parametrize(("task", "link"), [("place_in_slider", "plank_link"), ("place_in_drawer", "drawer_link")])
def test_place(task: str, link: str, colour: str) -> None:
    body = (BODIES[colour], -1)
    start = world(block(colour, [HAND], position=moved(colour, z=0.1)), held=[body])
    put = block(colour, [on(link)], position=moved(colour, z=0.001))
    assert done_tasks(start, world(put)) == {task}
    assert done_tasks(start, world(put, held=[on("base_link")])) == {task}
    assert done_tasks(start, world(put, held=[body])) == set()
    assert done_tasks(start, world(block(colour, [on("base_link")]))) == set()
    touching_more = world(start.blocks[colour], held=[body, on("base_link")])
    assert done_tasks(touching_more, world(put)) == set()
    not_lifted = world(block(colour, [HAND, on("base_link")]), held=[body])
    assert done_tasks(not_lifted, world(put)) == set()
    assert done_tasks(STILL, world(put)) <= {"push_into_drawer"}
    robot_on_table_only = world(start.blocks[colour], held=[on("base_link")])
    assert done_tasks(robot_on_table_only, world(put)) == set()


@pytest.mark.parametrize("colour", BODIES)
def test_push_into_drawer(colour: str) -> None:
    fallen = block(colour, [on("drawer_link")], position=moved(colour, y=-0.15, z=-0.1))
    assert done_tasks(STILL, world(fallen)) == {"push_into_drawer"}
    still_held = replace(fallen, contacts=frozenset([on("drawer_link"), HAND]))
    assert done_tasks(STILL, world(still_held)) == {"push_into_drawer"}  # as the original's code has it, not its text
    touched = world(block(colour, [on("base_link"), HAND]))
    assert done_tasks(touched, world(fallen)) == set()
    two_contacts = world(block(colour, [on("base_link"), on("button_link")]))
    assert done_tasks(two_contacts, world(fallen)) == set()
    assert done_tasks(world(block(colour, [on("plank_link")])), world(fallen)) == set()
    assert done_tasks(STILL, world(replace(fallen, contacts=frozenset([on("base_link")])))) == set()


@pytest.mark.parametrize(("top", "bottom"), [*pairwise([*BODIES, "red"])])
def test_stack_and_unstack(top: str, bottom: str) -> None:
    tower = world(
        block(top, [(BODIES[bottom], -1)], position=moved(bottom, z=0.04)),
        block(bottom, [on("base_link"), (BODIES[top], -1)]),
    )
    held = world(block(top, [HAND], position=moved(top, z=0.04)), held=[(BODIES[top], -1)])
    assert done_tasks(held, tower) == {"stack_block"}
    assert done_tasks(tower, held) == {"unstack_block"}
    for speed in ({"linear": np.array([0, 0, -1.1])}, {"angular": np.array([1.1, 0, 0])}):
        swinging = world(*(replace(b, **speed) if c == top else b for c, b in tower.blocks.items()))
        assert done_tasks(held, swinging) == set()
        assert done_tasks(swinging, held) == set()
    leaning = block(top, [(BODIES[bottom], -1), on("base_link")], position=moved(bottom, x=0.01, z=0.04))
    assert done_tasks(held, world(leaning, tower.blocks[bottom])) == set()
    in_hand = block(top, [(BODIES[bottom], -1), HAND], position=moved(bottom, z=0.04))
    assert done_tasks(held, world(in_hand, tower.blocks[bottom])) == set()
    assert done_tasks(tower, world(in_hand, tower.blocks[bottom])) == set()


@pytest.mark.parametrize(
    ("task", "door", "change"),
    [
        ("move_slider_left", "slider", 0.15),
        ("move_slider_right", "slider", -0.15),
        ("open_drawer", "drawer", 0.12),
        ("close_drawer", "drawer", -0.12),
    ],
)
def test_doors(task: str, door: str, change: float) -> None:
    start = 0.0 if change > 0 else 0.2
    before = replace(STILL, **{door: start})
    assert done_tasks(before, replace(STILL, **{door: start + change * 1.01})) == {task}
    assert done_tasks(before, replace(STILL, **{door: start + change * 0.99})) == set()


@pytest.mark.parametrize("lamp", ["lightbulb", "led"])
def test_lamps(lamp: str) -> None:
    lit = replace(STILL, **{lamp: 1})
    assert done_tasks(STILL, lit) == {f"turn_on_{lamp}"}
    assert done_tasks(lit, STILL) == {f"turn_off_{lamp}"}
