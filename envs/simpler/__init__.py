"""SimplerEnv: real-robot evaluations rebuilt in simulation, on two back ends. Importing it imports no simulator.

`bridge` is the four WidowX tasks over real pictures of the BridgeData tables, 24 layouts each; trial k is the
protocol's episode k. `fractal` is the Google robot's tasks in every variant of the protocol (see envs.simpler.fractal),
on the original alone. Back ends:

    maniskill3    ManiSkill 3's own version of the tasks, from the package index (runtime `maniskill`)
    simpler_env   the original: ManiSkill2_real2sim on SAPIEN 2.2.2, from its public repository (runtime `simpler_env`)

The two draw and judge alike but not the same: their contact rules, their settling and their collision code differ, and
the eggplant lies otherwise. So the back end is an option of the suite and with it a part of the protocol's fingerprint.
A suite that leaves it open takes what MEMVLA_SIMPLER_BACKEND names, else the original where its runtime is set up, else
ManiSkill 3 (`settle`); manifest and reports name the one that was taken.

Options of `describe` and `make`:

    suite     bridge or fractal
    setting   of fractal: vm (visual matching) or va (variant aggregation)
    backend   maniskill3 or simpler_env ("": see above)
    shader    of fractal's drawers, which the protocol draws by ray tracing: rt, or ibl, which needs no NVIDIA GPU and
              departs visibly from the protocol's pictures ("": what MEMVLA_SIMPLER_SHADER names, else rt)
    sticky    of fractal: steps for which the gripper repeats a change (10)
    renderer  of maniskill3: cpu, gpu, or "" (a CUDA device if SAPIEN finds one, else the software renderer). Physics is
              the CPU's in all cases; pictures of different renderers differ in their last bits
    assets    folder with models and pictures ("": see envs.simpler.assets; `memvla setup` brings them)
    sources   of simpler_env: folder with the two repositories ("": the same)

Facts: Li et al. 2024, "Evaluating Real-World Robot Manipulation Policies in Simulation", and the files of ManiSkill
3.0.1, SimplerEnv and ManiSkill2_real2sim.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from envs.assets import cure, home, missing, place, require
from envs.base import VLAEnv
from envs.maniskill import ENV_VARS, LIBRARIES, NAME, RENDERERS, REQUIREMENTS
from envs.maniskill.driver import prepare
from envs.runtime import Runtime
from envs.simpler.assets import BRIDGE, MODELS, SOURCES
from envs.simpler.sapien2 import prepare as prepare_sapien2
from envs.spec import ActionSpec, CameraSpec, EnvSpec, Gripper, Rotation

BACKENDS = ("maniskill3", "simpler_env")
SUITES = ("bridge", "fractal")
SHADERS = ("rt", "ibl")
SHADER = "MEMVLA_SIMPLER_SHADER"
"""The variable that names the shader of drawers where a suite leaves it open."""
CHOICE = "MEMVLA_SIMPLER_BACKEND"
"""The variable that names the back end of suites which leave it open."""

STATE = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
"""Tool position (m), Euler angles (rad, fixed x, y, z) in the robot's base frame, opening of the gripper (0 to 1)."""

MANISKILL3 = Runtime(
    name=NAME,
    requirements=REQUIREMENTS,
    libraries=LIBRARIES,
    env_vars=ENV_VARS,
    probe="from envs.simpler.probe import maniskill3; print(maniskill3())",
    prepare=prepare,
    assets=(BRIDGE,),
)

ORIGINAL = Runtime(
    name="simpler_env",
    requirements=Path(__file__).parent / "requirements.txt",
    libraries=LIBRARIES,
    env_vars={"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    probe="from envs.simpler.probe import original; print(original())",
    prepare=prepare_sapien2,
    assets=(SOURCES, MODELS),
)

GOOGLE = ActionSpec(
    frame="base",
    absolute=False,
    translation_unit=1.0,
    rotation=Rotation.AXIS_ANGLE,
    rotation_unit=1.0,
    gripper=Gripper(open=1.0, closed=0.0, binary=False, sticky=10),
    limit=None,
    hz=3.0,
)
"""What the Google robot's evaluations take: metres and radians by which the *measured* pose of the tool is moved along
and turned about the base's axes; how open the gripper is to be, whose changes are repeated (envs.simpler.gripper)."""

WIDOWX = ActionSpec(
    frame="base",
    absolute=False,
    translation_unit=1.0,
    rotation=Rotation.AXIS_ANGLE,
    rotation_unit=1.0,
    gripper=Gripper(open=1.0, closed=-1.0),
    limit=None,
    hz=5.0,
)
"""What `arm_pd_ee_target_delta_pose_align2_gripper_pd_joint_pos` takes: metres and radians by which the *target* pose
of the tool is moved along and turned about the base's axes."""


def settle(suite: str = "bridge", backend: str = "", **rest: Any) -> dict[str, Any]:
    """The options with what is left open chosen. Raises ValueError for a value that does not exist."""
    if suite not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}, was {suite!r}")
    if suite == "fractal":
        chosen = backend or "simpler_env"
        shader = rest.get("shader") or os.environ.get(SHADER, "") or "rt"
        if chosen != "simpler_env" or shader not in SHADERS:
            raise ValueError(f"fractal runs on simpler_env with shader {' or '.join(SHADERS)}, not {chosen}, {shader}")
        return {"suite": suite, "backend": chosen, **rest, "shader": shader}
    chosen = backend or os.environ.get(CHOICE, "") or ("simpler_env" if _original_is_there() else "maniskill3")
    if chosen not in BACKENDS:
        raise ValueError(f"the back end of SimplerEnv must be one of {', '.join(BACKENDS)}, was {chosen!r}")
    return {"suite": suite, "backend": chosen, **rest}


