"""Memory of a stateful policy over 10,000 short episodes: it must be flat, and back at nothing after the last.

    python benchmarks/memory_flat.py [--policy memoryvla] [--episodes 10000] [--seconds 600]

Episodes of two calls, eight alive at a time, through the real policy at `lab` size with random weights (one denoising
step: time is not the point). Prints resident memory, Python objects and the bytes of the stores along the way. Ends by
itself after --seconds, saying how far it came. Exit code 1: not flat.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from typing import Any

import numpy as np
import psutil

from envs.spec import EpisodeId, Observation
from harness.config import compose_run
from harness.plan import context_of
from policies.base import ActRequest, EpisodeStart

ALIVE = 8
CALLS = 2
ALLOWED_MIB = 16
"""Growth after the first tenth that still counts as flat: allocators keep some pages."""


def play(policy: Any, first: int, noise: np.random.Generator) -> None:
    """Eight episodes at once, from start to end."""
    episodes = [EpisodeId("lab_smoke", "press_by_colour", first + i) for i in range(ALIVE)]
    policy.start([EpisodeStart(episode, 0, "press the red button") for episode in episodes])
    for call in range(CALLS):
        requests = []
        for episode in episodes:
            images = {name: noise.integers(0, 255, (64, 64, 3), np.uint8) for name in policy.spec.cameras}
            seen = Observation(images, None, "press the red button", call * policy.spec.chunk)
            requests.append(ActRequest(episode, call, seen))
        policy.act(requests)
    policy.end(episodes)


def stores_bytes(policy: Any) -> int:
    """Bytes of the tensors that hold memories."""
    return sum(store.entries.untyped_storage().nbytes() for store in getattr(policy, "_stores", {}).values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="memoryvla")
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    given = parser.parse_args()
    words = [f"policy={given.policy}", "suite=lab_smoke", "policy.batching=fast", f"policy.slots={ALIVE}"]
    config = compose_run([*words, "policy.expert.steps=1", "policy.expert.guidance=1.0"])
    policy: Any = config.policies[0].build(context_of(config.suites[0]))
    process, noise, begun = psutil.Process(), np.random.default_rng(0), time.monotonic()
    every = max(ALIVE, given.episodes // 10 // ALIVE * ALIVE)
    seen: list[tuple[int, float, int, int]] = []
    done = 0
    print(f"{'episodes':>9} {'MiB resident':>13} {'objects':>9} {'MiB of stores':>14} {'alive':>6}")
    while done < given.episodes and time.monotonic() - begun < given.seconds:
        play(policy, done, noise)
        done += ALIVE
        if done % every == 0:
            gc.collect()
            seen.append((done, process.memory_info().rss / 2**20, len(gc.get_objects()), stores_bytes(policy)))
            at, rss, objects, stored = seen[-1]
            print(f"{at:9d} {rss:13.1f} {objects:9d} {stored / 2**20:14.3f} {policy.live():6d}", flush=True)
    if done < given.episodes:
        print(f"stopped after {given.seconds:g} s: {done} of {given.episodes} episodes")
    if len(seen) < 2:
        print("too few episodes to say anything")
        return 1
    grown, more = seen[-1][1] - seen[0][1], seen[-1][2] - seen[0][2]
    flat = grown <= ALLOWED_MIB and seen[-1][3] == seen[0][3] and policy.live() == 0
    print(
        f"from episode {seen[0][0]} to {seen[-1][0]}: {grown:+.1f} MiB resident, {more:+d} objects; at most "
        f"{policy.memory_per_episode() * ALIVE / 2**20:.3f} MiB of memories for {ALIVE} episodes: "
        f"{'flat' if flat else 'NOT FLAT'}"
    )
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
