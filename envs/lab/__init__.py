"""The lab benchmark: our own small tasks on MuJoCo, for laptops, tests and controlled experiments.

A free-flying two-finger gripper over a table, primitives only, seen by a front and a wrist camera. This module is
light: MuJoCo is imported by `make` and nowhere before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envs.runtime import Runtime
from envs.spec import ActionSpec, CameraSpec, EnvSpec, Gripper, Rotation

if TYPE_CHECKING:
    from envs.lab.env import LabEnv

RUNTIME = Runtime(probe="import mujoco; assert mujoco.__version__ == '4.0.0', mujoco.__version__")

RENDERERS = ("ray", "gl")

HAND_STEP = 0.02
"""Metres the hand's target moves per control step for an action of 1."""
TURN_STEP = 0.1
"""Radians the hand's target turns per control step for an action of 1."""

ACTION = ActionSpec(
    frame="world",
    absolute=False,
    translation_unit=HAND_STEP,
    rotation=Rotation.EULER_XYZ,
    rotation_unit=TURN_STEP,
    gripper=Gripper(open=1.0, closed=-1.0),
    limit=1.0,
    hz=20.0,
)

STATE = ("x", "y", "z", "roll", "pitch", "yaw", "left_finger", "right_finger")
"""Proprioception: tip of the hand in metres (table top is z = 0), its angles in radians, finger openings in metres."""


def describe(size: int = 64, renderer: str = "ray") -> EnvSpec:
    """What the lab offers, without importing MuJoCo.

    size: height and width of both cameras' pictures in pixels; renderer: `ray` (ray casting, the same pixels on every
    machine) or `gl` (OpenGL, for pretty videos). Raises ValueError for another value.
    """
    if renderer not in RENDERERS:
        raise ValueError(f"lab renderer must be one of {', '.join(RENDERERS)}, was {renderer!r}")
    if not 8 <= size <= 1024:
        raise ValueError(f"lab picture size must lie in 8 ... 1024 pixels, was {size}")
    cameras = (CameraSpec("front", size, size), CameraSpec("wrist", size, size))
    return EnvSpec(benchmark="lab", action=ACTION, cameras=cameras, state=STATE)


def make(size: int = 64, renderer: str = "ray") -> LabEnv:
    """The simulator itself; options as for `describe`."""
    from envs.lab.env import LabEnv

    return LabEnv(describe(size, renderer), renderer)
