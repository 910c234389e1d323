"""Does the runtime work? `python -c "from envs.calvin_upstream.probe import probe; print(probe())"` inside it."""

from __future__ import annotations

import cv2  # noqa: F401 - what the original imports
import git  # noqa: F401
import hydra  # noqa: F401
import quaternion  # noqa: F401

from envs.calvin.probe import probe as calvin_probe
from envs.calvin_upstream.source import SourceMissing, find_source


def probe() -> str:
    """Say in one line what was found, the original's code too. Raises where a package is missing."""
    try:
        source = f"calvin_env in {find_source()}"
    except SourceMissing as error:
        source = str(error)
    return f"{calvin_probe()}; {source}"
