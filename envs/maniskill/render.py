"""Which device SAPIEN 3 draws with, and the asset folder ManiSkill 3 reads. Imports a simulator only when needed."""

from __future__ import annotations

import gc
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from envs.maniskill.driver import use_driver


def surroundings(folder: Path) -> None:
    """Name driver and asset folder (the one that holds `data`) to the libraries that read them at import.

    Raises ValueError where ManiSkill was imported with another folder before: it reads it only once a process.
    """
    use_driver()
    named = os.environ.get("MS_ASSET_DIR")
    if "mani_skill" in sys.modules and named != str(folder):
        raise ValueError(f"this process reads its assets from {named}, not from {folder}: start another process")
    os.environ["MS_ASSET_DIR"] = str(folder)
    os.environ["MS_SKIP_ASSET_DOWNLOAD_PROMPT"] = "1"


def choose_renderer(asked: str) -> str:
    """`cpu` or `gpu`: what was asked for, else the GPU where SAPIEN finds a CUDA device. Raises RuntimeError where the
    one that was asked for is not there."""
    import sapien

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


@lru_cache(maxsize=1)
def spare_the_collector() -> None:
    """Set what the imports brought aside from garbage collection, once a process and before a scene is built.

    ManiSkill collects garbage at every reset (`BaseEnv._clear`), and that went through all objects of all libraries,
    which last as long as the process: 0.14 s of a reset of 0.18. Scenes are still collected.
    """
    gc.collect()
    gc.freeze()


def drawing_device() -> str:
    """The device that pictures are drawn with, in words. Raises RuntimeError naming the cure where there is none."""
    import sapien.render

    try:
        summary = sapien.render.get_device_summary()
    except RuntimeError as error:
        raise RuntimeError(
            f"SAPIEN cannot draw: {error}; it needs a GPU's Vulkan driver or Mesa 23 or later (Debian 12 ships 22.3): "
            "build the runtime again with memvla setup, which brings a newer one"
        ) from error
    device = next(
        (line.split(":", 1)[1].strip() for line in summary.splitlines() if line.startswith("GPU:")), "unknown"
    )
    renderer = choose_renderer("")
    slow = "; the first picture of a process is slow on it" if renderer == "cpu" else ""
    return f"{renderer}: {device}{slow}"
