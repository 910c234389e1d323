"""Which frames of an episode are kept: without no-ops, or as the papers filter recordings of real robots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation as Turn

from envs.frames import MOVED, TURNED, WAIT, FrameFilter, tells_pose, turn_of
from envs.spec import Floats, Rotation
from policies.training.demos import DemoError
from policies.training.episodes import Episode

Numbers = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

NOOP = 1e-4
"""Norm of a motion that counts as none (OpenVLA's rule for the `no_noops` datasets)."""


class NothingLeft(DemoError):
    """A filter took every frame of an episode."""


def moving(actions: Numbers, *, threshold: float = NOOP) -> Mask:
    """Which steps do something, bool [T]: a motion (all but the last number) of at least `threshold`, or a gripper
    other than at the last step kept. At the first step the gripper does not count."""
    keep = np.linalg.norm(actions[:, :-1], axis=1) >= threshold
    before: float | None = None
    for t, grip in enumerate(actions[:, -1]):
        keep[t] = keep[t] or (before is not None and grip != before)
        if keep[t]:
            before = float(grip)
    return np.asarray(keep, dtype=bool)


def changed_places(
    positions: Numbers, turns: Turn, *, moved: float = MOVED, turned: float = TURNED, wait: int = WAIT
) -> Mask:
    """Which frames the real-robot filter keeps, bool [T]: the first one, and each in which the tip (positions [T, 3],
    metres) moved over `moved` or turned (T rotations) over `turned` radians since the last kept one, or that comes
    `wait` frames after it."""
    rule = FrameFilter(moved=moved, turned=turned, wait=wait)
    return np.array([rule.keeps(place, turn) for place, turn in zip(positions, turns, strict=True)], dtype=bool)


def filtered(episode: Episode, *, noops: bool = False, still: bool = False) -> Episode:
    """The episode without no-ops, and through the real-robot filter, as asked. Raises DemoError when no step is left,
    or when its state does not tell where the tip is."""
    if noops:
        if episode.actions is None:
            raise DemoError(f"{episode}: no-ops are told by labels, and it has none")
        keep = moving(episode.actions)
        if not keep.any():
            raise NothingLeft(f"{episode}: every step is a no-op")
        episode = episode.select(keep)
    return _still_filtered(episode) if still else episode


def _still_filtered(episode: Episode) -> Episode:
    """Kept frames only, each labelled with the measured way to the next kept one (the last is dropped).

    A way may exceed what one control step can do, so the action's limit and frequency are taken away.
    """
    positions, turns = _poses(episode)
    kept = np.flatnonzero(changed_places(positions, turns))
    if len(kept) < 2:
        raise NothingLeft(f"{episode}: the real-robot filter leaves {len(kept)} frame; it never moved")
    spec, short = episode.action, episode.select(kept[:-1])
    if spec.absolute or spec.frame == "tool" or spec.rotation not in (Rotation.EULER_XYZ, Rotation.AXIS_ANGLE):
        raise DemoError(f"{episode}: the real-robot filter needs changes of pose in a fixed frame, its actions: {spec}")
    way = (positions[kept[1:]] - positions[kept[:-1]]) / spec.translation_unit
    turn = turns[kept[1:]] * turns[kept[:-1]].inv()
    angles = turn.as_euler("xyz") if spec.rotation is Rotation.EULER_XYZ else turn.as_rotvec()
    grip = short.executed[:, -1:]
    actions: Floats = np.concatenate([way, angles / spec.rotation_unit, grip], axis=1).astype(np.float32)
    return replace(
        short,
        actions=None if short.actions is None else actions,
        executed=actions,
        action=replace(spec, limit=None, hz=None),
    )


def _poses(episode: Episode) -> tuple[Numbers, Turn]:
    names = episode.state_names
    if episode.state is None or not tells_pose(names):
        raise DemoError(
            f"{episode}: the real-robot filter needs a state that begins with the tip's x, y, z and its angles; it has "
            f"{', '.join(names) or 'none'}"
        )
    state = episode.state.astype(np.float64)
    return state[:, :3], turn_of(names, state)
