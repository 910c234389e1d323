"""CALVIN on its original simulator: a second back end, so that anyone can compare it with ours (`envs.calvin`).

The chains, the rules of the tasks, the cameras and the protocol are those of `envs.calvin`; what moves the world is the
code of mees/calvin_env, installed or from a checkout. It is not part of this package. Options of `describe` and `make`
as of `envs.calvin`, and

    source    folder of a checkout of mees/calvin_env ("": the variable MEMVLA_CALVIN_ENV, else the installed package)

The original depends on what ran before it; here its world is loaded anew at every reset, as in a fresh process.
"""

from __future__ import annotations

from pathlib import Path

from envs import calvin
from envs.assets import require
from envs.base import VLAEnv
from envs.calvin import SUBTASK_STEPS
from envs.calvin.assets import ASSETS
from envs.runtime import Runtime
from envs.spec import EnvSpec

VARIABLE = "MEMVLA_CALVIN_ENV"

RUNTIME = Runtime(
    name="calvin_upstream",
    requirements=Path(__file__).parent / "requirements.txt",
    env_vars={**calvin.RUNTIME.env_vars, VARIABLE: ""},  # named so that workers are told what the driver was
    assets=calvin.RUNTIME.assets,
    probe="from envs.calvin_upstream.probe import probe; print(probe())",
)


def describe(
    scene: str = "D",
    renderer: str = "tiny",
    actions: str = "relative",
    steps: int = SUBTASK_STEPS,
    assets: str = "",
    source: str = "",
) -> EnvSpec:
    """What it offers: the same as `envs.calvin`. Raises ValueError for an option value that does not exist."""
    return calvin.describe(scene=scene, renderer=renderer, actions=actions, steps=steps, assets=assets)


def make(
    scene: str = "D",
    renderer: str = "tiny",
    actions: str = "relative",
    steps: int = SUBTASK_STEPS,
    assets: str = "",
    source: str = "",
) -> VLAEnv:
    """The simulator. Raises ValueError as `describe`, AssetsMissing where the benchmark's files are not there,
    SourceMissing where the original's code is not, and ImportError outside the runtime (see `memvla setup`)."""
    env_spec = describe(scene=scene, renderer=renderer, actions=actions, steps=steps, assets=assets)
    from envs.calvin_upstream.adapter import CalvinUpstreamEnv
    from envs.calvin_upstream.source import find_source

    made = CalvinUpstreamEnv(env_spec, require(ASSETS, assets), scene=scene, renderer=renderer, subtask_steps=steps)
    made.source = find_source(source)
    return made
