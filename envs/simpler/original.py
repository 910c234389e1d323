"""The original SimplerEnv: `envs.simpler.make(backend="simpler_env")`. Imports ManiSkill2_real2sim and SAPIEN 2."""

from __future__ import annotations

import os
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from envs.assets import AssetsMissing
from envs.base import SceneError, VLAEnv
from envs.maniskill.driver import use_driver
from envs.simpler.assets import MODELS, SIMULATOR, digest, marks, need_original, visual_of
from envs.simpler.gripper import StickyGripper
from envs.simpler.setups import Setup, build_of, reset_of
from envs.spec import Advance, EnvSpec, Floats, Image

MAIN_SEED = 2022
"""Upstream seeds every fresh environment with it, and builds a fresh one for every episode."""


class OriginalSimpler(VLAEnv):
    """One worker's simulator: keeps the built task while it stays the same, and one scene at a time.

    Every reset builds the physics anew and seeds upstream's generators as those of a fresh environment are.
    """

    def __init__(self, env_spec: EnvSpec, assets: Path, *, suite: str, setting: str, shader: str, sticky: int) -> None:
        super().__init__(env_spec)
        self._assets, self._suite, self._setting, self._shader = assets, suite, setting, shader
        self._task = ""
        self._setup: Setup | None = None
        self._env: Any = None
        self._models = ""
        self._files: list[Path] = []
        self._marks: dict[str, float] = {}
        self._words = ""
        self._sticky = StickyGripper(sticky) if suite == "fractal" else None

    # ------------------------------------------------------------------ hooks of VLAEnv

    def load(self, task: str, trial: int, seed: int) -> None:
        options = reset_of(self._suite, self._setting, task, trial)
        if task != self._task:
            self._free()
            setup = build_of(self._suite, self._setting, task, self._shader, self._assets)
            self._files = self._need(task, setup.files)
            self._env = build(setup)
            self._task, self._setup = task, setup
        self._env.set_main_rng(MAIN_SEED + seed)
        self._env.reset(options={**options, "reconfigure": True})
        # A base camera that nobody looks through is drawn with every picture otherwise.
        assert self._setup is not None
        self._env._cameras = OrderedDict({self._setup.camera: self._env._cameras[self._setup.camera]})
        self._look_at_models(task)
        self._words = self._env.get_language_instruction()
        if self._sticky is not None:
            self._sticky.reset()

    def advance(self, action: Floats) -> Advance:
        if not np.isfinite(action).all():
            raise ValueError(f"action holds a number that is not finite: {action.tolist()}")
        grip = float(action[6])
        grip = (1.0 if grip >= 0 else -1.0) if self._sticky is None else self._sticky(grip)
        info = self._env.step(np.array([*action[:6], grip], dtype=np.float64))[4]
        words, before = self._env.get_language_instruction(), self._words
        self._words = words
        if words != before and self._sticky is not None:
            self._sticky.reset()
        return Advance(success=bool(info["success"]), instruction_changed=words != before)

    def draw(self, camera: str) -> Image:
        self.env_spec.camera(camera)
        assert self._setup is not None
        self._env._obs_mode = "image"
        try:  # upstream's own way from a picture to an observation: drawn, the real background laid over it, rounded
            seen = self._env.get_obs()["image"][self._setup.camera]["Color"][..., :3]
        finally:
            self._env._obs_mode = "none"
        return np.ascontiguousarray(np.clip(seen * 255, 0, 255).astype(np.uint8))

    def instruction(self) -> str:
        return self._words

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        """Task, models, poses and velocities of everything, what the arm is driven to, what the gripper remembers."""
        assert self._setup is not None
        env = self._env
        yield "task", f"{self._setup.env_id} {self._task}"
        yield "models", self._models
        yield "instruction", self._words
        yield "build", repr(sorted((k, v) for k, v in self._setup.keywords.items() if k != "rgb_overlay_path"))
        yield "things", " ".join(actor.name for actor in env._actors)
        yield "state", env.get_state()
        yield "base", _vector(env.agent.robot.pose)
        yield "drive", np.array([joint.get_drive_target() for joint in env.agent.robot.get_active_joints()])
        yield from _flat("controller", env.agent.controller.get_state())
        yield "steps", np.array(env.elapsed_steps)
        yield "stats", repr(list((env.episode_stats or {}).items()))
        if self._sticky is not None:
            yield "gripper", np.array(self._sticky.state, dtype=np.float64)

    def state(self) -> Floats:
        """Tool position 3 (m) and Euler angles 3 in the robot's base frame, opening of the gripper 0 to 1."""
        pose = self._in_base(self._env.tcp.pose)
        turn = Rotation.from_quat(np.roll(pose[3:], -1)).as_euler("xyz")
        return np.array([*pose[:3], *turn, self._opening()], dtype=np.float32)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """As of the back end on ManiSkill 3 (tool, aim, opening, source, target, their sizes); for the Google robot
        `object` [7] where there is one, and of drawers `front` [7] (pose of the drawer's link: it opens along x, the
        middle of its front is at 0.305 m) and `drawer` [1] (m it is open)."""
        env = self._env
        tool = self._in_base(env.tcp.pose)
        found = {"tool": tool, "aim": tool, "opening": np.array([self._opening()])}
        if self._suite == "bridge":
            found["aim"] = _vector(env.agent.controller.controllers["arm"]._target_pose)
            for kind, actor in (("source", env.episode_source_obj), ("target", env.episode_target_obj)):
                box = env.model_db[actor.name]["bbox"]
                found[kind] = self._in_base(actor.pose)
                found[f"{kind}_size"] = np.array(box["max"], dtype=np.float64) - np.array(box["min"])
            return found
        thing = getattr(env, "episode_source_obj", None) or getattr(env, "obj", None)
        if thing is not None:
            found["object"] = self._in_base(thing.pose)
        if hasattr(env, "drawer_obj"):
            found["front"] = self._in_base(env.drawer_obj.pose)
            found["drawer"] = np.array([env.art_obj.get_qpos()[env.joint_idx]], dtype=np.float64)
        return found

    def metrics(self) -> dict[str, float]:
        """What upstream counts (`grasped` and others), and `stand_in_NAME` 1 where a model is not the benchmark's own:
        such a score is not comparable with published ones."""
        counted = dict(self._env.episode_stats or {})
        counted["grasped"] = counted.pop("is_src_obj_grasped", counted.get("grasped", 0.0))
        return {**{name: float(value) for name, value in counted.items()}, **self._marks}

    def close(self) -> None:
        """Free the simulator. The environment can be reset again afterwards."""
        self._ready = False
        self._free()
        super().close()

    # ------------------------------------------------------------------ parts

    def _in_base(self, pose: Any) -> npt.NDArray[np.float64]:
        return _vector(self._env.agent.robot.pose.inv() * pose)

    def _opening(self) -> float:
        return float(np.clip(1.0 - self._env.agent.get_gripper_closedness(), 0.0, 1.0))

    def _need(self, task: str, names: Sequence[str]) -> list[Path]:
        try:
            return need_original(self._assets, names)
        except AssetsMissing as error:
            raise SceneError(f"{task} cannot be set up: {error}") from error

    def _look_at_models(self, task: str) -> None:
        """Of the things that lie in this scene. Without its visual mesh a thing would be there and not be seen: SAPIEN
        only logs that."""
        models = sorted({actor.name for actor in self._env._actors if self._model(actor.name).is_dir() and actor.name})
        shown = [f"custom/models/{name}/{visual_of(self._model(name))}" for name in models]
        bodies = [f"custom/models/{name}/collision.obj" for name in models]
        files = [*self._files, *self._need(task, [*shown, *bodies])]
        self._models, self._marks = digest(files), marks(MODELS, self._assets, files)

    def _model(self, name: str) -> Path:
        return self._assets / "custom" / "models" / name

    def _free(self) -> None:
        self._task, self._setup = "", None
        if self._env is not None:
            self._env.close()
            self._env = None


