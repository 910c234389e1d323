"""`memvla tune`: measure simulator and policy for a few episodes, and say which workers and batches are best."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness import run as running
from harness.assets import require_assets
from harness.cluster import Answer, Cluster, ClusterError, PolicyConfig, Worker
from harness.config import ConfigError, RunConfig
from harness.plan import EpisodeSpec, context_of, episodes, match, scenes
from harness.runs import tasks_of
from harness.runtimes import require
from harness.throughput import Demand, Expected, Measured, Supply, best, expect, keep
from harness.worker import Ready, Result
from policies.base import PolicySpec
from reports.records import EpisodeRecord
from suites.protocol import Suite

TASKS = 3
"""Tasks that are played at most."""
EPISODES = 6
"""Episodes that are played at most. A task's first, which compiles its scene, is not counted where there are others."""
ENOUGH_S = 120.0
"""After so many seconds two of them are enough."""
SIZES = (1, 2, 4, 8, 16, 32, 64)


def tune(config: RunConfig, console: Console) -> None:
    """Measure every policy on every suite of the configuration; say and keep what is best for each."""
    for suite in config.suites:
        require(suite.runtime, suite.name)
        require_assets(suite)
    with running.started(config, console) as cluster:
        for suite in config.suites:
            for policy in config.policies:
                title = f"{policy.name} on {suite.name}"
                with console.status(f"measuring {title} …"):
                    found = measure(cluster, config, suite, policy)
                keep(suite, policy, found)
                say(title, found, _planned(config, suite), config, console)


def _planned(config: RunConfig, suite: Suite) -> int:
    return len(scenes(suite, config.trials(suite), tasks_of(suite, config.settings.run)))


def measure(cluster: Cluster, config: RunConfig, suite: Suite, policy: PolicyConfig) -> Measured:
    """Play a few episodes with one worker, then call the policy alone with more and more requests."""
    rules = config.settings.cluster
    host = cluster.host(policy, context_of(suite), max_batch=rules.max_batch, timeout_s=config.settings.limits.policy)
    try:
        worker = cluster.worker(suite.runtime)
        cluster.prepare(worker, match(host.spec, suite), host.link)
        if not isinstance(ready := _answer(cluster, worker), Ready):
            raise ClusterError(f"no worker of {suite.name} could be started: {ready}")
        plan = _spread(config, suite, host.spec)
        played = _play(cluster, worker, plan)
        most = min(rules.max_batch, host.spec.slots or rules.max_batch)
        call_s, busy = cluster.supply(host, worker, plan[0], [size for size in SIZES if size <= most])
        cluster.kill(worker, host)
    finally:
        cluster.release(host)
    between = tuple((wall - record.seconds.get("build", 0.0)) / record.calls - call_s[1] for record, wall in played)
    calls = statistics.fmean(record.calls for record, _ in played)
    demand = Demand(tuple(max(0.0, each) for each in between), calls)
    return Measured(demand, Supply(call_s, busy), os.cpu_count() or 1)


def _spread(config: RunConfig, suite: Suite, policy: PolicySpec) -> list[EpisodeSpec]:
    """A few episodes, of tasks as far apart as can be, task by task."""
    tasks = tasks_of(suite, config.settings.run)
    if not tasks:
        raise ConfigError(f"no task of {suite.name} is left: see memvla suites {suite.name}")
    chosen = tasks[:: max(1, len(tasks) // TASKS)][:TASKS]
    found = scenes(suite, max(1, EPISODES // len(chosen)), chosen)
    return episodes(found, suite, policy, seed=config.settings.run.seed)


def _play(cluster: Cluster, worker: Worker, plan: Sequence[EpisodeSpec]) -> list[tuple[EpisodeRecord, float]]:
    """Records and wall-clock seconds of episodes played one after another, without the first of each task."""
    first, later = list[tuple[EpisodeRecord, float]](), list[tuple[EpisodeRecord, float]]()
    until, task = time.monotonic() + ENOUGH_S, ""
    for episode in plan:
        if len(later) >= 2 and time.monotonic() > until:
            break
        begun = time.perf_counter()
        cluster.submit(worker, episode)
        answer, worker.episode = _answer(cluster, worker), None
        if not isinstance(answer, Result) or answer.record.outcome == "void":
            cause = answer.record.cause if isinstance(answer, Result) else answer
            raise ClusterError(f"{episode.episode} could not be played: {cause}")
        kept, task = later if episode.episode.task == task else first, episode.episode.task
        kept.append((answer.record, time.perf_counter() - begun))
    return later or first


def _answer(cluster: Cluster, worker: Worker) -> Answer:
    while True:
        for _, answer in cluster.finished([worker], timeout_s=5.0):
            return answer
        cluster.check()


# ---------------------------------------------------------------------- what comes of it


def curve(found: Measured, config: RunConfig, episodes: int) -> list[Expected]:
    """What 1, 2, 3, 4, 6, 8 … workers would do, up to four for every core."""
    rules = config.settings.cluster
    most = max(1, min(4 * found.cores, episodes))
    numbers = sorted({n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128) if n < most} | {most})
    return [expect(found, number, rules.max_batch) for number in numbers]


def say(title: str, found: Measured, planned: int, config: RunConfig, console: Console) -> None:
    """The curve, and the words to type."""
    expected = curve(found, config, planned)
    chosen = best(expected)
    table = Table("workers", "episodes/hour", "in a call", "host busy", title=escape(title), title_justify="left")
    for column in table.columns:
        column.justify = "right"
    for each in expected:
        style = "bold" if each is chosen else ""
        table.add_row(
            str(each.workers), f"{each.per_hour:.0f}", f"{each.batch:.1f}", f"{100 * each.busy:.0f} %", style=style
        )
    console.print(table)
    demand, supply = found.demand, found.supply
    by_size = ", ".join(f"{size}: {1000 * took:.0f}" for size, took in sorted(supply.call_s.items()))
    between = statistics.fmean(demand.between_s)
    console.print(
        f"{demand.calls:.1f} policy calls an episode, {1000 * between:.0f} ms of simulator between two; ms a call by "
        f"batch: {by_size}; {supply.cores:.1f} of {found.cores} CPUs busy in a call",
        highlight=False,
        soft_wrap=True,
    )
    hours = planned / chosen.per_hour
    console.print(
        f"best: [bold]cluster.workers={chosen.workers}[/], {chosen.per_hour:.0f} episodes an hour; "
        f"{planned} episodes: {_span(hours)}",
        highlight=False,
        soft_wrap=True,
    )


def _span(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes" if hours >= 1 / 60 else "under a minute"
