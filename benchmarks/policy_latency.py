"""Time of a policy call and what memory and imagination add to it, for CogACT, MemoryVLA and MemoryVLA++.

    python benchmarks/policy_latency.py [--preset lab|7b] [--batching fast|exact] [--compile] [--calls 20]
    python benchmarks/policy_latency.py --memory    # only what memory an episode takes, for L = 16 and L = 256

Random weights: time does not depend on them. `lab` runs on the CPU; `7b` in bfloat16 wants a GPU with 40 GiB. The three
are measured in turn within each round of one run, so that a machine whose speed drifts does not favour one; medians.
For comparison, the papers report 0.236, 0.246 and 0.301 s a call on an H20 at batch 1 (MemoryVLA++, table of latency).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from typing import Any

import numpy as np

from envs.spec import EpisodeId, Observation
from harness.config import compose_run
from harness.plan import context_of
from policies.base import ActRequest, EpisodeStart, Policy

NAMES = ("cogact", "memoryvla", "memoryvla_pp")
BATCHES = (1, 4, 16)


def build(name: str, given: argparse.Namespace) -> Policy:
    """The policy with random weights, for the lab's cameras."""
    preset = given.preset
    words = [f"policy={name}", "suite=lab_smoke", f"policy.preset={preset}", f"policy.batching={given.batching}"]
    words.append(f"policy.compile={str(given.compile).lower()}")
    if preset == "7b":
        words += ["policy.dtype=bfloat16", "policy.device=cuda"]
    config = compose_run(words)
    return config.policies[0].build(context_of(config.suites[0]))


class Player:
    """Feeds one policy with `batch` live episodes of random pictures."""

    def __init__(self, policy: Policy, batch: int) -> None:
        self.policy, self.call, self._noise = policy, 0, np.random.default_rng(0)
        self.episodes = [EpisodeId("lab_smoke", "press_by_colour", trial) for trial in range(batch)]
        policy.start([EpisodeStart(episode, 0, "press the red button") for episode in self.episodes])

    def step(self) -> float:
        """Seconds of one call."""
        size = self.policy.spec.chunk
        requests = []
        for episode in self.episodes:
            images = {name: self._noise.integers(0, 255, (64, 64, 3), np.uint8) for name in self.policy.spec.cameras}
            seen = Observation(images, None, "press the red button", self.call * size)
            requests.append(ActRequest(episode, self.call, seen))
        self.call += 1
        settle()
        begun = time.perf_counter()
        self.policy.act(requests)
        settle()
        return time.perf_counter() - begun

    def end(self) -> None:
        self.policy.end(self.episodes)


def settle() -> None:
    """Wait for the GPU, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the GPU"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB resident"


def measure(policies: dict[str, Policy], batch: int, calls: int) -> dict[str, float]:
    """Median seconds of a call of each policy at this batch, measured in turn; the first three calls do not count."""
    players = {name: Player(policy, batch) for name, policy in policies.items()}
    times: dict[str, list[float]] = {name: [] for name in policies}
    for _ in range(calls + 3):
        for name, player in players.items():
            times[name].append(player.step())
    for player in players.values():
        player.end()
    return {name: statistics.median(found[3:]) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("lab", "7b"), default="lab")
    parser.add_argument("--batching", choices=("fast", "exact"), default="fast")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="torch.compile, CUDA graphs on a GPU")
    parser.add_argument("--memory", action="store_true", help="only print what memory an episode takes")
    given = parser.parse_args()
    if given.memory:
        show_memory()
        return
    if given.preset == "7b":
        report_one_by_one(given)
        return
    policies = {name: build(name, given) for name in NAMES}
    show({batch: measure(policies, batch, given.calls) for batch in BATCHES})
    print(f"peak memory, all three together: {peak()}")
    for name, policy in policies.items():
        per_episode: Any = getattr(policy, "memory_per_episode", lambda: 0)()
        print(f"{name}: {per_episode / 2**20:.3f} MiB of memory an episode, {policy.spec.slots} at most")
    show_memory()


def show_memory() -> None:
    """Memory of one live episode for both lengths of the papers, as a store of that size takes it (nothing is
    allocated), and of all slots together, which is the bound."""
    import torch

    from policies.memoryvla.memory import MemoryStore
    from policies.memoryvla.model import memory_config
    from policies.vla.config import changed, preset
    from policies.vla.policy import Serving

    slots = Serving().slots
    print(f"{'policy':15} {'preset':7} {'dtype':9} {'L':>4} {'MiB an episode':>15} {f'GiB for {slots}':>12}")
    for family in ("memoryvla", "memoryvla_plus"):
        for size, dtype in (("lab", torch.float32), ("7b", torch.bfloat16), ("7b", torch.float32)):
            for length in (16, 256):
                config = changed(preset(size, family), {"memory": {"length": length}})
                streams = [memory_config(config, stream) for stream in ("cognitive", "perceptual")]
                taken = sum(MemoryStore(stream, 1, "meta", dtype).bytes_per_slot() for stream in streams)
                kind = str(dtype).removeprefix("torch.")
                each, all_ = taken / 2**20, slots * taken / 2**30
                print(f"{family:15} {size:7} {kind:9} {length:4d} {each:15.3f} {all_:12.2f}")


def report_one_by_one(given: argparse.Namespace) -> None:
    """At 7b the three do not fit beside one another: one after the other."""
    found: dict[int, dict[str, float]] = {batch: {} for batch in BATCHES}
    for name in NAMES:
        import torch

        torch.cuda.reset_peak_memory_stats()
        policy = build(name, given)
        for batch in BATCHES:
            found[batch].update(measure({name: policy}, batch, given.calls))
        print(f"{name}: peak {peak()}")
        policy.close()
        del policy
        torch.cuda.empty_cache()
    show(found)


def show(found: dict[int, dict[str, float]]) -> None:
    """Milliseconds a call, calls per second for all episodes, and the shares of memory and imagination."""
    print(f"{'batch':>5} {'policy':14} {'ms a call':>10} {'requests/s':>11} {'over CogACT':>12}")
    for batch, times in found.items():
        for name in NAMES:
            more = times[name] / times["cogact"] - 1
            print(f"{batch:5d} {name:14} {1000 * times[name]:10.1f} {batch / times[name]:11.1f} {100 * more:+11.1f} %")
        whole = times["memoryvla_pp"]
        memory, imagined = times["memoryvla"] - times["cogact"], whole - times["memoryvla"]
        print(f"      shares of MemoryVLA++: memory {memory / whole:.0%}, imagination {imagined / whole:.0%}")
    last, first = max(found), min(found)
    for name in NAMES:
        gain = (last / found[last][name]) / (first / found[first][name])
        print(f"{name}: batch {last} answers {gain:.1f} times the requests per second of batch {first}")


if __name__ == "__main__":
    main()
