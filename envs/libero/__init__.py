"""LIBERO: five suites, 130 tasks, one arm over a table or floor, on MuJoCo through robosuite 1.4.

Importing this package imports no simulator; `make` does. Options of `describe` and `make`:

    suite     libero_spatial, libero_object, libero_goal, libero_10 or libero_90
    size      side of the square pictures, pixels (256)
    renderer  egl or osmesa ("": as the variable MUJOCO_GL says, egl where it says nothing); same pixels on both
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envs.base import VLAEnv
from envs.runtime import Runtime
from envs.spec import ActionSpec, CameraSpec, EnvSpec, Gripper, Rotation

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
RENDERERS = ("egl", "osmesa")
STATE = ("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_1", "finger_2")

RUNTIME = Runtime(
    name="libero",
    requirements=Path(__file__).parent / "requirements.txt",
    libraries={
        "libEGL.so.1": "libegl1",
        "libEGL_mesa.so.0": "libegl-mesa0 libgl1-mesa-dri",  # the second brings only drivers, which have no such name
        "libOSMesa.so.8": "libosmesa6",
    },
    env_vars={"MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl", "LP_NUM_THREADS": "1"},
    probe="from envs.libero.probe import probe; print(probe())",
)

ACTION = ActionSpec(
    frame="world",
    absolute=False,
    translation_unit=0.05,
    rotation=Rotation.AXIS_ANGLE,
    rotation_unit=0.5,
    gripper=Gripper(open=-1.0, closed=1.0, binary=True),
    limit=1.0,
    hz=20.0,
)
"""What robosuite's OSC_POSE controller takes: changes of the gripper's pose, x y z then axis-angle about the world's
axes; the gripper goes by the sign of its number (robosuite 1.4, controllers/config/osc_pose.json)."""


def describe(suite: str, size: int = 256, renderer: str = "") -> EnvSpec:
    """What LIBERO offers. Raises ValueError for an option value that does not exist."""
    if suite not in SUITES:
        raise ValueError(f"LIBERO has no suite {suite!r}; there are {', '.join(SUITES)}")
    if renderer and renderer not in RENDERERS:
        raise ValueError(f"renderer must be one of {', '.join(RENDERERS)} (or empty), was {renderer!r}")
    if not 16 <= size <= 2048:
        raise ValueError(f"size must be 16 to 2048 pixels, was {size}")
    cameras = (CameraSpec("agentview", size, size), CameraSpec("wrist", size, size))
    return EnvSpec(benchmark="libero", action=ACTION, cameras=cameras, state=STATE)


def make(suite: str, size: int = 256, renderer: str = "") -> VLAEnv:
    """The simulator. Raises ValueError as `describe`; ImportError outside the runtime (see `memvla setup`)."""
    env_spec = describe(suite=suite, size=size, renderer=renderer)
    from envs.libero.renderer import choose_renderer

    choose_renderer(renderer)  # before mujoco is imported: it reads its choice then
    from envs.libero.adapter import LiberoEnv

    env: Any = LiberoEnv(env_spec, suite)
    assert isinstance(env, VLAEnv)
    return env


def instruction(task: str) -> str:
    """The sentence of a task, as the reference evaluation gives it: made from the task's *name*, without its scene.

    The bddl files hold another wording for some tasks ("the middle layer of the drawer"); no published policy sees it.
    """
    words = task.split("_")
    scene = next((k for k, word in enumerate(words) if word.startswith("SCENE")), None)
    return " ".join(words if scene is None else words[scene + 1 :])
