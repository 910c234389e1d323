"""The Bridge tasks on ManiSkill 3: `envs.simpler.make(backend="maniskill3")`. Imports the simulator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from envs.base import VLAEnv
from envs.maniskill.render import choose_renderer, kept_renderer, spare_the_collector
from envs.simpler.assets import BRIDGE, ROBOT, digest, maniskill3_files, marks
from envs.simpler.bridge import BridgeTask, check_trial, facts
from envs.simpler.robot import description
from envs.spec import Advance, EnvSpec, Floats, Image

CONTROL = "arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos"
CAMERA = "3rd_view_camera"
TOOL = "ee_gripper_link"


class ManiSkillBridge(VLAEnv):
    """One worker's simulator: keeps the built task while it stays the same, and one scene at a time.

    Every reset builds the physics anew: a warm one would carry contacts over from the last episode.
    """

    def __init__(self, env_spec: EnvSpec, assets: Path, renderer: str) -> None:
        super().__init__(env_spec)
        self._assets = assets
        self._renderer = choose_renderer(renderer)
        self._robot = Path()
        self._name = ""
        self._facts: BridgeTask | None = None
        self._env: Any = None
        self._models = ""
        self._marks: dict[str, float] = {}

    # ------------------------------------------------------------------ hooks of VLAEnv

    def load(self, task: str, trial: int, seed: int) -> None:
        found = facts(task)
        check_trial(task, trial)
        if task != self._name:
            self._free()
            self._look_at_models(found)
            self._env = build(found, self._renderer, self._robot)
            self._name, self._facts = task, found
        import torch

        options = {"reconfigure": True, "episode_id": torch.tensor([trial])}
        self._env.reset(seed=seed + trial, options=options)

    def advance(self, action: Floats) -> Advance:
        if not np.isfinite(action).all():
            raise ValueError(f"action holds a number that is not finite: {action.tolist()}")
        info = self._env.step(to_controller(action))[4]
        return Advance(success=bool(info["success"].item()))

    def draw(self, camera: str) -> Image:
        self.env_spec.camera(camera)
        # Upstream's own way from a picture to an observation: drawn, then the real background laid over it.
        seen = self._env._get_obs_sensor_data()[CAMERA]["rgb"]
        return np.ascontiguousarray(seen[0].cpu().numpy(), dtype=np.uint8)

    def instruction(self) -> str:
        assert self._facts is not None
        return self._facts.instruction

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        """Task, models, poses and velocities of everything, what the arm is driven to, and what success is judged
        by."""
        assert self._facts is not None
        env = self._env
        yield "task", self._facts.maniskill3
        yield "models", self._models
        yield from _flat("state", env.get_state_dict())
        for name, actor in sorted(env.scene.actors.items()):
            yield f"pose/{name}", actor.pose.raw_pose.cpu().numpy()
        robot = env.agent.robot
        yield "base", robot.pose.raw_pose.cpu().numpy()
        yield "drive", np.array([joint.drive_target.cpu().numpy() for joint in robot.active_joints])
        yield "target", _aim(env).raw_pose.cpu().numpy()
        yield "steps", env.elapsed_steps.cpu().numpy()
        for name, size in sorted(env.episode_model_bbox_sizes.items()):
            yield f"size/{name}", size.cpu().numpy()
        for name, place in sorted(env.episode_obj_xyzs_after_settle.items()):
            yield f"settled/{name}", place.cpu().numpy()

    def state(self) -> Floats:
        """Tool position 3 (m) and Euler angles 3 in the robot's base frame, opening of the gripper 0 to 1."""
        agent = self._env.agent
        pose = _in_base(agent, agent.robot.links_map[TOOL].pose)
        turn = Rotation.from_quat(np.roll(pose[3:], -1)).as_euler("xyz")
        return np.array([*pose[:3], *turn, self._opening()], dtype=np.float32)

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """What a perfect observer of the present knows, in the robot's base frame; poses are xyz (m) and quaternion
        wxyz: tool [7], aim [7] (where the controller drives the tool), opening [1] (0 to 1), source [7], target [7],
        and the sides of their bounding boxes along their own axes, source_size [3], target_size [3] (m)."""
        assert self._facts is not None
        agent, things = self._env.agent, self._env.objs
        sizes = self._env.episode_model_bbox_sizes
        pair = {"source": self._facts.source, "target": self._facts.target}
        return {
            "tool": _in_base(agent, agent.robot.links_map[TOOL].pose),
            "aim": _numbers(_aim(self._env)),
            "opening": np.array([self._opening()]),
            **{kind: _in_base(agent, things[name].pose) for kind, name in pair.items()},
            **{f"{kind}_size": sizes[name].cpu().numpy().astype(np.float64) for kind, name in pair.items()},
        }

    def metrics(self) -> dict[str, float]:
        """`grasped` 1 once the object was held; `stand_in_NAME` 1 where a model is not the benchmark's own: such a
        score is not comparable with published ones."""
        grasped = float(self._env.episode_stats["is_src_obj_grasped"].item())
        return {"grasped": grasped, **self._marks}

    def close(self) -> None:
        """Free the simulator. The environment can be reset again afterwards."""
        self._ready = False
        self._free()
        super().close()

    # ------------------------------------------------------------------ parts

    def _opening(self) -> float:
        fingers = self._env.agent.robot.get_qpos()[0, -2:].cpu().numpy()
        return float(np.clip((fingers.mean() - 0.015) / (0.037 - 0.015), 0.0, 1.0))

    def _look_at_models(self, found: BridgeTask) -> None:
        files = maniskill3_files(self._assets, found)
        if self._robot == Path():
            self._robot = description(self._assets / ROBOT)
        self._models, self._marks = digest(files), marks(BRIDGE, self._assets, files)

    def _free(self) -> None:
        self._name, self._facts = "", None
        if self._env is not None:
            self._env.close()
            self._env = None


