"""LIBERO-Plus: 10,030 perturbed variants of LIBERO's four suites of ten tasks, in seven dimensions.

Importing this package imports no simulator; `make` does. Options of `describe`, `make`, `tasks` and `not_covered`:

    suite     libero_plus_spatial, libero_plus_object, libero_plus_goal, libero_plus_10, or libero_plus: all four
    renderer  egl or osmesa ("": as the variable MUJOCO_GL says, egl where it says nothing); same pixels on both
    assets    the benchmark's own assets, unpacked (see `envs.libero_plus.assets`); 3,047 variants need them

Pictures are always 256 pixels wide: the benchmark's noises are made for that size. The settle steps belong to the
perturbation of the robot's initial state: setting the initial state overwrites the perturbed pose, and the controller,
whose rest pose is the perturbed one, pulls the arm there while the scene settles, as in the benchmark's own evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from envs import libero
from envs.assets import cure
from envs.base import VLAEnv
from envs.libero_plus import variants
from envs.libero_plus.assets import ASSETS, find_assets, folder_of
from envs.runtime import Runtime
from envs.spec import EnvSpec

SUITES = {
    "libero_plus_spatial": ("libero_spatial",),
    "libero_plus_object": ("libero_object",),
    "libero_plus_goal": ("libero_goal",),
    "libero_plus_10": ("libero_10",),
    "libero_plus": ("libero_spatial", "libero_object", "libero_goal", "libero_10"),
}
"""Our suite -> the suites of LIBERO whose variants it holds."""
MAX_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520}

RUNTIME = Runtime(
    name="libero_plus",
    requirements=Path(__file__).parent / "requirements.txt",
    libraries={**libero.RUNTIME.libraries, "libMagickWand-6.Q16.so.6": "libmagickwand-6.q16-6"},
    env_vars=libero.RUNTIME.env_vars,
    probe="from envs.libero_plus.probe import probe; print(probe())",
    assets=(ASSETS,),
)


def describe(suite: str, renderer: str = "", assets: str = "") -> EnvSpec:
    """What LIBERO-Plus offers. Raises ValueError for an option value that does not exist."""
    if suite not in SUITES:
        raise ValueError(f"LIBERO-Plus has no suite {suite!r}; there are {', '.join(SUITES)}")
    plain = libero.describe(suite=SUITES[suite][0], renderer=renderer)
    return EnvSpec(benchmark="libero_plus", action=plain.action, cameras=plain.cameras, state=plain.state)


def make(suite: str, renderer: str = "", assets: str = "") -> VLAEnv:
    """The simulator. Raises ValueError as `describe`; AssetsMissing for a folder named that is not the benchmark's;
    ImportError outside the runtime (see `memvla setup`)."""
    env_spec = describe(suite=suite, renderer=renderer, assets=assets)
    from envs.libero.renderer import choose_renderer

    choose_renderer(renderer)  # before mujoco is imported: it reads its choice then
    from envs.libero_plus.adapter import LiberoPlusEnv

    env: Any = LiberoPlusEnv(env_spec, suite, SUITES[suite], find_assets(assets))
    assert isinstance(env, VLAEnv)
    return env


def tasks(suite: str, renderer: str = "", assets: str = "") -> list[dict[str, Any]]:
    """The tasks of a suite, in the benchmark's own order, as a suite file would list them.

    Tags: `dimension` as in the published table, `base` (LIBERO's task), `assets` (`base` or `archive`). Marks:
    `difficulty` 1 to 5, where the benchmark's task_classification.json lies beside its assets. The instruction of a
    language variant stands in its problem file only, which the runtime holds.
    """
    levels = variants.difficulties(folder_of(assets))
    return [
        {
            "name": variant.name,
            "instruction": "" if variant.kind == "language" else libero.instruction(variant.base),
            "max_steps": MAX_STEPS[variant.suite],
            "tags": {
                "dimension": variant.dimension,
                "base": variant.base,
                "assets": "archive" if variant.needs_archive else "base",
            },
            "marks": {"difficulty": levels[variant.name]} if variant.name in levels else {},
        }
        for variant in variants.of_suites(SUITES[suite])
    ]


def not_covered(names: Iterable[str], suite: str, renderer: str = "", assets: str = "") -> dict[str, str]:
    """Those of the tasks that cannot be run here, and why."""
    if find_assets(assets) is not None:
        return {}
    reason = (
        "needs the benchmark's own assets, since LIBERO's do not hold its textures, lights and added objects: "
        f"{cure(ASSETS, assets)}"
    )
    return {name: reason for name in names if variants.of_name(name).needs_archive}
