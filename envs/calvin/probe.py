"""Does the runtime work? `python -c "from envs.calvin.probe import probe; print(probe())"` inside it."""

from __future__ import annotations

from importlib.metadata import version

from envs.calvin.bullet import Bullet


def probe() -> str:
    """Open and close a world, and say in one line what was found. Raises where something fails."""
    world = Bullet()
    world.stepSimulation()
    world.close()
    return f"pybullet {version('pybullet')}, numpy {version('numpy')}"
