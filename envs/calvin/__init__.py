"""CALVIN: a robot arm before a play table with a drawer, a sliding door, a button, a switch, two lamps, three blocks.

The simulator is written anew on PyBullet and reads the benchmark's own models and meshes; its physics is compared bit
for bit with recorded trajectories of the original. Importing this package imports no simulator; `make` does. Options
of `describe` and `make`:

    scene     A, B, C or D: which table, and which sizes of blocks (D)
    renderer  tiny (software, the same everywhere) or egl (OpenGL; other shadows and edges, so another protocol) (tiny)
    actions   relative (changes of the target pose, as the benchmark is played) or absolute (target poses) (relative)
    steps     control steps a subtask may take (360)
    assets    folder that holds the benchmark's models ("": see envs.calvin.assets; `memvla setup calvin` brings them)

Facts: Mees et al. 2022, "CALVIN: A Benchmark for Language-Conditioned Policy Learning for Long-Horizon Robot
Manipulation Tasks", and the files of mees/calvin and mees/calvin_env.
"""

from __future__ import annotations

from pathlib import Path

from envs.assets import require
from envs.base import VLAEnv
from envs.calvin.assets import ASSETS
from envs.runtime import Runtime
from envs.spec import ActionSpec, CameraSpec, EnvSpec, Gripper, Rotation

SCENES = ("A", "B", "C", "D")
RENDERERS = ("tiny", "egl")
ACTIONS = ("relative", "absolute")
SUBTASK_STEPS = 360
"""Control steps a subtask may take in the benchmark's own evaluation (mees/calvin, evaluate_policy.py)."""
STATE = (
    *("x", "y", "z", "euler_x", "euler_y", "euler_z", "gripper_width"),
    *(f"joint_{k}" for k in range(1, 8)),
    "gripper_action",
)
"""The benchmark's `robot_obs`: tool position (m), its Euler angles (rad), opening of the gripper (m), joints of the arm
(rad), last gripper action (-1 or 1)."""

RUNTIME = Runtime(
    name="calvin",
    requirements=Path(__file__).parent / "requirements.txt",
    probe="from envs.calvin.probe import probe; print(probe())",
    assets=(ASSETS,),
)


def action_spec(actions: str = "relative") -> ActionSpec:
    """The convention of `actions`. Relative ones are added to the *target* pose, not to the measured one, and nothing
    is clipped; absolute ones are the target pose itself, metres and radians (mees/calvin_env, robot.py)."""
    absolute = actions == "absolute"
    return ActionSpec(
        frame="world",
        absolute=absolute,
        translation_unit=1.0 if absolute else 0.02,
        rotation=Rotation.EULER_XYZ,
        rotation_unit=1.0 if absolute else 0.05,
        gripper=Gripper(open=1.0, closed=-1.0, binary=True),
        limit=None,
        hz=30.0,
    )


def describe(
    scene: str = "D", renderer: str = "tiny", actions: str = "relative", steps: int = SUBTASK_STEPS, assets: str = ""
) -> EnvSpec:
    """What CALVIN offers. Raises ValueError for an option value that does not exist."""
    for what, found, known in (
        ("scene", scene, SCENES),
        ("renderer", renderer, RENDERERS),
        ("actions", actions, ACTIONS),
    ):
        if found not in known:
            raise ValueError(f"{what} must be one of {', '.join(known)}, was {found!r}")
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, was {steps}")
    cameras = (CameraSpec("static", 200, 200), CameraSpec("gripper", 84, 84))
    return EnvSpec(benchmark="calvin", action=action_spec(actions), cameras=cameras, state=STATE)


def make(
    scene: str = "D", renderer: str = "tiny", actions: str = "relative", steps: int = SUBTASK_STEPS, assets: str = ""
) -> VLAEnv:
    """The simulator. Raises ValueError as `describe`, AssetsMissing where the benchmark's files are not there, and
    ImportError outside the runtime (see `memvla setup`)."""
    env_spec = describe(scene=scene, renderer=renderer, actions=actions, steps=steps, assets=assets)
    from envs.calvin.adapter import CalvinEnv

    return CalvinEnv(env_spec, require(ASSETS, assets), scene=scene, renderer=renderer, subtask_steps=steps)
