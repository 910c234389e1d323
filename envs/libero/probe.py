"""Does the runtime work? `python -c "from envs.libero.probe import probe; print(probe())"` inside it."""

from __future__ import annotations

from envs.libero.renderer import choose_renderer
from envs.libero.upstream import libero, mujoco


def probe() -> str:
    """Import everything, open an OpenGL context, and say in one line what was found. Raises where something fails."""
    platform = choose_renderer()
    libero()
    import robosuite
    from OpenGL import GL  # type: ignore[import-untyped]

    try:
        context = mujoco.GLContext(64, 64)
    except Exception as error:
        raise RuntimeError(
            f"no {platform} context to draw with: {type(error).__name__}: {error}; without a graphics driver the "
            f"Debian package libgl1-mesa-dri must be there (or ask for the other renderer with MUJOCO_GL)"
        ) from error
    context.make_current()
    try:
        drawer = GL.glGetString(GL.GL_RENDERER).decode()
    finally:
        context.free()
    return f"mujoco {mujoco.__version__}, robosuite {robosuite.__version__}, {platform}: {drawer}"
