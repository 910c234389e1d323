"""From demonstrations to batches: which frames of which episodes one update sees, and what is to be learnt from each.

A batch is made of pieces. A piece is some frames of one episode in order of time, the first with an empty memory. All
chance is keyed by (seed, update, piece), so that a batch is the same whatever ran before and however many processes
share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.signal import find_peaks

from envs.spec import Floats
from policies.training.demos import Demo, DemoError
from policies.vla.statistics import GRIPPER, ActionStatistics, normalise

Ints = npt.NDArray[np.int64]

DIP = 0.06
"""Metres the tip must rise on both sides of a lowest point for it to count as a place where the hand acted."""


@dataclass(frozen=True)
class Piece:
    """Frames of one episode. demo: its index; frames int64 [T], rising; times float64 [T]: what memory entries carry;
    seed: of everything that is drawn for it; quiet: so many of the first frames only fill the memory, and nothing is
    learnt from them."""

    demo: int
    frames: Ints
    times: npt.NDArray[np.float64]
    seed: tuple[int, ...]
    quiet: int = 0

    def generator(self) -> np.random.Generator:
        """The generator of this piece's noise."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class CallSampler:
    """Episodes from their start, at the frames in which a policy would be called: at every `every`-th step.

    The first call of a piece is at a random one of the first `every` steps; memory timesteps count calls. lengths:
    frames of each demonstration; groups: of each demonstration the name of its task, tasks being drawn evenly unless
    `weights` says otherwise; pieces: episodes an update; longest: most calls of a piece (longer episodes lose their
    end).
    """

    lengths: Sequence[int]
    groups: Sequence[str]
    every: int
    pieces: int
    longest: int
    seed: int
    weights: dict[str, float] | None = None

    def draw(self, update: int, rank: int, world: int) -> tuple[list[Piece], float]:
        """The pieces of process `rank` of `world`, and the number its summed losses are divided by."""
        return share(self.plan(update), rank, world)

    def plan(self, update: int) -> list[Piece]:
        """All pieces of one update."""
        names = sorted(set(self.groups))
        weights = np.array([(self.weights or {}).get(name, 1.0) for name in names])
        found = []
        for i in range(self.pieces):
            key = (self.seed, update, i)
            rng = np.random.default_rng(key)
            name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
            members = [k for k, group in enumerate(self.groups) if group == name]
            demo = members[int(rng.integers(len(members)))]
            first = int(rng.integers(min(self.every, self.lengths[demo])))
            frames = np.arange(first, self.lengths[demo], self.every)[: self.longest]
            found.append(Piece(demo, frames, np.arange(len(frames), dtype=np.float64), (*key, 1)))
        return found


@dataclass(frozen=True)
class FrameSampler:
    """Single frames: tasks drawn evenly (or by `weights`), then an episode, then a frame. `frames` an update; the rest
    as in `CallSampler`."""

    lengths: Sequence[int]
    groups: Sequence[str]
    frames: int
    seed: int
    weights: Mapping[str, float] | None = None

    def draw(self, update: int, rank: int, world: int) -> tuple[list[Piece], float]:
        """The pieces of process `rank` of `world`, and the number its summed losses are divided by."""
        return share(self.plan(update), rank, world)

    def plan(self, update: int) -> list[Piece]:
        """The frames of one update, a piece each."""
        rng = np.random.default_rng((self.seed, update))
        names, members, shares = self._tasks
        found = []
        for i in range(self.frames):
            here = members[int(rng.choice(len(names), p=shares))]
            demo = here[int(rng.integers(len(here)))]
            frame = int(rng.integers(self.lengths[demo]))
            found.append(Piece(demo, np.array([frame]), np.zeros(1), (self.seed, update, i, 1)))
        return found

    @cached_property
    def _tasks(self) -> tuple[list[str], list[list[int]], npt.NDArray[np.float64]]:
        """Names of the tasks, their demonstrations, and the share of each task."""
        names = sorted(set(self.groups))
        members = [[i for i, group in enumerate(self.groups) if group == name] for name in names]
        shares = np.array([(self.weights or {}).get(name, 1.0) for name in names])
        return names, members, shares / shares.sum()


