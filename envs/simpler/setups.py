"""What the original simulator is asked to build for a task, and what it is reset with for a trial. No simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from envs.simpler.bridge import check_trial, facts
from envs.simpler.fractal import variant

GOOGLE_CONTROL = (
    "arm_pd_ee_delta_pose_align_interpolate_by_planner_gripper_pd_joint_target_delta_pos_interpolate_by_planner"
)
WIDOWX_CONTROL = "arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos"


@dataclass(frozen=True)
class Setup:
    """One built environment: upstream's id and keywords, the camera that is seen through, and the stage and pictures
    of its folder that it needs (relative names)."""

    env_id: str
    keywords: Mapping[str, Any]
    camera: str
    files: tuple[str, ...]


def build_of(suite: str, setting: str, task: str, shader: str, folder: Path) -> Setup:
    """How a task is built. folder: the assets of the original. Raises SceneError for a task there is not."""
    return _google(task, setting, shader, folder) if suite == "fractal" else _widowx(task, folder)


def reset_of(suite: str, setting: str, task: str, trial: int) -> dict[str, Any]:
    """The options of a trial's reset. Raises SceneError for a trial there is not."""
    if suite == "fractal":
        return _google_reset(task, setting, trial)
    found = facts(task)
    check_trial(task, trial)
    return {
        "robot_init_options": {"init_xy": np.array(found.base), "init_rot_quat": np.array([0.0, 0.0, 0.0, 1.0])},
        "obj_init_options": {"episode_id": trial},
    }


def _widowx(task: str, folder: Path) -> Setup:
    found = facts(task)
    overlay = f"real_inpainting/{found.overlay}.png"
    keywords = {
        "robot": "widowx_sink_camera_setup" if found.sink else "widowx",
        "control_mode": WIDOWX_CONTROL,
        "control_freq": 5,
        "sim_freq": 500,
        "scene_name": found.stage,
        "rgb_overlay_path": str(folder / overlay),
        "rgb_overlay_cameras": ["3rd_view_camera"],
    }
    models = [f"custom/models/{model}/collision.obj" for model in found.models]
    files = (f"hab2_bench_assets/stages/{found.stage}.glb", overlay, "custom/info_bridge_custom_v0.json", *models)
    return Setup(found.original, keywords, "3rd_view_camera", files)


def _google(task: str, setting: str, shader: str, folder: Path) -> Setup:
    found = variant(task, setting)
    keywords: dict[str, Any] = {
        "robot": "google_robot_static",
        "control_mode": GOOGLE_CONTROL,
        "control_freq": 3,
        "sim_freq": 513,
        "scene_name": found.scene,
        **found.build,
    }
    files = ["custom/info_pick_custom_v0.json"]
    if not found.scene.startswith("dummy"):
        files.append(f"hab2_bench_assets/stages/{found.scene}.glb")
    if found.overlay:
        overlay = f"real_inpainting/{found.overlay}.png"
        keywords |= {"rgb_overlay_path": str(folder / overlay), "rgb_overlay_cameras": ["overhead_camera"]}
        files.append(overlay)
    if found.traced:
        keywords["shader_dir"] = shader
        files.append(f"custom/{found.build.get('station_name', 'mk_station')}.urdf")
    return Setup(found.env_id, keywords, "overhead_camera", tuple(files))


def _google_reset(task: str, setting: str, trial: int) -> dict[str, Any]:
    found = variant(task, setting)
    robot, thing, layout = found.place(trial)
    # Upstream: a turn by the yaw, then half a turn about the vertical (its base faces the counter).
    turned = Rotation.from_euler("z", found.yaw) * Rotation.from_quat([0.0, 0.0, 1.0, 0.0])
    x, y, z, w = turned.as_quat()
    objects: dict[str, Any] = {} if layout is None else {"episode_id": layout}
    if thing is not None:
        objects["init_xy"] = np.array(thing)
    elif layout is None:
        objects["init_xy"] = np.zeros(2)  # as the scripts say for drawers, which have no object
    robots = {"init_xy": np.array(robot), "init_rot_quat": np.array([w, x, y, z])}
    return {"robot_init_options": robots, "obj_init_options": objects}