def build(found: BridgeTask, renderer: str, robot: Path) -> Any:
    """The bare environment of upstream with the robot's description, which draws nothing of its own accord.

    Upstream keeps overlays and what they spare on the class, by camera: a table and a sink would overwrite each other,
    so every class gets its own. And it knows no mode without pictures: `none` is added.
    """
    import gymnasium
    import torch
    from mani_skill import logger
    from mani_skill.envs.tasks.digital_twins.bridge_dataset_eval import base_env
    from mani_skill.envs.utils.observations import parse_obs_mode_to_struct
    from mani_skill.utils.registration import REGISTERED_ENVS

    logger.setLevel("ERROR")
    kept_renderer(renderer)
    spare_the_collector()
    torch.set_num_threads(1)  # tiny tensors: more threads only get in the way of other workers
    kind = REGISTERED_ENVS[found.maniskill3].cls
    base_env.WidowX250SBridgeDatasetFlatTable.urdf_path = str(robot)  # the one at the sink is a kind of it
    kind._rgb_overlay_images, kind._objects_to_remove_from_greenscreen = {}, []
    kind.SUPPORTED_OBS_MODES = ("rgb+segmentation", "none")
    made: Any = gymnasium.make(
        found.maniskill3,
        obs_mode="none",
        reward_mode="none",
        control_mode=CONTROL,
        num_envs=1,
        sim_backend="cpu",
        render_backend=renderer,
        sensor_configs={"shader_pack": "default"},
    ).unwrapped
    made.obs_mode_struct = parse_obs_mode_to_struct("rgb+segmentation")  # for pictures that are asked for
    return made


def to_controller(action: Floats) -> Floats:
    """Our action (change of place, axis-angle, gripper) as this back end's controller takes it: it turns about the
    moving x, y and z axes, where the original takes the same numbers as axis-angle. Only the side of the gripper's
    number counts, as for the original's clients."""
    turn = Rotation.from_rotvec(action[3:6]).as_euler("XYZ")
    return np.array([*action[:3], *turn, 1.0 if action[6] >= 0 else -1.0], dtype=np.float32)


def _flat(name: str, value: Any) -> Iterable[tuple[str, npt.NDArray[Any]]]:
    """Nested dictionaries of tensors as named arrays."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _flat(f"{name}/{key}", value[key])
    else:
        yield name, value.cpu().numpy()


def _aim(env: Any) -> Any:
    """Where the controller drives the tool, in the robot's base frame."""
    return env.agent.controller.controllers["arm"]._target_pose


def _in_base(agent: Any, pose: Any) -> npt.NDArray[np.float64]:
    return _numbers(agent.robot.pose.inv() * pose)


def _numbers(pose: Any) -> npt.NDArray[np.float64]:
    """A batched pose of one as [7] numbers, xyz then quaternion wxyz."""
    raw: npt.NDArray[np.float64] = np.asarray(pose.raw_pose.cpu().numpy(), dtype=np.float64).reshape(7)
    return raw
