"""A station of somebody's own: an arm that obeys to the letter, and an operator whose behaviour is planned."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from envs.real.grades import Grade, Judgement, Voided
from envs.real.station import SimulatedClock, Station
from envs.spec import ActionSpec, CameraSpec, EnvSpec, Floats, Gripper, Image, Rotation


def describe(counts: Mapping[str, int] | None = None, stop_at: int = 0, voids: int = 0, wall: float = 9.0) -> EnvSpec:
    return EnvSpec(
        benchmark="somebody's arm",
        action=ActionSpec("base", False, 0.01, Rotation.EULER_XYZ, 0.1, Gripper(1.0, 0.0), hz=10.0),
        cameras=(CameraSpec("front", 8, 8),),
        state=("x", "y", "z", "roll", "pitch", "yaw"),
    )


def connect(counts: Mapping[str, int] | None = None, stop_at: int = 0, voids: int = 0, wall: float = 9.0) -> Station:
    arm = Arm(stop_at)
    operator = PlannedOperator(arm, dict(counts or {}), voids)
    space = ((-wall, -wall, -wall), (wall, wall, wall))
    return Station(arm, {"front": Eye(arm)}, operator=operator, clock=SimulatedClock(), workspace=space)


class Arm:
    """stop_at: the emergency stop is pressed, from another thread, while this command of each trial is handed over."""

    def __init__(self, stop_at: int = 0) -> None:
        self.place = np.zeros(6)
        self.done: list[str] = []
        self.stop_at = stop_at
        self.press: Callable[[], None] = lambda: None

    def home(self) -> None:
        self.place = np.zeros(6)
        self.done.append("home")

    def state(self) -> Floats:
        return self.place.astype(np.float32)

    def command(self, action: Floats) -> None:
        self.done.append("command")
        self.place[:3] += 0.01 * action[:3]
        since = self.done[::-1].index("home")
        if since == self.stop_at:
            thread = threading.Thread(target=self.press)
            thread.start()
            while self.done[-1] != "stop":  # the stop is heard while the command is still on its way
                thread.join(0.001)

    def stop(self) -> None:
        self.done.append("stop")


class Eye:
    def __init__(self, arm: Arm) -> None:
        self._arm = arm

    def read(self) -> Image:
        return np.full((8, 8, 3), 100 + len(self._arm.done) % 100, np.uint8)


VOIDED: list[str] = []
"""Trials voided in this process: a fault brings a fresh station, and the operator stays the same person."""


class PlannedOperator:
    """Counts what it was told to; voids the first `voids` trials."""

    def __init__(self, arm: Arm, counts: dict[str, int], voids: int) -> None:
        self._arm, self._counts, self._voids = arm, counts, voids
        self.heard: list[str] = []

    def prepare(self, scene: str, instruction: str) -> None:
        self.heard.append(f"{scene}: {instruction}")

    def judge(self, grades: tuple[Grade, ...], ended: str) -> Judgement:
        self.heard.append(ended)
        if len(VOIDED) < self._voids:
            VOIDED.append(ended)
            raise Voided("the operator: somebody bumped into the table")
        return Judgement({name: count for name, count in self._counts.items() if name in {g.name for g in grades}})

    @contextmanager
    def watch(self, press: Callable[[], None]) -> Iterator[None]:
        self._arm.press = press
        yield
        self._arm.press = lambda: None
