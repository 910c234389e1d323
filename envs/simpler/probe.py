"""Do the runtimes work? `python -c "from envs.simpler.probe import maniskill3; print(maniskill3())"` inside one."""

from __future__ import annotations

from importlib.metadata import version

from envs.assets import missing, place
from envs.simpler.assets import BRIDGE, MODELS, SOURCES


def maniskill3() -> str:
    """Import everything, find a device to draw with, and say in one line what was found. Raises where something fails.

    It draws nothing: on a software renderer the first picture of a process takes 8 to 49 s (see envs.maniskill.driver).
    """
    from envs.maniskill.render import drawing_device, surroundings

    surroundings(place(BRIDGE))
    import mani_skill.envs.tasks.digital_twins.bridge_dataset_eval  # noqa: F401

    return f"mani-skill {version('mani-skill')}, sapien {version('sapien')}, {drawing_device()}"


def original() -> str:
    """The same of the original; of its sources, where they are there: they come after the packages. Raises where
    something fails."""
    from envs.simpler.original import surroundings

    sources = place(SOURCES)
    surroundings(sources, place(MODELS))
    import sapien.core as sapien

    engine, renderer = sapien.Engine(), sapien.SapienRenderer()
    engine.set_renderer(renderer)
    engine.create_scene().add_camera("probe", 8, 8, 1.0, 0.1, 10.0)
    drawing = f"sapien {version('sapien')}, numpy {version('numpy')}, it can draw"
    if missing(SOURCES, sources):
        return f"{drawing}; the simulator's sources are yet to come"
    import mani_skill2_real2sim.envs  # noqa: F401 - all the tasks import

    return f"SimplerEnv on {drawing}"
