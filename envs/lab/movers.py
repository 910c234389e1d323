"""Things that move by themselves, as the tasks of lab_imagination use them: painted parts, paths, and when they start.

In all of these tasks the future is fixed by what one picture shows (the aim of a launcher, a fuse that burns down, the
needle of a speed dial), and the hand is slowed, so that whoever waits to see what happens comes too late.
"""

from __future__ import annotations

import math

from envs.lab.parts import Colour, rgba
from envs.lab.task import Trial

Triple = tuple[float, float, float]


class Foreseen(Trial):
    """A trial whose future is shown before it happens.

    launch: the control step in which the thing starts to move; an action chosen for that step is the first one that
    can be too late (benchmarks/lab_too_late.py counts from there).
    """

    launch: int = 0


def painted(half: Triple, pos: Triple, colour: Colour, *, name: str = "", euler: str = "0 0 0") -> str:
    """A box that is only seen, never touched; halves and place in metres, euler angles in degrees."""
    label = f'name="{name}" ' if name else ""
    return (
        f'<geom {label}type="box" size="{half[0]} {half[1]} {half[2]}" pos="{pos[0]} {pos[1]} {pos[2]}" '
        f'euler="{euler}" rgba="{rgba(colour)}" contype="0" conaffinity="0"/>'
    )


def fixture(name: str, inside: str) -> str:
    """A body that the trial places (`World.put`)."""
    return f'<body name="{name}" mocap="true">{inside}</body>'


def fold(x: float, low: float, high: float) -> float:
    """Where a point that would be at x is, when it is thrown back at `low` and `high` (mirror law, no loss).

    An elastic, frictionless bounce keeps the speed and mirrors the direction, so the path is a straight line folded at
    the walls. Raises ValueError for walls that leave no room.
    """
    width = high - low
    if not width > 0:
        raise ValueError(f"walls at {low} and {high} leave no room")
    along = (x - low) % (2 * width)
    return low + (along if along < width else 2 * width - along)


def heading(across: float, towards: float) -> tuple[tuple[float, float], float]:
    """The way of something that goes `across` to the right while it comes `towards` the camera: its unit vector as
    (to the right, towards), and its turn about the vertical, radians, 0 straight towards the camera.

    The vector comes from a square root and divisions, which every processor does alike, and the turn is rounded to 9
    decimals: the last bits of a sine or an arc tangent are the machine's, and would change the scene's hash.
    """
    length = math.sqrt(across * across + towards * towards)
    return (across / length, towards / length), round(math.atan2(across, towards), 9)
