"""MikasaEnv: MIKASA-Robo behind the common interface. Imports the simulator; see `envs.mikasa.make`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.assets import AssetsMissing, require, stand_ins
from envs.base import SceneError, VLAEnv
from envs.maniskill.render import choose_renderer
from envs.mikasa.assets import ASSETS, BULB, MUG
from envs.mikasa.shown import Shown
from envs.mikasa.tasks import TaskFacts, facts
from envs.mikasa.upstream import build
from envs.spec import Advance, EnvSpec, Floats, Image

CAMERAS = {"base": "base_camera", "hand": "hand_camera"}


PASSING = frozenset({"_prev_action", "reward_dict", "task_cue", "original_poses", "evaluate"})
"""Attributes of upstream's tasks that say nothing of what is to come: of the last action, reward or step."""


class MikasaEnv(VLAEnv):
    """One worker's MIKASA-Robo: keeps the built task while it stays the same (but for some), and one scene at a time.

    Every reset builds the physics anew: a warm one would carry contacts over from the last episode.
    """

    def __init__(self, env_spec: EnvSpec, assets: Path, renderer: str) -> None:
        super().__init__(env_spec)
        self._assets = assets
        self._renderer = choose_renderer(renderer)
        self._task = ""
        self._facts: TaskFacts | None = None
        self._env: Any = None
        self._shown: Shown | None = None
        self._files = ""
        self._made: list[str] = []
        self._instruction = ""

    # ------------------------------------------------------------------ hooks of VLAEnv

    def load(self, task: str, trial: int, seed: int) -> None:
        found = facts(task)
        if task != self._task or found.afresh:
            self._free()
            self._files, self._made = self._need_files(found), self._stand_ins(found)
            self._env = build(found.env_id, self.env_spec.cameras[0].height, self._renderer)
            self._shown = Shown(self._env)
            self._task, self._facts = task, found
        self._env.reset(seed=seed + trial + 1, options={"reconfigure": True})
        self._instruction = found.instruction or self._said()

    def advance(self, action: Floats) -> Advance:
        if not np.isfinite(action).all():
            raise ValueError(f"action holds a number that is not finite: {action.tolist()}")
        taken = np.zeros_like(action) if self._held_still() else np.clip(action, -1.0, 1.0)
        info = self._env.step(taken)[4]
        return Advance(success=bool(info["success"].item()))

    def draw(self, camera: str) -> Image:
        assert self._shown is not None
        sensor = self._env._sensors[CAMERAS[camera]]
        with self._shown.staged():
            self._env.scene.update_render(update_sensors=True, update_human_render_cameras=False)
            sensor.capture()
            seen = sensor.get_obs(rgb=True, depth=False, position=False, segmentation=False)["rgb"]
        return np.ascontiguousarray(seen[0].cpu().numpy(), dtype=np.uint8)

    def instruction(self) -> str:
        return self._instruction

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        """Task, poses and velocities of everything, what the arm is driven to, what is shown elsewhere than it is,
        colours, and the variables that decide what is right."""
        assert self._facts is not None
        assert self._shown is not None
        yield "task", self._facts.env_id
        yield "mug", self._files
        for kind, things in sorted(self._env.get_state_dict().items()):
            for name in sorted(things):
                yield f"{kind}/{name}", things[name].cpu().numpy()
        robot = self._env.agent.robot
        yield "drive", np.array([joint.drive_target.cpu().numpy() for joint in robot.active_joints])
        yield "steps", self._env.elapsed_steps.cpu().numpy()
        for name, value in sorted(getattr(self._env, "color_dict", {}).items()):
            yield f"color/{name}", np.asarray(value)
        for name in self._facts.hidden or own_names(self._env):
            yield from _flat(name, getattr(self._env, name))
        if not self._facts.instruction:
            yield "instruction", self._instruction
        yield from self._shown.parts()

    def state(self) -> Floats:
        """Tool position 3 and Euler angles 3 in the world's frame, opening between the fingers (m): the
        proprioception of upstream's VLA wrappers (mikasa_robo_suite/vla/utils/wrappers.py)."""
        agent = self._env.agent
        pose = agent.tcp.pose.raw_pose[0].cpu().numpy()
        opening = agent.robot.get_qpos()[0, -2:].sum().item()
        return np.array([*pose[:3], *euler_xyz(pose[3:]), opening], dtype=np.float32)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """What a perfect observer of the present knows; metres, world frame; not-a-number for what is hidden.

        tool [7] (xyz, quaternion wxyz), base [3], opening [1] (between the fingers); of the task's things
        `cubes` [n, 3] in the order of their colours, `mugs` [3, 3] and `ball` [3] (hidden while the mugs are there),
        `ball_velocity` [3], `goal` [3].
        """
        assert self._facts is not None
        assert self._shown is not None
        agent = self._env.agent
        opening = agent.robot.get_qpos()[0, -2:].sum().item()
        found: dict[str, npt.NDArray[Any]] = {
            "tool": agent.tcp.pose.raw_pose[0].cpu().numpy().astype(np.float64),
            "base": agent.robot.pose.p[0].cpu().numpy().astype(np.float64),
            "opening": np.array([opening], dtype=np.float64),
        }
        for kind, names in self._facts.things.items():
            places = np.array([self._shown.position(name) for name in names])
            found[kind] = places if kind in ("cubes", "mugs") else places[0]
        if "mugs" in found and np.isfinite(found["mugs"]).any():
            found["ball"] = np.full(3, np.nan)  # it lies under one of them
        elif "ball" in found:
            ball = self._env.scene.state_dict_registry.actors[self._facts.things["ball"][0]]
            found["ball_velocity"] = ball.linear_velocity[0].cpu().numpy().astype(np.float64)
        return found

    def metrics(self) -> dict[str, float]:
        """`stand_in_mug`, `stand_in_bulb` 1 where that file is not the benchmark's own: such a score is not comparable
        with published ones."""
        return dict.fromkeys(self._made, 1.0)

    def close(self) -> None:
        """Free the simulator. The environment can be reset again afterwards."""
        self._ready = False
        self._free()
        super().close()

    # ------------------------------------------------------------------ parts

    def _stand_ins(self, found: TaskFacts) -> list[str]:
        """The metrics that mark an episode: one for each thing whose files are not the benchmark's own."""
        made = stand_ins(ASSETS, self._assets) if found.files else {}
        things = {"stand_in_mug": MUG, "stand_in_bulb": BULB}
        return [
            name
            for name, archive in things.items()
            if archive in found.files and any(file in made for file in ASSETS.only(archive).needed)
        ]

    def _need_files(self, found: TaskFacts) -> str:
        """SHA-256 over the files the task needs, so that another mug is another scene; `""` where it needs none."""
        if not found.files:
            return ""
        needed = ASSETS.only(*found.files)
        try:
            require(needed, str(self._assets))
        except AssetsMissing as error:
            raise SceneError(f"{found.env_id} cannot be set up: {error}") from error
        digest = hashlib.sha256()
        for name in needed.needed:
            digest.update((self._assets / name).read_bytes())
        return digest.hexdigest()

    def _said(self) -> str:
        """The sentence upstream gives with the scene; some hold an angle that was drawn for it."""
        assert self._shown is not None
        sentence = self._shown.evaluated["language_instruction"]
        return str(sentence if isinstance(sentence, str) else sentence[0])

    def _held_still(self) -> bool:
        """Whether upstream's evaluation puts zeros for the policy's action now."""
        assert self._facts is not None
        if not self._facts.still:
            return False
        pause = getattr(self._env, "empty_steps_per_env", 0)  # some of the shell games have none
        return bool(self._env.elapsed_steps < self._env.cue_steps_per_env + pause)

    def _free(self) -> None:
        self._task, self._facts, self._shown = "", None, None
        if self._env is not None:
            self._env.close()
            self._env = None


