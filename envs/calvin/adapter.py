"""CalvinEnv: CALVIN's chains behind the common interface. Imports the simulator; see `envs.calvin.make`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.base import SceneError, VLAEnv
from envs.calvin.chains import Chain, chains, start_of
from envs.calvin.layout import COLOURS
from envs.calvin.oracle import is_done
from envs.calvin.painter import Painter
from envs.calvin.snapshot import Snapshot
from envs.calvin.tasks import BY_NAME
from envs.calvin.world import World
from envs.spec import Advance, EnvSpec, Floats, Image

TASK = "chain"


class CalvinEnv(VLAEnv):
    """One task, `chain`; trial k is chain k of the evaluation list: five subtasks in a row, no reset between.

    A subtask that is done brings the next one (`instruction_changed`); one not done in `subtask_steps` steps ends the
    episode; success is all five. metrics: `chain_length` (0 to 5), `score` (that over 5), and `task/NAME` (1 done, 0
    not) for every subtask that was begun.
    """

    def __init__(self, env_spec: EnvSpec, assets: Path, *, scene: str, renderer: str, subtask_steps: int) -> None:
        super().__init__(env_spec)
        self._renderer, self._subtask_steps = renderer, subtask_steps
        self._assets, self._letter = assets, scene
        self._world: World | None = None
        self._painter: Painter | None = None
        self._chain: Chain | None = None
        self._done = self._taken = 0
        self._begun: Snapshot | None = None

    @property
    def world(self) -> World:
        """The simulator. Raises RuntimeError before the first reset."""
        if self._world is None:
            raise RuntimeError("no scene: call reset(seed=..., options={'task': ..., 'trial': ...}) first")
        return self._world

    @property
    def subtask(self) -> str:
        """Name of the subtask in force; after the last one is done, still the last one."""
        assert self._chain is not None
        return self._chain.tasks[min(self._done, len(self._chain.tasks) - 1)]

    # ------------------------------------------------------------------ hooks of VLAEnv

    def load(self, task: str, trial: int, seed: int) -> None:
        every = chains()
        if task != TASK:
            raise SceneError(f"CALVIN has one task, {TASK!r}, whose trials are the chains; was asked for {task!r}")
        if trial >= len(every):
            raise SceneError(f"CALVIN has {len(every)} chains, so no trial {trial}")
        self.start(every[trial])

    def start(self, chain: Chain) -> None:
        """Stand at the start of any chain (also one that is not on the list). The seed of a reset does not matter: the
        published rule fixes the start."""
        self.start_at(chain, *start_of(chain.state))

    def build(self, assets: Path, scene: str) -> World:
        """The world that moves; the second back end has its own."""
        return World(assets, scene)

    def start_at(self, chain: Chain, robot: npt.NDArray[np.float64], scene: npt.NDArray[np.float64]) -> None:
        """Stand at robot_obs [15] and scene_obs [24] (blocks in the scene's order), `chain` before it."""
        if self._world is None:
            self._world = self.build(self._assets, self._letter)
            self._painter = Painter(self._world, self.env_spec, self._renderer)
        self._world.reset(robot, scene)
        self._chain, self._done, self._taken = chain, 0, 0
        self._begun = self._world.snapshot()

    def advance(self, action: Floats) -> Advance:
        assert self._chain is not None
        assert self._begun is not None
        if not np.isfinite(action).all():
            raise ValueError(f"action holds a number that is not finite: {action.tolist()}")
        if self._done == len(self._chain.tasks) or self._taken == self._subtask_steps:
            raise RuntimeError("the chain has ended; reset before the next step")
        if self.env_spec.action.absolute:
            self.world.step_to(action)
        else:
            self.world.step(action)
        self._taken += 1
        now = self.world.snapshot()
        if not is_done(self.subtask, self._begun, now):
            return Advance(success=False, terminated=self._taken == self._subtask_steps)
        self._done += 1
        if self._done == len(self._chain.tasks):
            return Advance(success=True, terminated=True)
        self._taken, self._begun = 0, now
        return Advance(success=False, instruction_changed=True)

    def draw(self, camera: str) -> Image:
        assert self._painter is not None
        return self._painter.draw(camera)

    def instruction(self) -> str:
        return BY_NAME[self.subtask].sentence

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        assert self._chain is not None
        yield from self.world.parts()
        yield "chain", " ".join(self._chain.tasks)
        yield "progress", np.array([self._done, self._taken])

    def state(self) -> Floats:
        """The benchmark's `robot_obs`, in single precision."""
        return self.world.robot_obs().astype(np.float32)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """What a perfect observer knows: `robot` (robot_obs), `target` (position 3, Euler angles 3), `table` (the first
        six of scene_obs), `link/NAME` (position 3, quaternion xyzw 4 of its frame), `block/COLOUR` (position 3,
        quaternion 4, half sizes 3, whether the robot touches it, whether it touches a block). The task in force is the
        key that begins with `subtask/`."""
        world, now = self.world, self.world.snapshot()
        found: dict[str, npt.NDArray[Any]] = {
            "robot": world.robot_obs(),
            "target": np.array([*world.target_position, *world.target_euler]),
            "table": np.array(world.table.observation()),
            f"subtask/{self.subtask}": np.array([self._done, self._taken]),
        }
        for link in ("button", "switch", "slide", "drawer", "plank"):
            found[f"link/{link}"] = world.table.pose(f"{link}_link")
        bodies = {block.body for block in now.blocks.values()}
        for colour in COLOURS:
            block = now.blocks[colour]
            touched = [block.body in {body for body, _ in now.robot_contacts}, bool(block.bodies & bodies)]
            half = world.half_size(colour)
            found[f"block/{colour}"] = np.array([*block.position, *block.quaternion, *half, *touched], dtype=np.float64)
        return found

    def metrics(self) -> dict[str, float]:
        assert self._chain is not None
        begun = self._chain.tasks[: self._done + 1]
        results = {f"task/{name}": float(k < self._done) for k, name in enumerate(begun)}
        return {"chain_length": float(self._done), "score": self._done / len(self._chain.tasks), **results}

    def close(self) -> None:
        """Free the simulator. The environment can be reset again afterwards."""
        self._ready = False
        self._painter = None
        if self._world is not None:
            self._world.close()
            self._world = None
        super().close()
