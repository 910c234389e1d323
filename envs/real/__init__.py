"""Real robots: a station's arm and cameras behind the one interface, a person arranging scenes and grading trials.

This module is light: a station's drivers are imported by `make` and nowhere before.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from envs.real.grades import grades_of
from envs.runtime import Runtime
from envs.spec import EnvSpec

if TYPE_CHECKING:
    from envs.real.adapter import RealEnv

RUNTIME = Runtime()


def describe(station: str | None = None, tasks: Mapping[str, Any] | None = None, **options: Any) -> EnvSpec:
    """What the station offers, without connecting to it.

    station: its module; tasks: name -> {instruction, grades}; options: the station's own. Raises ValueError for a
    station that is not named, cannot be imported or has no control rate, and for grades that do not hold together.
    """
    for name, task in (tasks or {}).items():
        try:
            grades_of((task or {}).get("grades"))
        except (ValueError, TypeError) as error:
            raise ValueError(f"task {name}: {error}") from error
    spec: EnvSpec = _station(station).describe(**options)
    if spec.action.hz is None:
        raise ValueError(f"station {station} must say its control rate: ActionSpec.hz in describe()")
    simulated = getattr(_station(station), "SIMULATED", False)
    return replace(spec, benchmark="real", privileged=spec.privileged and simulated)


def make(station: str | None = None, tasks: Mapping[str, Any] | None = None, **options: Any) -> RealEnv:
    """Connect to the station; options as for `describe`."""
    from envs.real.adapter import RealEnv

    spec = describe(station, tasks, **options)
    return RealEnv(spec, _station(station).connect(**options), dict(tasks or {}))


def _station(name: str | None) -> ModuleType:
    if not name:
        raise ValueError(
            "no robot is named: memvla robot ... station=MODULE, where MODULE has describe() and connect() "
            "(envs.real.simulated is one without hardware)"
        )
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"cannot import the station {name!r}: {error}; is its folder on PYTHONPATH?") from error
    missing = [part for part in ("describe", "connect") if not hasattr(module, part)]
    if missing:
        raise ValueError(f"station {name!r} has no {' and no '.join(missing)}(); see envs/real/station.py")
    return module
