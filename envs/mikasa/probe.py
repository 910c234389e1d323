"""Does the runtime work? `python -c "from envs.mikasa.probe import probe; print(probe())"` inside it."""

from __future__ import annotations

from importlib.metadata import version

from envs.mikasa.upstream import choose_renderer, surroundings


def probe() -> str:
    """Import everything, find a device to draw with, and say in one line what was found. Raises where something fails.

    It draws nothing: on a software renderer the first picture of a process takes 8 to 49 s (see envs.mikasa.driver).
    """
    folder = surroundings()
    import mikasa_robo_suite.rl.memory_envs  # type: ignore[import-not-found]  # noqa: F401 - all the tasks import
    import sapien.render  # type: ignore[import-not-found]

    try:
        summary = sapien.render.get_device_summary()
    except RuntimeError as error:
        raise RuntimeError(
            f"SAPIEN cannot draw: {error}; it needs a GPU's Vulkan driver or Mesa 23 or later (Debian 12 ships 22.3): "
            "build the runtime again with memvla setup mikasa_memoryvla, which brings a newer one"
        ) from error
    device = next(
        (line.split(":", 1)[1].strip() for line in summary.splitlines() if line.startswith("GPU:")), "unknown"
    )
    renderer = choose_renderer("")
    slow = "; the first picture of a process is slow on it" if renderer == "cpu" else ""
    mug = "present" if (folder / "data").is_dir() else f"missing in {folder} (shell game only)"
    versions = f"mikasa-robo-suite {version('mikasa-robo-suite')}, mani-skill {version('mani-skill')}"
    return f"{versions}, sapien {version('sapien')}, {renderer}: {device}{slow}; mug {mug}"
