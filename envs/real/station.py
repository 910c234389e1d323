"""What a real robot must offer: a few small protocols, which a lab fills in for its own arm, cameras and people.

A station is a module with two functions, as an adapter has them:

    describe(**options) -> EnvSpec      cameras, action convention with its rate (hz), names of the state's numbers
    connect(**options) -> Station       the hardware itself; imports its drivers here and nowhere else
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from envs.real.grades import Grade, Judgement
from envs.spec import Floats, Image


class Camera(Protocol):
    """One camera."""

    def read(self) -> Image:
        """The newest picture, uint8 [H, W, 3], RGB, upright. Raises RuntimeError where the newest one is too old."""
        ...


class Robot(Protocol):
    """One arm with its gripper, under a controller that **holds still when no command comes**."""

    def home(self) -> None:
        """Go to the pose from which trials begin, and take commands again after a stop. Blocks until it is there."""
        ...

    def state(self) -> Floats:
        """Proprioception now, float32 [len(EnvSpec.state)]."""
        ...

    def command(self, action: Floats) -> None:
        """Hand over the command of one control period, float32 [A] in the station's action convention; do not wait."""
        ...

    def stop(self) -> None:
        """Bring it to rest at once and keep it there. Called from any thread, at any time, also twice."""
        ...


class Operator(Protocol):
    """The person at the robot."""

    def prepare(self, scene: str, instruction: str) -> None:
        """Return when the scene is arranged. Raises RuntimeError when it cannot be: the attempt is then void."""
        ...

    def judge(self, grades: tuple[Grade, ...], ended: str) -> Judgement:
        """What the trial earned. ended: how it came to its end, in words. Raises Voided."""
        ...

    def watch(self, press: Callable[[], None]) -> AbstractContextManager[None]:
        """While the robot moves: call `press` as soon as the emergency stop is asked for."""
        ...


class Oracle(Protocol):
    """What only a simulated station knows."""

    def load(self, task: str, trial: int, seed: int) -> str:
        """Arrange the scene; returns its instruction."""
        ...

    def success(self) -> bool:
        """Whether the goal is reached now."""
        ...

    def over(self) -> bool:
        """Whether nothing can follow."""
        ...

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        """As `VLAEnv.scene`."""
        ...

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """As `VLAEnv.privileged`."""
        ...


class Clock(Protocol):
    """Time as the control loop sees it, in seconds."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class WallClock:
    """The clock of real robots."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


class SimulatedClock:
    """A clock that goes on only while somebody waits for it: as fast as the machine can, and the same every time."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += max(0.0, seconds)


@dataclass(frozen=True)
class Station:
    """A robot with its cameras (by the names `describe` gives them).

    operator: where it is not the person at the terminal; oracle: of a simulated station; workspace: (low, high) of the
    state's first three numbers, in metres: leaving it is an emergency stop; close: lets go of the hardware.
    """

    robot: Robot
    cameras: Mapping[str, Camera]
    operator: Operator | None = None
    oracle: Oracle | None = None
    clock: Clock = field(default_factory=WallClock)
    workspace: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    close: Callable[[], None] = lambda: None

    def outside(self, state: Floats) -> bool:
        """Whether the tip has left the workspace."""
        if self.workspace is None:
            return False
        low, high = np.asarray(self.workspace)
        return bool(np.any(state[:3] < low) or np.any(state[:3] > high))