def surroundings(sources: Path, folder: Path) -> None:
    """Name driver, sources and asset folder to the libraries that read them at import.

    SAPIEN 2 writes a file beside every stage it loads, so a folder that cannot be written is stood in for by one of
    links. Raises ValueError where the simulator was imported with another folder before.
    """
    use_driver()
    if "mani_skill2_real2sim" in sys.modules:
        named = os.environ.get("MEMVLA_SIMPLER_READ")
        if named != str(folder):
            raise ValueError(f"this process reads its assets from {named}, not from {folder}: start another process")
        return
    sys.path.insert(0, str(sources / SIMULATOR))
    read = folder if os.access(folder / "hab2_bench_assets" / "stages", os.W_OK) else _linked(folder)
    os.environ["MEMVLA_SIMPLER_READ"], os.environ["MS2_REAL2SIM_ASSET_DIR"] = str(folder), str(read)


def _linked(folder: Path) -> Path:
    made = Path(tempfile.mkdtemp(prefix="memvla-simpler-"))
    for part in folder.iterdir() if folder.is_dir() else ():
        if part.name != "hab2_bench_assets":
            os.symlink(part, made / part.name)
    stages = made / "hab2_bench_assets" / "stages"
    stages.mkdir(parents=True)
    for stage in (folder / "hab2_bench_assets" / "stages").glob("*"):
        os.symlink(stage, stages / stage.name)
    return made


@lru_cache(maxsize=1)
def kept_renderer() -> Any:
    """SAPIEN's renderer, kept for the life of the process: it goes with the last scene that uses it, and the next one
    would pay the slow first picture once more."""
    import sapien.core as sapien

    return sapien.SapienRenderer()


def build(setup: Setup) -> Any:
    """The bare environment of upstream, which draws nothing of its own accord."""
    import gymnasium
    import mani_skill2_real2sim.envs  # noqa: F401 - registers them

    kept_renderer()
    made = gymnasium.make(setup.env_id, obs_mode="none", camera_cfgs={"add_segmentation": True}, **setup.keywords)
    return made.unwrapped


def _vector(pose: Any) -> npt.NDArray[np.float64]:
    return np.array([*pose.p, *pose.q], dtype=np.float64)


def _flat(name: str, value: Any) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _flat(f"{name}/{key}", value[key])
    elif value is not None:
        yield name, np.asarray(value, dtype=np.float64)
