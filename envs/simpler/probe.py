"""Does the runtime work? `python -c "from envs.simpler.probe import maniskill3; print(maniskill3())"` inside it."""

from __future__ import annotations

from importlib.metadata import version

from envs.simpler.assets import VARIABLE, AssetsMissing, maniskill3_files, maniskill3_folder, stand_ins
from envs.simpler.tasks import TASKS


def maniskill3() -> str:
    """Import everything, find a device to draw with, and say in one line what was found. Raises where something fails.

    It draws nothing: on a software renderer the first picture of a process takes 8 to 49 s (see envs.maniskill.driver).
    """
    from envs.maniskill.render import drawing_device, surroundings

    folder = maniskill3_folder()
    surroundings(folder)
    import mani_skill.envs.tasks.digital_twins.bridge_dataset_eval  # type: ignore[import-not-found]  # noqa: F401

    return f"mani-skill {version('mani-skill')}, sapien {version('sapien')}, {drawing_device()}; {_models()}"


def _models() -> str:
    folder = maniskill3_folder()
    try:
        marks = set().union(*(stand_ins(maniskill3_files(folder, task)) for task in TASKS.values()))
    except AssetsMissing:
        return f"models missing in {folder} (name another folder with {VARIABLE})"
    return f"models present, stand-ins among them: {', '.join(sorted(marks)) or 'none'}"