def _flat(name: str, value: Any) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """A hidden variable of upstream as named arrays: a number, a tensor, an array, or a collection of them. Other
    things (actors, poses, texts) are passed over."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _flat(f"{name}/{key}", value[key])
    elif isinstance(value, list | tuple):
        for k, each in enumerate(value):
            yield from _flat(f"{name}/{k}", each)
    elif isinstance(value, bool | int | float | np.ndarray | np.generic) or hasattr(value, "cpu"):
        array = value.cpu().numpy() if hasattr(value, "cpu") else np.asarray(value)
        if not array.dtype.hasobject:
            yield name, array


def own_names(env: Any) -> list[str]:
    """Attributes that a task's own code keeps on the environment: what ManiSkill's base class keeps, and what belongs
    to the last action or to the reward alone, is left out. The rest decides what is shown and what is right."""
    base = next(kind for kind in type(env).__mro__ if kind.__name__ == "BaseEnv")
    code = [each.__code__ for each in vars(base).values() if hasattr(each, "__code__")]
    known = {name for each in code for name in (*each.co_names, *each.co_varnames)} | set(dir(base))
    return sorted(name for name in vars(env) if name not in known and name not in PASSING)


def euler_xyz(quaternion: npt.NDArray[Any]) -> tuple[float, float, float]:
    """Roll, pitch, yaw (rad, about the fixed x, y, z axes) of a unit quaternion wxyz."""
    w, x, y, z = (float(q) for q in quaternion)
    roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = math.asin(max(-1.0, min(1.0, 2 * (w * y - z * x))))
    yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return roll, pitch, yaw
