"""A third-party benchmark in one file: a point that must reach a goal. Goes wrong on purpose when told to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.base import SceneError, VLAEnv
from envs.runtime import Runtime
from envs.spec import ActionSpec, Advance, CameraSpec, EnvSpec, Floats, Gripper, Image, Rotation

RUNTIME = Runtime()


def describe(how: str = "", trial: int = -1, flag: str = "", subtasks: int = 1) -> EnvSpec:
    return EnvSpec(
        benchmark="point",
        action=ActionSpec("world", False, 0.1, Rotation.EULER_XYZ, 0.1, Gripper(1.0, -1.0), hz=10.0),
        cameras=(CameraSpec("top", 32, 32),),
        state=("x", "y", "z"),
    )


def make(**options: Any) -> VLAEnv:
    return PointEnv(**options)


class PointEnv(VLAEnv):
    """`how`: what goes wrong in trial `trial`; once, if a file `flag` is there to be taken away, else for ever."""

    def __init__(self, how: str = "", trial: int = -1, flag: str = "", subtasks: int = 1) -> None:
        super().__init__(describe())
        self._how, self._bad_trial, self._flag, self._subtasks = how, trial, flag, subtasks
        self._place = self._goal = np.zeros(3)
        self._done = 0
        self._leaked: list[Floats] = []

    def _goes_wrong(self, how: str) -> bool:
        if self._how != how or self._trial != self._bad_trial:
            return False
        if self._flag:
            try:
                os.remove(self._flag)
            except FileNotFoundError:
                return False
        return True

    def load(self, task: str, trial: int, seed: int) -> None:
        if task != "reach":
            raise SceneError(f"no task {task!r} here; there is: reach")
        self._trial, self._done = trial, 0
        if self._how == "leak":
            self._leaked.append(np.ones(8_000_000))  # 61 MiB
        if self._goes_wrong("reset"):
            raise SceneError("the mesh of the point is missing")
        self._noise = np.random.default_rng([seed, trial])
        self._place = np.zeros(3)
        self._goal = self._noise.uniform(-1, 1, 3)

    def advance(self, action: Floats) -> Advance:
        if self._goes_wrong("raise"):
            raise RuntimeError("the solver diverged")
        if self._goes_wrong("abort"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._goes_wrong("hang"):
            time.sleep(3600)
        self._place = self._place + 0.1 * action[:3]
        if np.linalg.norm(self._place - self._goal) >= 0.05:
            return Advance(success=False)
        self._done += 1
        if self._done == self._subtasks:
            return Advance(success=True)
        self._goal = self._noise.uniform(-1, 1, 3)
        return Advance(success=False, instruction_changed=True)

    def draw(self, camera: str) -> Image:
        if self._goes_wrong("picture"):
            return np.full((32, 32, 3), np.nan)  # type: ignore[return-value]
        image = np.zeros((32, 32, 3), np.uint8)
        for spot, colour in ((self._place, 0), (self._goal, 1)):
            column, row = np.clip((spot[:2] * 14 + 16).astype(int), 0, 31)
            image[row, column, colour] = 255
        return image

    def instruction(self) -> str:
        return f"reach goal {self._done + 1}"

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        return [("place", self._place), ("goal", self._goal)]

    def state(self) -> Floats:
        place = np.full(3, np.nan) if self._goes_wrong("nan") else self._place
        return place.astype(np.float32)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        return {"place": self._place.copy(), "goal": self._goal.copy()}


class PointScript:
    """Its scripted expert."""

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None:
        self.instruction = instruction

    def act(self, seen: dict[str, npt.NDArray[Any]], step: int) -> npt.ArrayLike:
        motion = np.clip((seen["goal"] - seen["place"]) / 0.1, -1, 1)
        return np.concatenate([motion, np.zeros(3), [1.0]])
