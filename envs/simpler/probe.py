"""Do the runtimes work? `python -c "from envs.simpler.probe import maniskill3; print(maniskill3())"` inside one."""

from __future__ import annotations

from importlib.metadata import version

from envs.assets import AssetsMissing
from envs.simpler.assets import VARIABLE, maniskill3_files, maniskill3_folder, stand_ins
from envs.simpler.bridge import TASKS


def maniskill3() -> str:
    """Import everything, find a device to draw with, and say in one line what was found. Raises where something fails.

    It draws nothing: on a software renderer the first picture of a process takes 8 to 49 s (see envs.maniskill.driver).
    """
    from envs.maniskill.render import drawing_device, surroundings

    folder = maniskill3_folder()
    surroundings(folder)
    import mani_skill.envs.tasks.digital_twins.bridge_dataset_eval  # noqa: F401

    return f"mani-skill {version('mani-skill')}, sapien {version('sapien')}, {drawing_device()}; {_models()}"


def original() -> str:
    """The same of the original. Raises where something fails."""
    from envs.simpler.assets import original_folder
    from envs.simpler.original import surroundings

    folder = original_folder()
    surroundings(folder)
    import mani_skill2_real2sim.envs  # noqa: F401 - all the tasks import
    import sapien.core as sapien

    engine, renderer = sapien.Engine(), sapien.SapienRenderer()
    engine.set_renderer(renderer)
    engine.create_scene().add_camera("probe", 8, 8, 1.0, 0.1, 10.0)
    present = "present" if (folder / "custom").is_dir() else f"missing in {folder} (name another with {VARIABLE})"
    return f"SimplerEnv on sapien {version('sapien')}, numpy {version('numpy')}, it can draw; models {present}"


def _models() -> str:
    folder = maniskill3_folder()
    try:
        marks = set().union(*(stand_ins(maniskill3_files(folder, task)) for task in TASKS.values()))
    except AssetsMissing:
        return f"models missing in {folder} (name another folder with {VARIABLE})"
    return f"models present, stand-ins among them: {', '.join(sorted(marks)) or 'none'}"
