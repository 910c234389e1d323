"""What a run will do, from what was measured: simulators' demand, the policy's supply, and the host's own batching.

A run is a closed loop. Every worker computes until its next policy call, waits for the host, and begins again; workers
share the machine's cores, and a policy that runs on them takes its part. That loop is played in simulated time, with
the Scheduler that decides in the host itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from envs.assets import home
from envs.spec import EpisodeId
from harness.batching import Scheduler
from harness.cluster import PolicyConfig
from harness.runs import weights_digests
from suites.protocol import Suite

CALLS = 300
"""Policy calls of each worker that are played; the first third is warming up."""


@dataclass(frozen=True)
class Demand:
    """What episodes ask for. between_s: for each measured episode, seconds from a reply to the next request, with its
    share of reset, start and end; calls: policy calls of an episode, the mean."""

    between_s: tuple[float, ...]
    calls: float


@dataclass(frozen=True)
class Supply:
    """What the policy gives. call_s: seconds of a call by batch size; cores: of this machine that a call keeps busy."""

    call_s: Mapping[int, float]
    cores: float

    def seconds(self, batch: int) -> float:
        """Of a call with so many requests; between measured sizes on the line, beyond the largest on its last slope."""
        sizes = sorted(self.call_s)
        if batch in self.call_s or len(sizes) == 1:
            return self.call_s.get(batch, self.call_s[sizes[0]])
        above = next((size for size in sizes if size > batch), sizes[-1])
        below = sizes[max(0, sizes.index(above) - 1)]
        slope = (self.call_s[above] - self.call_s[below]) / (above - below)
        return self.call_s[below] + slope * (batch - below)


@dataclass(frozen=True)
class Expected:
    """What so many workers would do. per_hour: episodes; batch: requests in a call, the mean; busy: share of the time
    in which the host is in a call."""

    workers: int
    max_batch: int
    per_hour: float
    batch: float
    busy: float


@dataclass(frozen=True)
class Measured:
    """Demand and supply of one policy on one suite. cores: of the machine, for workers and a policy on the CPU."""

    demand: Demand
    supply: Supply
    cores: int


def expect(measured: Measured, workers: int, max_batch: int) -> Expected:
    """What a run with so many workers, and no more than so many requests in a call, would do: the loop is played."""
    demand = measured.demand
    play = _Play(demand, measured.supply, workers, max_batch, measured.cores)
    warm = workers * CALLS // 3
    while play.replies < warm:
        play.step()
    begun, before, calls, busy = play.now, play.replies, play.calls, play.busy_s
    while play.replies < warm + 2 * workers * CALLS // 3:
        play.step()
    replies, took = play.replies - before, play.now - begun
    return Expected(
        workers,
        max_batch,
        3600 * replies / took / demand.calls if took else math.inf,
        replies / max(1, play.calls - calls),
        (play.busy_s - busy) / took if took else 0.0,
    )


def best(found: Sequence[Expected], within: float = 0.03) -> Expected:
    """The fewest workers that come within `within` of the highest rate."""
    top = max(each.per_hour for each in found)
    return min((each for each in found if each.per_hour >= (1 - within) * top), key=lambda each: each.workers)


# ---------------------------------------------------------------------- kept for dry runs


def keep(suite: Suite, policy: PolicyConfig, found: Measured) -> None:
    """Write down what `memvla tune` measured, for later dry runs."""
    path = _file(suite, policy)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"suite": suite.name, "policy": policy.name, **asdict(found)}, indent=1))


def known(suite: Suite, policy: PolicyConfig) -> Measured | None:
    """What `memvla tune` measured here before; None where it has not, or the file cannot be read."""
    try:
        data = json.loads(_file(suite, policy).read_text())
        demand, supply = data["demand"], data["supply"]
        between = tuple(float(each) for each in demand["between_s"])
        by_size = {int(size): float(took) for size, took in supply["call_s"].items()}
        return Measured(
            Demand(between, float(demand["calls"])), Supply(by_size, float(supply["cores"])), int(data["cores"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _file(suite: Suite, policy: PolicyConfig) -> Path:
    """Where the measurement of this suite, policy and machine lies: another of any of them has another."""
    weights = weights_digests(policy)
    what = [suite.name, suite.fingerprint(), policy.target, dict(policy.options), weights, os.cpu_count()]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return home() / "tuned" / f"{digest}.json"


# ---------------------------------------------------------------------- the loop


class _Play:
    """The loop in simulated time: workers compute or wait, the host is in a call or not."""

    def __init__(self, demand: Demand, supply: Supply, workers: int, max_batch: int, cores: int) -> None:
        self._demand, self._supply, self._cores = demand, supply, cores
        self._scheduler = Scheduler(max_batch)
        self._random = random.Random(0)
        self._left: dict[EpisodeId, float] = {}
        self._queue: list[EpisodeId] = []
        self._batch: list[EpisodeId] = []
        self._call_left = 0.0
        self.now = self.busy_s = 0.0
        self.replies = self.calls = 0
        for number in range(workers):
            episode = EpisodeId("", "", number)
            self._scheduler.started(episode)
            self._compute(episode)

    def _compute(self, episode: EpisodeId) -> None:
        self._left[episode] = self._random.choice(self._demand.between_s)

    def step(self) -> None:
        """To the next moment at which something ends: a computation, a call, or the host's patience."""
        hold = math.inf
        if self._queue and not self._batch:
            hold = self._scheduler.hold(self.now)
            if hold <= 0:
                self._begin_call()
                return
        wanted = len(self._left) + (self._supply.cores if self._batch else 0.0)
        speed = min(1.0, self._cores / wanted) if wanted else 1.0
        ends = [*self._left.values(), *([self._call_left] if self._batch else [])]
        took = min(min(ends, default=math.inf) / speed, hold)
        self.now += took
        self._left = {episode: left - took * speed for episode, left in self._left.items()}
        self._call_left -= took * speed
        self.busy_s += took if self._batch else 0.0
        for episode in [each for each, left in self._left.items() if left <= 1e-9]:
            del self._left[episode]
            self._queue.append(episode)
            self._scheduler.arrived(episode, self.now)
        if self._batch and self._call_left <= 1e-9:
            self._end_call()

    def _begin_call(self) -> None:
        most = self._scheduler.max_batch
        self._batch, self._queue = self._queue[:most], self._queue[most:]
        self._call_left, self._called = self._supply.seconds(len(self._batch)), self.now

    def _end_call(self) -> None:
        self._scheduler.served(self._batch, self.now, self.now - self._called)
        self.replies += len(self._batch)
        self.calls += 1
        for episode in self._batch:
            self._compute(episode)
        self._batch = []
