"""Recipes: YAML files that say what is trained on what and how, and the command line's changes to them.

title: LIBERO-Spatial, MemoryVLA
policy:                      # one section a stage; `stage=policy` chooses it
  target: policies.training.policy_stage:policy_stage
  train: {updates: 20000}    # the loop's options, see policies.training.options.TrainOptions
  batch: 256                 # all others are options of the target
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from policies.training.options import TrainingError, TrainOptions, train_options
from policies.training.stage import Stage
from policies.vla.config import to_data, unknown

ABOUT = ("title",)


@dataclass(frozen=True)
class Recipe:
    """A composed training: which stage (`target`, `module:callable`) with which options, and how it is trained."""

    name: str
    stage: str
    target: str
    options: dict[str, Any]
    train: TrainOptions

    def config(self) -> dict[str, Any]:
        """All of it as plain data, to be kept beside the training and compared at a resume."""
        return {
            "recipe": self.name,
            "stage": self.stage,
            "target": self.target,
            "seed": self.options.get("seed", 0),
            "options": self.options,
            "train": to_data(self.train),
        }

    def make(self) -> Stage:
        """Build the stage. Raises PolicyError for an option that is wrong or missing."""
        return cast(Stage, _callable(self.target)(**self.options))


def recipe_files() -> dict[str, Path]:
    """Recipe name -> file: our own, then those in the folders of MEMVLA_RECIPES."""
    extra = os.environ.get("MEMVLA_RECIPES", "")
    folders = [Path(__file__).parent / "recipes", *(Path(p) for p in extra.split(os.pathsep) if p)]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def read_recipe(name: str) -> dict[str, Any]:
    """A recipe's sections. name: of a recipe, or a path to a YAML file. Raises TrainingError."""
    files = recipe_files()
    path = Path(name) if name.endswith((".yaml", ".yml")) else files.get(name)
    if path is None:
        raise TrainingError(unknown("recipe", name, list(files)))
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise TrainingError(f"recipe {path} cannot be read: {error}") from error
    if not isinstance(data, dict) or not stages_of(data):
        raise TrainingError(f"recipe {path} has no stage: it needs a section with `target: module:callable`")
    for stage in stages_of(data):
        if not isinstance(data[stage], dict) or ":" not in str(data[stage].get("target", "")):
            raise TrainingError(f"recipe {path}: section {stage!r} needs `target: module:callable`")
    return data


def stages_of(data: Mapping[str, Any]) -> list[str]:
    """Names of a recipe's stages."""
    return [name for name in data if name not in ABOUT]


def compose(words: Sequence[str]) -> Recipe:
    """From the words of a command: `recipe=NAME stage=NAME train.KEY=VALUE OPTION=VALUE`. Raises TrainingError."""
    changes = dict(_parse(word) for word in words)
    name = changes.pop("recipe", None)
    if not isinstance(name, str):
        raise TrainingError(f"name a recipe: recipe=NAME; there are: {', '.join(recipe_files())}")
    data = read_recipe(name)
    stage = changes.pop("stage", None) or _only(stages_of(data), name)
    if stage not in stages_of(data):
        raise TrainingError(f"recipe {name}: {unknown('stage', str(stage), stages_of(data))}")
    section = dict(data[stage])
    target = str(section.pop("target"))
    for key, value in changes.items():
        _set(section, key.split("."), value, key)
    train = train_options(section.pop("train", None) or {})
    if not train.dir:
        raise TrainingError("say where the training is kept: train.dir=DIR; an existing one is resumed")
    _check_options(target, section)
    return Recipe(Path(name).stem, stage, target, section, train)


def _only(stages: list[str], name: str) -> str:
    if len(stages) == 1:
        return stages[0]
    raise TrainingError(f"recipe {name} has several stages: choose with stage={' or stage='.join(stages)}")


def _parse(word: str) -> tuple[str, Any]:
    try:
        override: Override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        hint = "; what has a = in it is quoted, key=['name=value']" if word.count("=") > 1 else ""
        why = str(error).splitlines()[0]
        raise TrainingError(f"{word!r} is not of the form key=value: {why}{hint}") from error
    if override.is_sweep_override() or override.is_delete():
        raise TrainingError(f"{word!r} is not of the form key=value; lists are written key=[a,b]")
    return override.key_or_group, override.value()


def _set(section: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    for depth, name in enumerate(path[:-1]):
        inner = section.get(name)
        if inner is not None and not isinstance(inner, dict):
            raise TrainingError(f"{key}: {'.'.join(path[: depth + 1])} is {inner!r}, it has no keys below it")
        section[name] = dict(inner or {})
        section = section[name]
    section[path[-1]] = value


def _check_options(target: str, options: Mapping[str, Any]) -> None:
    """Raise TrainingError for an option that the target does not know, or one it needs and was not given."""
    parameters = inspect.signature(_callable(target)).parameters.values()
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        known = [p.name for p in parameters]
        for name in options:
            if name not in known:
                raise TrainingError(unknown("option", name, [*known, "train", "recipe", "stage"]))
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    missing = [p.name for p in parameters if p.default is p.empty and p.kind in kinds and p.name not in options]
    if missing:
        raise TrainingError(f"this stage also needs {', '.join(f'{name}=...' for name in missing)}")


def _callable(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise TrainingError(f"target {target!r}: there is no module {error.name}") from error
        raise TrainingError(f"{target} needs {error.name}: pip install 'memvla-bench[models,train]'") from error
    except AttributeError as error:
        raise TrainingError(f"target {target!r}: {module} has no {name}") from error
