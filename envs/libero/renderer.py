"""The choice of an OpenGL platform, which has to be made before mujoco is imported. Imports no simulator."""

from __future__ import annotations

import os
import sys


def choose_renderer(renderer: str = "") -> str:
    """Fix the OpenGL platform of this process: `egl` or `osmesa` ("": the variable MUJOCO_GL, else egl).

    Raises RuntimeError when mujoco was already imported under another one: it cannot be changed any more.
    """
    wanted = renderer or os.environ.get("MUJOCO_GL", "") or "egl"
    if wanted not in ("egl", "osmesa"):
        raise ValueError(f"MUJOCO_GL is {wanted!r}; LIBERO draws with egl or osmesa")
    if "mujoco" in sys.modules and os.environ.get("MUJOCO_GL", "") != wanted:
        had = os.environ.get("MUJOCO_GL") or "unset"
        raise RuntimeError(
            f"renderer {wanted} was asked for after mujoco was imported with MUJOCO_GL {had}; "
            f"set MUJOCO_GL={wanted} and PYOPENGL_PLATFORM={wanted} before the process starts"
        )
    os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = wanted
    return wanted