def share(pieces: Sequence[Piece], rank: int, world: int) -> tuple[list[Piece], float]:
    """The pieces of process `rank` of `world`, and the number its summed losses are divided by, so that the mean over
    the processes is the mean over all frames. Raises DemoError where a process would have nothing to do."""
    mine = list(pieces[rank::world])
    if not mine:
        raise DemoError(f"{len(pieces)} pieces a batch cannot be shared by {world} processes; raise pieces")
    return mine, sum(len(piece.frames) for piece in pieces) / world


def chunk_at(actions: Floats, frame: int, length: int, still: Floats) -> Floats:
    """The `length` normalised actions [length, A] from `frame` on; past the end the normalised zero motion `still`
    [A] with the last gripper command."""
    found = actions[frame : frame + length]
    if len(found) == length:
        return found
    rest = np.repeat(still[None], length - len(found), axis=0)
    rest[:, GRIPPER] = actions[-1, GRIPPER]
    return np.concatenate([found, rest])


def normalised(demo: Demo, statistics: ActionStatistics) -> Floats:
    """A demonstration's actions as the network sees them, float32 [T, A]. Raises DemoError where it has none."""
    if demo.actions is None:
        raise DemoError(f"{demo}: a video without actions cannot train a policy")
    if demo.actions.shape[1] != statistics.dim:
        raise DemoError(f"{demo}: its actions have {demo.actions.shape[1]} numbers, expected {statistics.dim}")
    if not np.isfinite(demo.actions).all():
        raise DemoError(f"{demo}: its actions hold NaN or infinite numbers")
    return np.asarray(normalise(demo.actions, statistics), dtype=np.float32)


def still_action(statistics: ActionStatistics) -> Floats:
    """The normalised action of not moving, float32 [A]."""
    return np.asarray(normalise(np.zeros((1, statistics.dim), dtype=np.float32), statistics)[0], dtype=np.float32)


def next_waypoints(demo: Demo) -> Floats:
    """Where the hand acts next, seen from every frame: tip positions float32 [T, 3] (the first three numbers of the
    state).

    The hand acts where the gripper's command turns over, where the tip was lowest between two rises, and at the end
    (next-keyframe targets, after James and Davison 2022, whose keyframes are found in like manner), but not while it is
    driven off course. Known in hindsight only, so it says in the frame that shows a cue where that cue will lead. While
    things move that the hand waits for, hindsight tells what nobody can know yet: `due`, where recorded, tells better.
    """
    if demo.due is not None:
        return demo.due
    if demo.beginning and demo.waypoints is not None:
        return demo.waypoints
    if demo.state is None or demo.actions is None:
        raise DemoError(f"{demo}: waypoints need proprioception and actions")
    return waypoints_of(demo.state, demo.actions, demo.off_course)


def shown_waypoints(demo: Demo) -> Floats:
    """What each frame itself says of where to go, float32 [T, 3]: of a cue whose turn comes later too, where that was
    recorded; else as `next_waypoints`."""
    return next_waypoints(demo) if demo.waypoints is None else demo.waypoints


def waypoints_of(state: Floats, actions: Floats, off_course: npt.NDArray[np.bool_] | None = None) -> Floats:
    """The same of states [T, D], actions [T, A] and `off_course` [T] of a whole episode, float32 [T, 3]."""
    tip = state[:, :3]
    turned = np.flatnonzero(np.diff(actions[:, GRIPPER]) != 0) + 1
    dips, _ = find_peaks(-tip[:, 2], prominence=DIP)
    acts = np.concatenate([turned, dips])
    if off_course is not None:  # a dip of random motion is no press
        acts = acts[~off_course[acts]]
    events = np.unique(np.concatenate([acts, [len(tip) - 1]]))
    return np.asarray(tip[events[np.searchsorted(events, np.arange(len(tip)))]], dtype=np.float32)


def two_hot(values: Floats, low: Floats, high: Floats, bins: int) -> Floats:
    """Values [N, K] as weights on the two nearest of `bins` evenly spaced levels from low [K] to high [K]: float32
    [N, K, bins]. Their mean is the value again."""
    at = np.clip((values - low) / (high - low), 0, 1) * (bins - 1)
    below = np.minimum(at.astype(np.int64), bins - 2)
    over = (at - below).astype(np.float32)
    found = np.zeros((*values.shape, bins), dtype=np.float32)
    np.put_along_axis(found, below[..., None], 1 - over[..., None], axis=-1)
    np.put_along_axis(found, below[..., None] + 1, over[..., None], axis=-1)
    return found
