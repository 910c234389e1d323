"""LabEnv: the lab behind the one interface."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.base import SceneError, VLAEnv
from envs.lab.parts import Parts
from envs.lab.rays import GLCamera, RayCamera
from envs.lab.task import Trial, lab_task, trial_generator
from envs.lab.world import World
from envs.spec import Advance, EnvSpec, Floats, Image


class LabEnv(VLAEnv):
    """The lab benchmark. A scene is compiled once per set of parts; every reset brings all of it back."""

    def __init__(self, env_spec: EnvSpec, renderer: str) -> None:
        super().__init__(env_spec)
        self._renderer = renderer
        self._worlds: dict[Parts, World] = {}
        self._eyes: dict[tuple[Parts, str], RayCamera | GLCamera] = {}
        self._world: World | None = None
        self._trial: Trial | None = None
        self._over: Advance | None = None

    def load(self, task: str, trial: int, seed: int) -> None:
        try:
            kind = lab_task(task)
        except KeyError as error:
            raise SceneError(str(error.args[0])) from None
        world = self._worlds.get(kind.parts)
        if world is None:
            world = self._worlds[kind.parts] = World(kind.parts)
        world.reset()
        self._world, self._trial = world, kind.start(world, trial_generator(seed, task, trial))
        self._over = None
        world.show_clutch(self._trial.locked())
        world.ready()

    def advance(self, action: Floats) -> Advance:
        world, trial = self.world, self.trial
        if self._over is not None:
            raise RuntimeError("this episode is over: reset before stepping on")
        if not trial.locked():
            world.hand.command(action)
        elif not np.isfinite(action).all():
            raise ValueError(f"the action must be finite, was {action.tolist()}")
        trial.drive()
        world.step()
        did = trial.judge()
        trial.clock += 1
        world.show_clutch(trial.locked())
        if did.terminated:
            self._over = did
        return did

    def draw(self, camera: str) -> Image:
        world = self.world
        eye = self._eyes.get((world.parts, camera))
        if eye is None:
            kind = RayCamera if self._renderer == "ray" else GLCamera
            eye = kind(world.model, world.data, camera, self.env_spec.camera(camera).height)
            self._eyes[world.parts, camera] = eye
        return eye.draw()

    def instruction(self) -> str:
        return self.trial.instruction

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        yield from self.world.parts_of_scene()
        yield "instruction", self.trial.instruction
        yield from self.trial.hidden()

    def state(self) -> Floats:
        return self.world.hand.pose().astype(np.float32)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        locked = np.array([float(self.trial.locked())])
        labels = {"cue": self.trial.cue(), "due": self.trial.due()}
        return {"hand": self.world.hand.pose(), "locked": locked, **labels, **self.trial.privileged()}

    def metrics(self) -> dict[str, float]:
        return {} if self._trial is None else self._trial.metrics()

    @property
    def world(self) -> World:
        """The scene in use. Raises RuntimeError before the first reset."""
        if self._world is None:
            raise RuntimeError("no scene: call reset first")
        return self._world

    @property
    def trial(self) -> Trial:
        """The trial in progress. Raises RuntimeError before the first reset."""
        if self._trial is None:
            raise RuntimeError("no scene: call reset first")
        return self._trial
