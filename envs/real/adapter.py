"""RealEnv: a station behind the one interface, at a fixed rate, under an emergency stop."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.base import SceneError, VLAEnv
from envs.frames import FrameFilter, tells_pose, turn_of
from envs.real.console import ConsoleOperator
from envs.real.grades import FULL, Grade, grades_of
from envs.real.pace import Pace
from envs.real.station import Operator, Station
from envs.real.stop import EmergencyStop
from envs.spec import Advance, EnvSpec, Floats, Image, StepResult


class RealEnv(VLAEnv):
    """A real robot (or a simulated one that is driven like it).

    tasks: name -> {instruction, grades}. A trial is arranged and graded by the operator; the picture is filmed whenever
    the papers' filter keeps a frame. A real scene is never the same twice, so its hash is a new one for every attempt:
    no report can pair it with another.
    """

    def __init__(self, env_spec: EnvSpec, station: Station, tasks: Mapping[str, Mapping[str, Any] | None]) -> None:
        super().__init__(env_spec)
        assert env_spec.action.hz is not None
        self._station, self._tasks = station, tasks
        self._operator: Operator = station.operator or ConsoleOperator()
        self.stop = EmergencyStop(station.robot)
        self._pace = Pace(station.clock, env_spec.action.hz)
        self._watching = ExitStack()
        self._now: Floats = np.zeros(0, np.float32)
        self._counts: dict[str, float] = {}
        self._frames: list[tuple[int, Image]] | None = None

    # ------------------------------------------------------------------ a trial

    def load(self, task: str, trial: int, seed: int) -> None:
        if task not in self._tasks:
            raise SceneError(f"no task {task!r} here; there are: {', '.join(self._tasks)}")
        self.interrupted()
        about = self._tasks[task] or {}
        oracle = self._station.oracle
        shown = oracle.load(task, trial, seed) if oracle else ""
        self._instruction = str(about.get("instruction") or shown)
        self._grades: tuple[Grade, ...] = grades_of(about.get("grades"))
        self._mark = os.urandom(16)
        self._filter, self._kept, self._counts = FrameFilter(), set[int](), {}
        self._steps = 0
        self._pace = Pace(self._station.clock, self.env_spec.action.hz or 1.0)
        self.stop.release()
        self._station.robot.home()
        self._operator.prepare(f"{task}, trial {trial}", self._instruction)
        self._look()
        self._watching.enter_context(self._operator.watch(self.stop.press))

    def step_chunk(self, actions: npt.ArrayLike, **rules: Any) -> StepResult:
        """As VLAEnv's, in real time. Filmed and handed to a policy that needs every frame: those the filter keeps."""
        filmed = bool(rules.pop("film_every", 0))
        first = self._step + 1
        self._frames = [] if filmed else None
        try:
            did = super().step_chunk(actions, **rules)
        finally:
            self._pace.rest()
        seen = [o for step, o in enumerate(did.observations, start=first) if step in self._kept]
        return replace(did, frames=self._frames or [], observations=seen)

    def advance(self, action: Floats) -> Advance:
        self._pace.begin()
        if not self.stop.command(action):
            return Advance(success=False, terminated=True)
        self._pace.end()
        self._steps += 1
        self._look()
        if self._station.outside(self._now):
            self.stop.press(f"the hand left the workspace at {np.round(self._now[:3], 3).tolist()}")
        if self._keeps():
            self._kept.add(self._steps)
            if self._frames is not None:
                self._frames.append((self._steps, self.draw(self.env_spec.cameras[0].name)))
        oracle = self._station.oracle
        if oracle is None or self._station.operator is None:  # a person decides
            return Advance(success=False, terminated=self.stop.pressed)
        return Advance(success=oracle.success(), terminated=self.stop.pressed or oracle.over())

    def judged(self, success: bool) -> bool:
        """The operator's word at the end of the trial: success is the full score."""
        ended = f"emergency stop ({self.stop.reason})" if self.stop.pressed else f"{self._steps} steps"
        stopped = self.stop.pressed
        self.interrupted()
        found = self._operator.judge(self._grades, ended)
        points = found.points(self._grades)
        self._counts = {"score": points / FULL, "stopped": float(stopped), "late_steps": float(self._pace.late)}
        self._counts |= {f"grade.{name}": float(count) for name, count in found.counts.items()}
        return points >= FULL

    def interrupted(self) -> None:
        """Bring the robot to rest, and stop listening for the emergency stop."""
        self._station.robot.stop()
        self._watching.close()

    def close(self) -> None:
        self.interrupted()
        self._station.close()

    # ------------------------------------------------------------------ what is seen

    def _look(self) -> None:
        self._now = np.array(self._station.robot.state(), dtype=np.float32)
        if self._now.shape != (len(self.env_spec.state),):
            raise RuntimeError(
                f"the robot's state has shape {list(self._now.shape)}, the station promised {len(self.env_spec.state)} "
                "numbers"
            )

    def _keeps(self) -> bool:
        names = self.env_spec.state
        return not tells_pose(names) or self._filter.keeps(self._now[:3], turn_of(names, self._now))

    def draw(self, camera: str) -> Image:
        picture = np.ascontiguousarray(self._station.cameras[camera].read())
        spec = self.env_spec.camera(camera)
        if picture.shape != (spec.height, spec.width, 3) or picture.dtype != np.uint8:
            raise RuntimeError(
                f"camera {camera} gave {picture.dtype} {list(picture.shape)}, the station says uint8 "
                f"{[spec.height, spec.width, 3]}"
            )
        return picture

    def instruction(self) -> str:
        return self._instruction

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        if self._station.oracle is not None:
            return self._station.oracle.scene()
        return [("attempt", self._mark.hex()), ("step", self._steps)]

    def state(self) -> Floats | None:
        return self._now.copy() if self.env_spec.state else None

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        if self._station.oracle is None:
            raise RuntimeError("a real robot has no privileged state")
        return self._station.oracle.privileged()

    def metrics(self) -> dict[str, float]:
        return dict(self._counts)
