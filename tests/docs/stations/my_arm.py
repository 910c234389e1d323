"""The arm that docs/robots.md speaks of: the lab's hand in one of its scenes stands in for it."""

from __future__ import annotations

from dataclasses import replace

from envs.real import simulated
from envs.real.station import Station
from envs.spec import EnvSpec


def describe(ip: str = "") -> EnvSpec:
    return simulated.describe()


def connect(ip: str = "") -> Station:
    """Without its oracle: what is left knows no more than a real one."""
    station = simulated.connect()
    assert station.oracle is not None
    station.oracle.load("press_by_colour", 0, 0)
    return replace(station, oracle=None)
