"""The only place that imports the benchmark: its surroundings are set first, since they are read at import."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import envs.maniskill.render as maniskill
from envs.assets import place
from envs.mikasa.assets import ASSETS, BULB

CONTROL = "pd_ee_delta_pose"


def surroundings(assets: str = "") -> Path:
    """Name driver and asset folder to the libraries that read them at import; returns the folder. Raises ValueError as
    `envs.maniskill.render.surroundings`."""
    folder = place(ASSETS, assets)
    maniskill.surroundings(folder)
    return folder


def build(env_id: str, size: int, renderer: str) -> Any:
    """The bare environment of upstream, seeded by nobody yet, that draws nothing of its own accord.

    Reward stays on, as upstream runs it: in some tasks the reward's code has a part in the success rule.
    """
    logging.getLogger("mani_skill").setLevel(logging.ERROR)
    import gymnasium
    import mikasa_robo_suite.rl.memory_envs
    import mikasa_robo_suite.vla.memory_envs  # noqa: F401
    import torch
    from mikasa_robo_suite.vla.utils import shapes

    # Upstream looks for the bulb beside this file, where the package leaves it out.
    shapes.__file__ = str(place(ASSETS, os.environ["MS_ASSET_DIR"]) / Path(BULB.into).parent / "shapes.py")
    maniskill.kept_renderer(renderer)
    maniskill.spare_the_collector()
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
