"""Memory-aware sampling of the released training: `group` and `stream` (specification, 4.3), over mixtures.

Both are pure functions of (seed, update): a resumed training sees the same frames, and an update the same batch however
many processes share it. The third way, `calls`, is
`policies.training.windows.CallSampler`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from policies.training.demos import Demo, DemoError
from policies.training.windows import Piece, share

Floats64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """lengths: frames of each demonstration; datasets: the dataset of each; weights: of datasets (1 where not named).

    A dataset's share of the frames is in proportion to its weight times its transitions.
    """

    lengths: tuple[int, ...]
    datasets: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.weights) - set(self.datasets))
        if unknown:
            there = ", ".join(sorted(set(self.datasets)))
            raise DemoError(f"a weight is given for {', '.join(unknown)}, but the demonstrations are of {there}")
        if not self.lengths or len(self.lengths) != len(self.datasets):
            raise DemoError(f"{len(self.lengths)} lengths for {len(self.datasets)} demonstrations")
        bad = [f"{key}={weight:g}" for key, weight in self.weights.items() if not 0 <= weight < float("inf")]
        if bad or not any(self.weight(i) > 0 for i in range(len(self.lengths))):
            raise DemoError(f"weights must be 0 or more, and one of them more: {', '.join(bad) or 'all are 0'}")

    @classmethod
    def of(cls, demos: Sequence[Demo], weights: Mapping[str, float] | None = None) -> Mixture:
        """The mixture of these demonstrations."""
        return cls(tuple(map(len, demos)), tuple(demo.dataset for demo in demos), dict(weights or {}))

    def weight(self, demo: int) -> float:
        """The weight of a demonstration's dataset."""
        return self.weights.get(self.datasets[demo], 1.0)

    def chances(self) -> Floats64:
        """Chance of each demonstration where each draw counts alike whatever its length, float64 [N]: datasets by
        weight times transitions, evenly within a dataset."""
        frames: dict[str, int] = {}
        members: dict[str, int] = {}
        for length, name in zip(self.lengths, self.datasets, strict=True):
            frames[name] = frames.get(name, 0) + length
            members[name] = members.get(name, 0) + 1
        each = np.array([self.weight(i) * frames[name] / members[name] for i, name in enumerate(self.datasets)])
        return np.asarray(each / each.sum())


@dataclass(frozen=True)
class GroupSampler:
    """`group`: of each drawn trajectory `size` frames without replacement, in order of time; a shorter one is filled by
    repeating its last frame. Each group begins with an empty memory.

    groups: of an update, over all processes; seed: of everything.
    """

    mixture: Mixture
    groups: int
    seed: int
    size: int = 16

    def draw(self, update: int, rank: int, world: int) -> tuple[list[Piece], float]:
        """The pieces of process `rank` of `world`, and the number its summed losses are divided by."""
        _check_share("groups", self.groups, rank, world)
        return share(self.plan(update), rank, world)

    def plan(self, update: int) -> list[Piece]:
        """All groups of an update."""
        chances = self.mixture.chances()
        return [self._group((self.seed, update, slot), chances) for slot in range(self.groups)]

    def _group(self, key: tuple[int, ...], chances: Floats64) -> Piece:
        rng = np.random.default_rng(key)
        demo = int(rng.choice(len(chances), p=chances))
        length = self.mixture.lengths[demo]
        frames = np.sort(rng.choice(length, min(self.size, length), replace=False))
        frames = np.concatenate([frames, np.full(self.size - len(frames), frames[-1])]).astype(np.int64)
        return Piece(demo, frames, frames.astype(np.float64), (*key, 1))


@dataclass(frozen=True)
class StreamPiece(Piece):
    """A stretch of an episode in a stream. before: frames of the episode that went by in earlier batches (they are what
    its memory holds when the stretch begins); episode: tells this passage of the demonstration from any other."""

    before: int = 0
    episode: tuple[int, ...] = ()

    def with_past(self) -> Piece:
        """The stretch with what went by before it as quiet frames, so that its memory can be filled anew.

        The released training keeps the memory from batch to batch, features of past frames being those of slightly
        older weights. Filled anew they are those of the present ones, and a resumed training needs no memory.
        """
        frames = np.arange(0, self.before + len(self.frames), dtype=np.int64)
        return Piece(self.demo, frames, frames.astype(np.float64), self.seed, quiet=self.before)


@dataclass(frozen=True)
class StreamSampler:
    """`stream`: whole trajectories in order, one after another; a batch may end one and begin the next, and memory
    lives on from batch to batch until its episode ends. In the released training each GPU runs its own stream.

    streams: side by side in an update, over all processes; a process has the same ones always; frames: of each stream
    in an update; seed: of everything. A pass of a stream goes over all trajectories in an order of its own; one whose
    dataset weighs w appears w times in it (a broken part of w by chance).
    """

    mixture: Mixture
    streams: int
    frames: int
    seed: int
    _passes: dict[int, list[int]] = field(default_factory=dict, compare=False, repr=False)

    def draw(self, update: int, rank: int, world: int) -> tuple[list[Piece], float]:
        """The stretches of process `rank` of `world`, stream by stream in order of time, and the number its summed
        losses are divided by."""
        _check_share("streams", self.streams, rank, world)
        mine = range(rank, self.streams, world)
        pieces = [piece for stream in mine for piece in self.stretches(stream, update)]
        return pieces, self.streams * self.frames / world

    def stretches(self, stream: int, update: int) -> list[Piece]:
        """What one stream brings in an update: `frames` frames in all."""
        begin, end = update * self.frames, (update + 1) * self.frames
        pieces: list[Piece] = []
        for start, number, place, demo in self._trajectories(stream, begin):
            if start >= end:
                break
            first, last = max(begin - start, 0), min(end - start, self.mixture.lengths[demo])
            frames = np.arange(first, last, dtype=np.int64)
            key = (self.seed, stream, number, place)
            pieces.append(
                StreamPiece(demo, frames, frames.astype(np.float64), (*key, first, 1), before=first, episode=key)
            )
        return pieces

    def _trajectories(self, stream: int, begin: int) -> Iterator[tuple[int, int, int, int]]:
        """(first frame in the stream, pass, place in it, demonstration), from the one that holds frame `begin` on."""
        ends = self._passes.setdefault(stream, [])
        while not ends or ends[-1] <= begin:
            order = self._order(stream, len(ends))
            ends.append((ends[-1] if ends else 0) + sum(self.mixture.lengths[demo] for demo in order))
        number = next(number for number, end in enumerate(ends) if end > begin)
        start = ends[number - 1] if number else 0
        while True:
            for place, demo in enumerate(self._order(stream, number)):
                length = self.mixture.lengths[demo]
                if start + length > begin:
                    yield start, number, place, demo
                start += length
            number += 1

    def _order(self, stream: int, number: int) -> list[int]:
        rng = np.random.default_rng((self.seed, stream, number))
        times = [self.mixture.weight(demo) for demo in range(len(self.mixture.lengths))]
        counts = [int(time) + int(rng.random() < time % 1) for time in times]
        every = np.repeat(np.arange(len(counts)), counts)
        return [int(demo) for demo in rng.permutation(every)]


def _check_share(what: str, count: int, rank: int, world: int) -> None:
    if not 0 <= rank < world or count % world:
        raise DemoError(f"process {rank} of {world}: {count} {what} cannot be shared evenly")
