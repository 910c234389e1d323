"""Memory of a stateful policy over 10,000 lab episodes: it must be flat, and back at nothing after the last.

    python benchmarks/memory_flat.py [--policy memoryvla] [--episodes 10000] [--alive 16] [--seconds 3600]

Short episodes of two lab tasks, sixteen alive at a time: as many of the harness's own workers, each with a lab
simulator of its own, play them in threads of this process through the policy host's socket. The policy is the real
one at `lab` size with random weights (one denoising step: time is not the point). Prints resident memory, open file
handles, Python objects, the bytes of the stores and episodes alive along the way. Flat means: after the first tenth,
resident memory grows by no more than 5 %, handles and stores not at all, and no slot is left taken. No attempt may be
void. Ends by itself after --seconds, saying how far it came. Exit code 1: not flat.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import psutil

from harness.batching import PolicyHost
from harness.config import compose_run
from harness.plan import EpisodeSpec, context_of, episodes, match, scenes
from harness.worker import RolloutWorker

STEPS = 32
"""Environment steps an episode lasts at most: two calls or more."""
ALLOWED = 0.05
"""Growth of resident memory after the first tenth that still counts as flat."""


@dataclass(frozen=True)
class Seen:
    """One look: episodes done, MiB resident, file handles, Python objects, bytes of the stores, episodes alive."""

    done: int
    rss: float
    handles: int
    objects: int
    stored: int
    alive: int


def play(worker: RolloutWorker, todo: SimpleQueue[EpisodeSpec], voids: list[str]) -> None:
    """One worker's episodes, one after another, until there are none."""
    with suppress(Empty):
        while True:
            record = worker.run(todo.get_nowait()).record
            if record.outcome == "void":
                voids.append(record.cause)


def look(process: psutil.Process, done: int, policy: Any) -> Seen:
    gc.collect()
    stored = sum(store.entries.untyped_storage().nbytes() for store in getattr(policy, "_stores", {}).values())
    rss = process.memory_info().rss / 2**20
    found = Seen(done, rss, process.num_fds(), len(gc.get_objects()), stored, policy.live())
    print(
        f"{done:9d} {rss:13.1f} {found.handles:8d} {found.objects:9d} {stored / 2**20:14.3f} {found.alive:6d}",
        flush=True,
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="memoryvla")
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--alive", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3600.0)
    given = parser.parse_args()
    words = [f"policy={given.policy}", "suite=lab_smoke", "policy.batching=fast", f"policy.slots={given.alive}"]
    config = compose_run([*words, "policy.expert.steps=1", "policy.expert.guidance=1.0", f"protocol.max_steps={STEPS}"])
    suite = config.suites[0]
    policy: Any = config.policies[0].build(context_of(suite))
    host = PolicyHost(policy, max_batch=given.alive)
    tasks = len(suite.tasks)
    plan = episodes(scenes(suite, -(-given.episodes // tasks)), suite, policy.spec, seed=0)
    plan.sort(key=lambda each: each.episode.trial)  # all tasks from the beginning: each has a compiled scene
    with tempfile.TemporaryDirectory() as folder:
        link = host.serve_in_thread(f"ipc://{folder}/host")
        workers = [RolloutWorker(f"worker-{number}") for number in range(given.alive)]
        for worker in workers:
            worker.prepare(match(policy.spec, suite), link)
        seen, voids = soak(policy, workers, plan, given.seconds)
        for worker in workers:
            worker.close()
        host.stop()
    for cause in sorted(set(voids)):
        print(f"void {voids.count(cause)} times: {cause}")
    return 1 if voids else judge(seen, policy, given)


def soak(
    policy: Any, workers: list[RolloutWorker], plan: list[EpisodeSpec], seconds: float
) -> tuple[list[Seen], list[str]]:
    """Rounds of a twentieth of the episodes each; between them nothing is alive. Returns the looks and void causes."""
    process, begun, seen, voids = psutil.Process(), time.monotonic(), list[Seen](), list[str]()
    each = max(1, len(plan) // 20)
    print(f"{'episodes':>9} {'MiB resident':>13} {'handles':>8} {'objects':>9} {'MiB of stores':>14} {'alive':>6}")
    for first in range(0, len(plan), each):
        if time.monotonic() - begun > seconds:
            break
        todo = SimpleQueue[EpisodeSpec]()
        for episode in plan[first : first + each]:
            todo.put(episode)
        threads = [threading.Thread(target=play, args=(worker, todo, voids)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen.append(look(process, min(first + each, len(plan)), policy))
    return seen, voids


def judge(seen: list[Seen], policy: Any, given: argparse.Namespace) -> int:
    if seen[-1].done < given.episodes:
        print(f"stopped after {given.seconds:g} s: {seen[-1].done} of {given.episodes} episodes")
    if len(seen) < 4:
        print("too few episodes to say anything")
        return 1
    first, last = seen[1], seen[-1]
    grown = last.rss / first.rss - 1
    same = (last.handles, last.stored) == (first.handles, first.stored)
    flat = grown <= ALLOWED and same and policy.live() == 0
    print(
        f"from episode {first.done} to {last.done}: {100 * grown:+.1f} % resident, {last.handles - first.handles:+d} "
        f"handles, {last.objects - first.objects:+d} objects, {policy.live()} slots taken at the end; at most "
        f"{policy.memory_per_episode() * given.alive / 2**20:.3f} MiB of memories for {given.alive} episodes: "
        f"{'flat' if flat else 'NOT FLAT'}"
    )
    return 0 if flat else 1


if __name__ == "__main__":
    # Threads stand for the processes that workers are. glibc would give each an arena of its own, and pictures made in
    # one and freed in another would tear holes into them that no process of a run has.
    if "MALLOC_ARENA_MAX" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "MALLOC_ARENA_MAX": "1"})
    sys.exit(main())
