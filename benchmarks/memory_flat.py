"""Memory of a stateful policy over 10,000 short episodes: it must be flat, and back at nothing after the last.

    python benchmarks/memory_flat.py [--policy memoryvla] [--episodes 10000] [--alive 16] [--seconds 600]

Episodes of two calls, sixteen alive at a time, through the real policy at `lab` size with random weights (one denoising
step: time is not the point), over the policy host's real socket as a worker speaks to it. Prints resident memory, open
file handles, Python objects, the bytes of the stores and episodes alive along the way. Flat means: after the first
tenth, resident memory grows by no more than 5 %, handles and stores not at all, and no slot is left taken. Ends by
itself after --seconds, saying how far it came. Exit code 1: not flat.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from envs.spec import EpisodeId, Observation
from harness.batching import PolicyHost
from harness.config import compose_run
from harness.plan import context_of
from harness.remote import Link, RemotePolicy
from policies.base import ActRequest, EpisodeStart

CALLS = 2
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


def play(remote: RemotePolicy, trials: Iterator[int], noise: np.random.Generator, episodes: int) -> None:
    """One worker's episodes, one after another, from start to end."""
    for trial in itertools.islice(trials, episodes):
        episode = EpisodeId("lab_smoke", "press_by_colour", trial)
        remote.start([EpisodeStart(episode, 0, "press the red button")])
        for call in range(CALLS):
            images = {name: noise.integers(0, 255, (64, 64, 3), np.uint8) for name in remote.spec.cameras}
            seen = Observation(images, None, "press the red button", call * remote.spec.chunk)
            remote.act([ActRequest(episode, call, seen)])
        remote.end([episode])


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
    parser.add_argument("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    words = [f"policy={given.policy}", "suite=lab_smoke", "policy.batching=fast", f"policy.slots={given.alive}"]
    config = compose_run([*words, "policy.expert.steps=1", "policy.expert.guidance=1.0"])
    policy: Any = config.policies[0].build(context_of(config.suites[0]))
    host = PolicyHost(policy, max_batch=given.alive)
    with tempfile.TemporaryDirectory() as folder:
        seen = soak(policy, host.serve_in_thread(f"ipc://{folder}/host"), given)
        host.stop()
    return judge(seen, policy, given)


def soak(policy: Any, link: Link, given: argparse.Namespace) -> list[Seen]:
    """Rounds of a tenth of the episodes each; between them nothing is alive."""
    process, begun, seen = psutil.Process(), time.monotonic(), list[Seen]()
    remotes = [RemotePolicy(policy.spec, link, name=f"worker-{number}") for number in range(given.alive)]
    noises = [np.random.default_rng(number) for number in range(given.alive)]
    trials = itertools.count()
    each = max(1, given.episodes // 20 // given.alive)
    print(f"{'episodes':>9} {'MiB resident':>13} {'handles':>8} {'objects':>9} {'MiB of stores':>14} {'alive':>6}")
    while (done := len(seen) * each * given.alive) < given.episodes and time.monotonic() - begun < given.seconds:
        threads = [
            threading.Thread(target=play, args=(remote, trials, noise, each))
            for remote, noise in zip(remotes, noises, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen.append(look(process, done + each * given.alive, policy))
    for remote in remotes:
        remote.close()
    return seen


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
    sys.exit(main())
