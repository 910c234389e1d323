"""Does the runtime work? `python -c "from envs.calvin_upstream.probe import probe; print(probe())"` inside it."""

from __future__ import annotations

from importlib import import_module

from envs.calvin.probe import probe as calvin_probe
from envs.calvin_upstream.source import SourceMissing, find_source


def probe() -> str:
    """Say in one line what was found, the original's code too. Raises where a package is missing."""
    for name in ("cv2", "git", "hydra", "quaternion"):  # what the original imports
        import_module(name)
    try:
        source = f"calvin_env in {find_source()}"
    except SourceMissing as error:
        source = str(error)
    return f"{calvin_probe()}; {source}"
