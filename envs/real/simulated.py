"""A station without hardware: the lab benchmark's hand and cameras behind the protocols of real ones.

Its scenes are those of the lab, so a rehearsal can be compared with `memvla run` bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

from envs import lab
from envs.real.grades import Grade, Judgement
from envs.real.station import Clock, SimulatedClock, Station, WallClock
from envs.spec import EnvSpec, Floats, Image

SIMULATED = True
"""Only a station that says so may offer privileged state."""

OPERATORS = ("simulated", "console")


def describe(size: int = 64, operator: str = "simulated", real_time: bool = False) -> EnvSpec:
    """What the lab offers. operator: `simulated` grades by the lab's own success rule, `console` asks a person;
    real_time: wait as a real robot would. Raises ValueError for another operator."""
    if operator not in OPERATORS:
        raise ValueError(f"operator must be one of {', '.join(OPERATORS)}, was {operator!r}")
    return lab.describe(size)


def connect(size: int = 64, operator: str = "simulated", real_time: bool = False) -> Station:
    """Build the simulator; options as for `describe`."""
    arm = SimulatedArm(size)
    clock: Clock = WallClock() if real_time else SimulatedClock()
    cameras = {camera.name: SimulatedCamera(arm, camera.name) for camera in lab.describe(size).cameras}
    person = SimulatedOperator(arm) if operator == "simulated" else None
    return Station(arm, cameras, operator=person, oracle=arm, clock=clock, close=arm.env.close)


class SimulatedArm:
    """Robot and oracle in one. Like a real controller it holds still unless commanded; a command is one period long."""

    def __init__(self, size: int) -> None:
        self.env = lab.make(size)
        self.env.select((), privileged=False)
        self.halted = False
        self.commands = 0
        self._won = self._over = False

    def home(self) -> None:
        """The scene begins there already."""
        self.halted = False

    def state(self) -> Floats:
        return self.env.state()

    def command(self, action: Floats) -> None:
        if self.halted:
            raise RuntimeError("the arm was stopped and not brought home")
        self.commands += 1
        if not self._over:
            did = self.env.step_chunk(action[None])
            self._won, self._over = did.success, did.terminated

    def stop(self) -> None:
        self.halted = True

    def load(self, task: str, trial: int, seed: int) -> str:
        self.env.reset(seed=seed, options={"task": task, "trial": trial})
        self._won = self._over = False
        return self.env.instruction()

    def success(self) -> bool:
        return self._won

    def over(self) -> bool:
        return self._over

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        return self.env.scene()

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        return self.env.privileged()


class SimulatedCamera:
    """One of the lab's cameras."""

    def __init__(self, arm: SimulatedArm, name: str) -> None:
        self._arm, self._name = arm, name

    def read(self) -> Image:
        return self._arm.env.draw(self._name)


class SimulatedOperator:
    """Arranges nothing, and grades by the simulator's own success rule: everything or nothing."""

    def __init__(self, arm: SimulatedArm) -> None:
        self._arm = arm

    def prepare(self, scene: str, instruction: str) -> None:
        """The scene is arranged by the simulator."""

    def judge(self, grades: tuple[Grade, ...], ended: str) -> Judgement:
        return Judgement({grade.name: grade.most * self._arm.success() for grade in grades if grade.points > 0})

    @contextmanager
    def watch(self, press: Callable[[], None]) -> Iterator[None]:
        yield
