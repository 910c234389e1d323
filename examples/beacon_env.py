"""A whole third-party benchmark in one file: go to the pad whose colour a lamp shows at the start.

Replace the arithmetic by a simulator, and import that simulator inside `make`, never at the top.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.base import SceneError, VLAEnv
from envs.runtime import Runtime
from envs.spec import ActionSpec, Advance, CameraSpec, EnvSpec, Floats, Gripper, Image, Rotation

RUNTIME = Runtime()  # runs in the main Python environment
LIT, REACH, SIDE = 4, 0.12, 32  # steps the lamp shines; metres within which a pad is touched; pixels
RED, BLUE, WHITE = (220, 30, 30), (30, 60, 220), (255, 255, 255)


def describe() -> EnvSpec:
    return EnvSpec(
        benchmark="beacon",
        action=ActionSpec("world", False, 0.1, Rotation.EULER_XYZ, 0.1, Gripper(open=1.0, closed=-1.0), hz=10.0),
        cameras=(CameraSpec("top", SIDE, SIDE),),
        state=("x", "y"),
    )


def make() -> VLAEnv:
    return BeaconEnv(describe())


def pixel(place: npt.ArrayLike) -> npt.NDArray[np.int_]:
    """Column and row of a place in metres (the picture spans -1.2 ... 1.2)."""
    return np.rint((np.asarray(place) + 1.2) / 2.4 * (SIDE - 1)).astype(int)


class BeaconEnv(VLAEnv):
    """The hand starts in the middle; the red and the blue pad lie on either side of it."""

    def load(self, task: str, trial: int, seed: int) -> None:
        if task != "follow_the_lamp":
            raise SceneError(f"no task {task!r} here; there is: follow_the_lamp")
        chance = np.random.default_rng([seed, trial])  # the scene comes from these two numbers and nothing else
        self._hand, self._clock = np.zeros(2), 0
        self._pads = np.stack([chance.permutation([-0.8, 0.8]), chance.uniform(-0.8, 0.8, 2)], axis=1)
        self._goal = int(chance.integers(2))

    def advance(self, action: Floats) -> Advance:
        if (
            self._clock >= LIT
        ):  # held until the lamp is out: a hand on its way would show the colour to every later frame
            self._hand = np.clip(self._hand + 0.1 * np.clip(action[:2], -1, 1), -1, 1)
        self._clock += 1
        touched = np.linalg.norm(self._pads - self._hand, axis=1) < REACH
        return Advance(success=bool(touched[self._goal]), terminated=bool(touched[1 - self._goal]))

    def draw(self, camera: str) -> Image:
        picture = np.full((SIDE, SIDE, 3), 20, np.uint8)
        for place, colour in zip((*self._pads, self._hand), (RED, BLUE, WHITE), strict=True):
            column, row = pixel(place)
            picture[row - 1 : row + 2, column - 1 : column + 2] = colour
        if self._clock < LIT:
            picture[0] = (RED, BLUE)[self._goal]  # the lamp: a strip along the upper edge
        return picture

    def instruction(self) -> str:
        return "go to the pad of the lamp's colour"

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        return [("hand", self._hand), ("pads", self._pads), ("goal", self._goal), ("clock", self._clock)]

    def state(self) -> Floats:
        return self._hand.astype(np.float32)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        lamp = self._goal if self._clock < LIT else -1  # of the present only: the past is for the expert to remember
        return {"hand": self._hand.copy(), "pads": self._pads.copy(), "lamp": np.array([lamp])}


class BeaconScript:
    """The scripted expert: the positive control, and with its memory taken away the proof that memory is needed."""

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None:
        self._goal = -1

    def act(self, seen: Mapping[str, npt.NDArray[Any]], step: int) -> npt.ArrayLike:
        self._goal = int(seen["lamp"][0]) if self._goal < 0 else self._goal
        way = seen["pads"][self._goal] - seen["hand"]
        return [*np.clip(way / 0.1, -1, 1), 0, 0, 0, 0, 1.0]
