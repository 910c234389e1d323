"""The privileged state of LIBERO as the expert reads it (the keys are described in envs/libero/privileged.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float64]

UP: Array = np.array([0.0, 0.0, 1.0])
TABLE = 0.3
"""A box with a half size beyond this is table or floor: stood on, never an obstacle, metres."""


@dataclass(frozen=True)
class Pose:
    """position [3], rotation [3, 3]."""

    position: Array
    rotation: Array


@dataclass(frozen=True)
class Goal:
    """One part of the goal: `on`, `in`, `open`, `close`, `turnon`, `turnoff` of names; whether it holds now."""

    predicate: str
    names: tuple[str, ...]
    holds: bool


@dataclass(frozen=True)
class Joint:
    """A hinge or slide: position, world axis [3] and anchor [3], body moved, limits."""

    slides: bool
    position: float
    axis: Array
    anchor: Array
    body: int
    low: float
    high: float


class Scene:
    """One moment. Everything in metres and radians, world frame."""

    def __init__(self, seen: Mapping[str, npt.NDArray[Any]]) -> None:
        self._seen = seen
        hand = np.asarray(seen["gripper"], dtype=np.float64)
        self.hand = Pose(hand[:3], hand[3:12].reshape(3, 3))
        self.opening = float(hand[12] - hand[13])
        self.base: Array = np.asarray(seen["base"], dtype=np.float64)
        self.elbow = float(seen["joints"][3])
        self.boxes: Array = np.asarray(seen["boxes"], dtype=np.float64)

    # ------------------------------------------------------------------ things

    @cached_property
    def goals(self) -> list[Goal]:
        found = []
        for key, value in self._seen.items():
            if key.startswith("goal/"):
                _, _, predicate, *names = key.split("/")
                found.append(Goal(predicate, tuple(names), bool(value[0])))
        return found

    def holds(self, *names: str) -> bool:
        """Whether a part of the goal about exactly these names holds."""
        return any(goal.holds for goal in self.goals if goal.names == names)

    def is_object(self, name: str) -> bool:
        return f"object/{name}" in self._seen

    def pose(self, name: str) -> Pose:
        """Of an object, a fixture or a region."""
        for kind in ("object", "fixture"):
            if f"{kind}/{name}" in self._seen:
                row = self._seen[f"{kind}/{name}"]
                return Pose(row[1:4], Rotation.from_quat(row[[5, 6, 7, 4]]).as_matrix())
        row = self._seen[f"region/{name}"]
        return Pose(row[:3], row[3:12].reshape(3, 3))

    def region_size(self, name: str) -> Array:
        """Half sizes of a region along the world's axes, as the benchmark's rules read them, [3]."""
        row = self._seen[f"region/{name}"]
        return np.asarray(np.abs(row[3:12].reshape(3, 3) @ row[12:15]))

    def bodies(self, name: str) -> list[int]:
        """The bodies of an object or fixture."""
        return [int(body) for body in self._seen[f"bodies/{name}"]]

    def owner(self, place: str) -> str:
        """The object or fixture a region is part of ("" for the table)."""
        names = [key.split("/")[1] for key in self._seen if key.startswith("bodies/")]
        return max((name for name in names if place.startswith(name)), key=len, default="")

    def fixtures(self) -> list[str]:
        return [key.split("/")[1] for key in self._seen if key.startswith("fixture/")]

    def is_flat(self, name: str) -> bool:
        """Whether an object is too flat and wide to be taken between the fingers (a plate)."""
        size = np.ptp(self.points(self.bodies(name)), axis=0)
        return bool(size[2] < 0.04 and size[:2].min() > 0.1)

    def drawer(self, place: str) -> Joint | None:
        """The drawer a region is the inside of, if any."""
        owner = self.owner(place)
        if not owner or not any(key.startswith(f"joint/{owner}") for key in self._seen):
            return None
        if not any(word in place for word in ("top_region", "middle_region", "bottom_region")):
            return None
        joint = self.joint(place)
        return joint if joint.slides else None

    def joint(self, name: str) -> Joint:
        """The joint of a part (`stove_1`, `cabinet_1_top_region`): of the part that carries the region's name."""
        owner = self.owner(name)
        word = name.removeprefix(owner).removesuffix("_region").strip("_")
        keys = [key for key in self._seen if key.startswith(f"joint/{owner}")]
        key = next((key for key in keys if word and word in key.removeprefix(f"joint/{owner}")), keys[0])
        row, limits = self._seen[key], self._seen[key.replace("joint/", "range/")]
        return Joint(row[0] == 2, float(row[1]), row[2:5], row[5:8], int(row[8]), float(limits[0]), float(limits[1]))

    # ------------------------------------------------------------------ shapes

    def points(self, bodies: Iterable[int], spacing: float = 0.005) -> Array:
        """Points that fill the boxes of these bodies, [n, 3]."""
        chosen = self.boxes[np.isin(self.boxes[:, 0], list(bodies))]
        return np.concatenate([_fill(box, spacing) for box in chosen]) if len(chosen) else np.zeros((0, 3))

    def obstacles(self, around: Array, reach: float, besides: Iterable[int], spacing: float = 0.007) -> Array:
        """Points of everything else (no table, no floor) within `reach` of a place in the plane, [n, 3]."""
        boxes = self.boxes[~np.isin(self.boxes[:, 0], list(besides))]
        boxes = boxes[boxes[:, 13:].max(axis=1) < TABLE]
        radius = np.linalg.norm(boxes[:, 13:], axis=1)
        boxes = boxes[np.linalg.norm(boxes[:, 1:3] - around[:2], axis=1) < reach + radius]
        if not len(boxes):
            return np.zeros((0, 3))
        points = np.concatenate([_fill(box, spacing) for box in boxes])
        return np.asarray(points[np.linalg.norm(points[:, :2] - around[:2], axis=1) < reach])

    def table(self, at: Array) -> float:
        """Height of the table under a place, or 0 (the floor)."""
        boxes = self.boxes[self.boxes[:, 13:].max(axis=1) >= TABLE]
        spread = _spread(boxes)
        under = (np.abs(boxes[:, 1:3] - at[:2]) < spread[:, :2]).all(axis=1)
        return float((boxes[under, 3] + spread[under, 2]).max(initial=0.0))

    def highest_between(self, start: Array, end: Array, besides: Iterable[int], margin: float) -> float:
        """Height of the highest obstacle within `margin` of the line from start to end, seen from above."""
        boxes = self.boxes[~np.isin(self.boxes[:, 0], list(besides))]
        boxes = boxes[boxes[:, 13:].max(axis=1) < TABLE]
        spread = _spread(boxes)
        line = end[:2] - start[:2]
        along = np.clip((boxes[:, 1:3] - start[:2]) @ line / max(float(line @ line), 1e-9), 0, 1)
        apart = np.abs(start[:2] + along[:, None] * line - boxes[:, 1:3]) - spread[:, :2]
        near = np.linalg.norm(np.maximum(apart, 0), axis=1) < margin
        return float((boxes[near, 3] + spread[near, 2]).max(initial=self.table(end)))


def _spread(boxes: Array) -> Array:
    """Half sizes of boxes along the world's axes, [n, 3]."""
    return np.asarray(np.einsum("nij,nj->ni", np.abs(boxes[:, 4:13].reshape(-1, 3, 3)), boxes[:, 13:]))


def _fill(box: Array, spacing: float) -> Array:
    half = box[13:]
    axes = [np.linspace(-h, h, int(np.ceil(2 * h / spacing)) + 1) for h in half]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(grid @ box[4:13].reshape(3, 3).T + box[1:4])
