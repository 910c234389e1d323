"""Where the original's code lies, and how its environment is built from it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envs.calvin_upstream import VARIABLE

MODULE = Path("calvin_env") / "envs" / "play_table_env.py"
CONFIG = Path("conf") / "robot" / "panda_longer_finger.yaml"


class SourceMissing(RuntimeError):
    """The original's code is not there. The message names where it was looked for, and the cure."""


def find_source(folder: str = "") -> Path:
    """The checkout: `folder`, else the one MEMVLA_CALVIN_ENV names, else that of the installed package.

    Raises SourceMissing where it does not hold the package and its `conf`.
    """
    named = folder or os.environ.get(VARIABLE)
    if named:
        chosen = Path(named).expanduser().resolve()
    else:
        spec = importlib.util.find_spec("calvin_env")
        if spec is None or spec.origin is None:
            raise SourceMissing(
                "calvin_env is neither installed here nor named: clone the repository mees/calvin_env and say "
                f"{VARIABLE}=FOLDER"
            )
        chosen = Path(spec.origin).resolve().parents[1]
    for part in (MODULE, CONFIG):
        if not (chosen / part).is_file():
            raise SourceMissing(
                f"{chosen} is no checkout of mees/calvin_env: {part} is missing; name one with {VARIABLE}=FOLDER"
            )
    return chosen


def build(source: Path, assets: Path, scene: str) -> Any:
    """The original's PlayTableSimEnv for scene A to D, without cameras or window, from its own configuration files."""
    if str(source) not in sys.path:
        sys.path.insert(0, str(source))
    from omegaconf import OmegaConf

    with _gym_stood_in_for(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hydra's word on the age of a command that is not run
        table = importlib.import_module("calvin_env.envs.play_table_env")
    found = Path(str(table.__file__)).resolve().parents[2]
    if found != source:
        raise SourceMissing(f"calvin_env was imported from {found}, not from {source}; one process knows one of them")
    table.get_git_commit_hash = lambda _: "not asked for"  # type: ignore[attr-defined] # it raises outside a git checkout
    robot = OmegaConf.merge(*(_part(source, f"robot/{name}") for name in ("panda", "panda_longer_finger")))
    parts = {"data_path": str(assets), "robot": robot, "scene": _part(source, f"scene/calvin_scene_{scene}")}
    config = OmegaConf.create(parts)
    OmegaConf.resolve(config)
    rules = _part(source, "env/play_table_env")
    return table.PlayTableSimEnv(
        robot_cfg=config.robot,
        scene_cfg=config.scene,
        seed=rules.seed,
        bullet_time_step=rules.bullet_time_step,
        control_freq=rules.control_freq,
        cameras={},
        use_vr=False,
        show_gui=False,
        use_scene_info=True,
        use_egl=False,
    )


def _part(source: Path, name: str) -> Any:
    from omegaconf import OmegaConf

    found: Any = OmegaConf.load(source / "conf" / f"{name}.yaml")
    found.pop("defaults", None)
    return found


@contextmanager
def _gym_stood_in_for() -> Iterator[None]:
    """The original asks gym for a base class and for its seeding, which Gymnasium has alike."""
    import gymnasium

    names = {"gym": gymnasium, "gym.utils": gymnasium.utils, "gym.utils.seeding": gymnasium.utils.seeding}
    kept = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, module in kept.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