def RUNTIME(**options: Any) -> Runtime:  # noqa: N802 - the name every adapter exports it under
    """The runtime of the back end that is chosen."""
    return {"maniskill3": MANISKILL3, "simpler_env": ORIGINAL}[settle(**options)["backend"]]


def tasks(suite: str = "fractal", setting: str = "vm", **rest: Any) -> list[dict[str, Any]]:
    """The variants of fractal as a suite lists its tasks. Raises ValueError for a suite that lists its own."""
    if suite != "fractal" or setting not in ("vm", "va"):
        raise ValueError(f"only fractal, vm or va, lists its tasks here; was {suite!r}, {setting!r}")
    from envs.simpler.fractal import tasks as listed

    return listed(setting)


def not_covered(names: Iterable[str], **options: Any) -> dict[str, str]:
    """Those of the tasks whose stage or picture is not on this machine, and what brings it."""
    chosen = settle(**options)
    if chosen["backend"] != "simpler_env":
        return {}  # all of its tasks need all of its files
    from envs.simpler.setups import build_of

    named = chosen.get("assets", "")
    folder, found = place(MODELS, named), {}
    for name in names:
        files = build_of(chosen["suite"], chosen.get("setting", "vm"), name, chosen.get("shader", ""), folder).files
        lacking = next((file for file in files if not (folder / file).is_file()), "")
        if lacking:
            found[name] = f"needs {Path(lacking).name}; {cure(MODELS, named)}"
    return found


def describe(
    suite: str = "bridge",
    backend: str = "",
    setting: str = "vm",
    shader: str = "",
    sticky: int = 10,
    renderer: str = "",
    assets: str = "",
    sources: str = "",
) -> EnvSpec:
    """What SimplerEnv offers. Raises ValueError for an option value that does not exist."""
    settle(suite, backend, shader=shader)
    if renderer and renderer not in RENDERERS:
        raise ValueError(f"renderer must be one of {', '.join(RENDERERS)} (or empty), was {renderer!r}")
    if setting not in ("vm", "va"):
        raise ValueError(f"setting must be vm or va, was {setting!r}")
    if sticky < 1:
        raise ValueError(f"sticky must be 1 step or more, was {sticky}")
    if suite == "bridge":
        return EnvSpec("simpler", WIDOWX, (CameraSpec("third_person", 480, 640),), STATE)
    action = replace(GOOGLE, gripper=replace(GOOGLE.gripper, sticky=sticky))
    return EnvSpec("simpler", action, (CameraSpec("overhead", 512, 640),), STATE)


def make(**options: Any) -> VLAEnv:
    """The simulator. Raises ValueError as `describe`, AssetsMissing where models or sources are not there, ImportError
    outside the runtime (see `memvla setup`)."""
    env_spec = describe(**options)
    chosen = settle(**options)
    if chosen["backend"] == "simpler_env":
        return _make_original(env_spec, chosen)
    from envs.maniskill.render import surroundings

    folder = require(BRIDGE, chosen.get("assets", ""))
    surroundings(folder)  # before ManiSkill is imported: it reads its folder and driver then
    from envs.simpler.maniskill3 import ManiSkillBridge

    return ManiSkillBridge(env_spec, folder, chosen.get("renderer", ""))


def _make_original(env_spec: EnvSpec, chosen: dict[str, Any]) -> VLAEnv:
    from envs.simpler.original import OriginalSimpler, surroundings

    folder = place(MODELS, chosen.get("assets", ""))
    surroundings(require(SOURCES, chosen.get("sources", "")), folder)
    return OriginalSimpler(
        env_spec,
        folder,
        suite=chosen["suite"],
        setting=chosen.get("setting", "vm"),
        shader=chosen.get("shader", ""),
        sticky=env_spec.action.gripper.sticky,
    )


def _original_is_there() -> bool:
    stamp = home() / "runtimes" / ORIGINAL.name / "memvla-runtime.json"
    return stamp.is_file() and not missing(SOURCES, place(SOURCES))
