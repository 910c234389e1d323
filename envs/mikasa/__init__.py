"""MIKASA-Robo: a Panda arm over a table and tasks that cannot be solved without memory, on ManiSkill 3 and SAPIEN.

Importing this package imports no simulator; `make` does. Options of `describe` and `make`:

    size      side of the square pictures of both cameras, pixels (128)
    renderer  cpu, gpu, or "" (a CUDA device if SAPIEN finds one, else the software renderer). Physics, and so every
              scene and its hash, is the CPU's in all cases; pictures of different renderers differ in their last bits
    assets    folder with the mug of the shell games ("": see envs.mikasa.assets; `memvla setup mikasa` brings it)

Trial k is the environment seeded with k + 1, so that 100 trials are the protocol's seeds 1 to 100. The published
scores come from the GPU's physics, whose random numbers are others: the same seed is another scene there, drawn from
the same distribution.

Facts: Cherepanov et al. 2025, "Memory, Benchmark & Robots: A Benchmark for Solving Complex Tasks with Reinforcement
Learning", and the files of mikasa-robo-suite 1.0.0 and ManiSkill 3.0.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from envs.assets import cure, missing, place
from envs.base import VLAEnv
from envs.maniskill import ENV_VARS, LIBRARIES, NAME, RENDERERS, REQUIREMENTS
from envs.maniskill.driver import prepare
from envs.mikasa.assets import ASSETS
from envs.mikasa.first_frame import quicken
from envs.mikasa.tasks import facts
from envs.runtime import Runtime
from envs.spec import ActionSpec, CameraSpec, EnvSpec, Gripper, Rotation

STATE = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
"""Tool position in the world (m), its Euler angles (rad, fixed x, y, z), opening between the fingers (0 to 0.08 m)."""

RUNTIME = Runtime(
    name=NAME,
    requirements=REQUIREMENTS,
    libraries=LIBRARIES,
    env_vars=ENV_VARS,
    probe="from envs.mikasa.probe import probe; print(probe())",
    prepare=prepare,
    assets=(ASSETS,),
    fast_first_frame=quicken,
)

ACTION = ActionSpec(
    frame="base",
    absolute=False,
    translation_unit=0.1,
    rotation=Rotation.EULER_XYZ,
    rotation_unit=-0.1,
    gripper=Gripper(open=1.0, closed=-1.0, binary=False),
    limit=1.0,
    hz=20.0,
)
"""What ManiSkill's `pd_ee_delta_pose` takes: changes of the measured tool pose along the base's axes.

The rotation's unit is negative: the controller multiplies by its *lower* bound (mani_skill 3.0.1, pd_ee_pose.py), and
shortens a rotation vector longer than 1. It turns about the *moving* x, y, z axes; `EULER_XYZ` means fixed ones, which
differs by at most half the product of two angles (0.005 rad at full scale) and matters only to policies that answer
in another representation of rotations."""


def describe(size: int = 128, renderer: str = "", assets: str = "") -> EnvSpec:
    """What MIKASA-Robo offers. Raises ValueError for an option value that does not exist."""
    if renderer and renderer not in RENDERERS:
        raise ValueError(f"renderer must be one of {', '.join(RENDERERS)} (or empty), was {renderer!r}")
    if not 16 <= size <= 2048:
        raise ValueError(f"size must be 16 to 2048 pixels, was {size}")
    cameras = (CameraSpec("base", size, size), CameraSpec("hand", size, size))
    return EnvSpec(benchmark="mikasa", action=ACTION, cameras=cameras, state=STATE)


def not_covered(names: Iterable[str], size: int = 128, renderer: str = "", assets: str = "") -> dict[str, str]:
    """Those of the tasks whose mug or bulb is not on this machine, and what brings it."""
    folder = place(ASSETS, assets)
    lacking = {name: missing(ASSETS.only(*facts(name).files), folder) for name in names}
    return {name: f"needs {Path(files[0]).name}; {cure(ASSETS, assets)}" for name, files in lacking.items() if files}


def make(size: int = 128, renderer: str = "", assets: str = "") -> VLAEnv:
    """The simulator. Raises ValueError as `describe`; ImportError outside the runtime (see `memvla setup`)."""
    env_spec = describe(size=size, renderer=renderer, assets=assets)
    from envs.mikasa.upstream import surroundings

    folder = surroundings(assets)  # before ManiSkill is imported: it reads its folder and driver then
    from envs.mikasa.adapter import MikasaEnv

    return MikasaEnv(env_spec, folder, renderer)
