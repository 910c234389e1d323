"""The only place that imports the benchmark: its surroundings are set first, since they are read at import."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from envs.assets import place
from envs.mikasa.assets import ASSETS, BULB
from envs.mikasa.driver import use_driver

CONTROL = "pd_ee_delta_pose"


def surroundings(assets: str = "") -> Path:
    """Name driver and asset folder to the libraries that read them at import; returns the folder.

    Raises ValueError where ManiSkill was imported with another folder before: it reads it only once a process.
    """
    import sys

    folder = place(ASSETS, assets)
    use_driver()
    named = os.environ.get("MS_ASSET_DIR")
    if "mani_skill" in sys.modules and named != str(folder):
        raise ValueError(f"this process reads its assets from {named}, not from {folder}: start another process")
    os.environ["MS_ASSET_DIR"] = str(folder)
    os.environ["MS_SKIP_ASSET_DOWNLOAD_PROMPT"] = "1"
    return folder


def choose_renderer(asked: str) -> str:
    """`cpu` or `gpu`: what was asked for, else the GPU where SAPIEN finds a CUDA device. Raises RuntimeError where the
    one that was asked for is not there."""
    import sapien  # type: ignore[import-not-found]

    try:
        sapien.Device("cuda")
    except RuntimeError as error:
        if asked == "gpu":
            raise RuntimeError(f"renderer=gpu was asked for, but SAPIEN finds no CUDA device: {error}") from error
        return "cpu"
    return asked or "gpu"


@lru_cache(maxsize=2)
def kept_renderer(renderer: str) -> Any:
    """SAPIEN's renderer, kept for the life of the process: it goes with the last scene that uses it, and the next one
    would pay the slow first picture once more."""
    import sapien

    return sapien.render.RenderSystem(sapien.Device("cuda" if renderer == "gpu" else "cpu"))


def build(env_id: str, size: int, renderer: str) -> Any:
    """The bare environment of upstream, seeded by nobody yet, that draws nothing of its own accord.

    Reward stays on, as upstream runs it: in some tasks the reward's code has a part in the success rule.
    """
    logging.getLogger("mani_skill").setLevel(logging.ERROR)
    import gymnasium
    import mikasa_robo_suite.rl.memory_envs  # type: ignore[import-not-found]
    import mikasa_robo_suite.vla.memory_envs  # type: ignore[import-not-found]  # noqa: F401
    import torch
    from mikasa_robo_suite.vla.utils import shapes  # type: ignore[import-not-found]

    # Upstream looks for the bulb beside this file, where the package leaves it out.
    shapes.__file__ = str(place(ASSETS, os.environ["MS_ASSET_DIR"]) / Path(BULB.into).parent / "shapes.py")
    kept_renderer(renderer)
    torch.set_num_threads(1)  # tiny tensors: more threads only get in the way of other workers
    made = gymnasium.make(
        env_id,
        obs_mode="none",
        reward_mode="normalized_dense",
        control_mode=CONTROL,
        num_envs=1,
        sim_backend="cpu",
        render_backend=renderer,
        sensor_configs={"width": size, "height": size},
    )
    return made.unwrapped
