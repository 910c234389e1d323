"""Does the runtime work? `python -c "from envs.mikasa.probe import probe; print(probe())"` inside it."""

from __future__ import annotations

from importlib.metadata import version

from envs.maniskill.render import drawing_device
from envs.mikasa.upstream import surroundings


def probe() -> str:
    """Import everything, find a device to draw with, and say in one line what was found. Raises where something fails.

    It draws nothing: on a software renderer the first picture of a process takes 8 to 49 s (see envs.maniskill.driver).
    """
    folder = surroundings()
    import mikasa_robo_suite.rl.memory_envs  # noqa: F401 - all the tasks import

    device = drawing_device()
    mug = "present" if (folder / "data").is_dir() else f"missing in {folder} (shell game only)"
    versions = f"mikasa-robo-suite {version('mikasa-robo-suite')}, mani-skill {version('mani-skill')}"
    return f"{versions}, sapien {version('sapien')}, {device}; mug {mug}"
