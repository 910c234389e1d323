"""Experts of the tasks in which something was shown and is gone. A fresh one, which has seen nothing, takes whatever is
nearest to the tool: chance, and as good as any other guess."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Seen = Mapping[str, npt.NDArray[Any]]
Action = npt.NDArray[np.float64]

UNIT = 0.1
"""Metres that 1.0 of an action stands for."""


def towards(seen: Seen, target: npt.ArrayLike, *, grip: float, pace: float = 1.0) -> Action:
    """One step of the tool towards a point (m, world), at most `pace` of the controller's full step."""
    away = (np.asarray(target, dtype=np.float64) - seen["tool"][:3]) / UNIT
    largest = float(np.abs(away).max())
    if largest > pace:
        away *= pace / largest
    return np.array([*away, 0.0, 0.0, 0.0, grip])


def stay(grip: float) -> Action:
    """Hold still."""
    return np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, grip])


def above(seen: Seen, place: npt.NDArray[Any], height: float, travel: float) -> npt.NDArray[np.float64]:
    """The next point on the way to `height` over a place: across at `travel` height first, then down."""
    off = float(np.hypot(*(seen["tool"][:2] - place[:2])))
    lift = height if off < 0.03 else max(travel, height)
    return np.array([place[0], place[1], place[2] + lift])


def nearest(seen: Seen, places: npt.NDArray[Any]) -> int:
    """Row of the place nearest to the tool, horizontally."""
    return int(np.argmin(np.hypot(*(places[:, :2] - seen["tool"][:2]).T)))


class RememberColor:
    """Keep the colour of the one cube that is shown alone; when all are there, reach the one of that colour."""

    HEIGHT = 0.03
    """Of the tool over the middle of the cube, m: it succeeds within 0.05, the cube's top is at 0.02."""

    def __init__(self) -> None:
        self._row: int | None = None

    def act(self, seen: Seen) -> Action:
        cubes = seen["cubes"]
        there = np.isfinite(cubes).all(axis=1)
        if there.sum() == 1:
            self._row = int(np.argmax(there))
        if not there.all():
            return stay(grip=-1.0)
        row = nearest(seen, cubes) if self._row is None else self._row
        return towards(seen, above(seen, cubes[row], self.HEIGHT, 0.1), grip=-1.0)


class ShellGame:
    """Keep where the ball lay; when the mugs are there, reach the one that stands over it."""

    HEIGHT = 0.06
    """Of the tool over the mug's origin, m: it succeeds within 0.08, the mug's top is at about 0.04."""

    def __init__(self) -> None:
        self._place: npt.NDArray[np.float64] | None = None

    def act(self, seen: Seen) -> Action:
        if np.isfinite(seen["ball"]).all():
            self._place = np.array(seen["ball"], dtype=np.float64)
        mugs = seen["mugs"]
        if not np.isfinite(mugs).all():
            return stay(grip=-1.0)
        if self._place is None:
            row = nearest(seen, mugs)
        else:
            row = int(np.argmin(np.hypot(*(mugs[:, :2] - self._place[:2]).T)))
        return towards(seen, above(seen, mugs[row], self.HEIGHT, 0.1), grip=-1.0)
