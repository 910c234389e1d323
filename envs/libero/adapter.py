"""LiberoEnv: LIBERO behind the common interface. Imports the simulator; see `envs.libero.make`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.base import SceneError, VLAEnv
from envs.libero.painter import Painter
from envs.libero.privileged import Onlooker
from envs.libero.simulation import Simulation
from envs.libero.upstream import TaskFiles, task_files
from envs.spec import Advance, EnvSpec, Floats, Image

SETTLE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SETTLE_STEPS = 10
"""The reference evaluation lets the scene settle for 10 steps of no motion with the gripper open; they are not counted
against the step limit, and success during them does not count (OpenVLA's LIBERO evaluation script)."""
CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}


class LiberoEnv(VLAEnv):
    """One worker's LIBERO: keeps the compiled scene while the task stays the same, and one scene at a time.

    A subclass for a relative of LIBERO overrides `files`, `compiled` and `compile`.
    """

    def __init__(self, env_spec: EnvSpec, suite: str) -> None:
        super().__init__(env_spec)
        self.suite = suite
        self._files: TaskFiles | None = None
        self._simulation: Simulation | None = None
        self._painter: Painter | None = None
        self._onlooker: Onlooker | None = None

    def files(self, task: str) -> TaskFiles:
        """The files of a task. Raises SceneError."""
        return task_files(self.suite, task)

    def compiled(self, files: TaskFiles) -> object:
        """What two tasks must have in common to share a compiled scene."""
        return files.problem

    def compile(self, files: TaskFiles) -> Simulation:
        """The scene of a task. Raises SceneError."""
        return Simulation(files.problem)

    @property
    def simulation(self) -> Simulation:
        """The compiled scene. Raises RuntimeError before the first reset."""
        if self._simulation is None:
            raise RuntimeError("no scene: call reset(seed=..., options={'task': ..., 'trial': ...}) first")
        return self._simulation

    # ------------------------------------------------------------------ hooks of VLAEnv

    def load(self, task: str, trial: int, seed: int) -> None:
        if self._files is None or self._files.name != task:
            files = self.files(task)
            if self._files is None or self.compiled(files) != self.compiled(self._files):
                self._free()
                self._simulation = self.compile(files)
            self._files = files
        states = self._files.states
        if trial >= len(states):
            raise SceneError(f"{self.suite}/{task} has {len(states)} initial states, so no trial {trial}")
        simulation = self.simulation
        try:
            simulation.restart(states[trial], seed, trial)
            for _ in range(SETTLE_STEPS):
                simulation.step(SETTLE)
        except Exception:
            self._free()  # half a reset is no state to keep
            raise

    def advance(self, action: Floats) -> Advance:
        if not np.isfinite(action).all():
            raise ValueError(f"action holds a number that is not finite: {action.tolist()}")
        return Advance(success=self.simulation.step(action.tolist()))

    def draw(self, camera: str) -> Image:
        simulation = self.simulation
        if self._painter is None:
            self._painter = Painter(simulation.model, self.env_spec.camera(camera).height)
        return self._painter.draw(simulation.sample, CAMERAS[camera])

    def instruction(self) -> str:
        assert self._files is not None
        return self._files.instruction

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        return self.simulation.parts()

    def state(self) -> Floats:
        """Gripper position 3, axis-angle 3, finger joints 2, as robosuite's observables report them."""
        seen = self.simulation.sample
        parts = (seen.position, axis_angle(seen.quaternion), seen.fingers)
        return np.concatenate(parts).astype(np.float32)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        if self._onlooker is None:
            self._onlooker = Onlooker(self.simulation)
        return self._onlooker.look()

    def close(self) -> None:
        """Free the simulator. The environment can be reset again afterwards."""
        self._ready = False
        self._free()
        super().close()

    def _free(self) -> None:
        self._files = self._onlooker = None
        if self._painter is not None:
            self._painter.close()
            self._painter = None
        if self._simulation is not None:
            self._simulation.close()
            self._simulation = None


def axis_angle(quaternion: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The rotation vector of a unit quaternion xyzw, angle in [0, 2 pi): robosuite's convention, which policies are
    trained on (the usual one would turn the other way beyond pi)."""
    w = float(np.clip(quaternion[3], -1.0, 1.0))
    norm = math.sqrt(1.0 - w * w)
    if math.isclose(norm, 0.0):
        return np.zeros(3)
    return np.asarray(quaternion[:3] * 2.0 * math.acos(w) / norm)
