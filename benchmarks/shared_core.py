"""How busy workers keep a core that they share while calls are in flight, measured beside other jobs.

    python benchmarks/shared_core.py [--workers 2] [--seconds 18] [--always-wait]

Policy host, sockets and worker loops are the real ones, ten times slower than in `harness_cost.py`: 150 ms a step, give
or take a twentieth, and calls of 100 ms. The core is worked out instead of used: whoever computes sleeps for as long
as a core shared equally would take, so what else the machine is doing hardly shows. --always-wait: the host waits
for sessions that are due even where it could serve each alone, as it did before it knew better.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time

from harness_cost import ACTION, FreeEnv, FreePolicy, episode

from envs.conversions import converter
from envs.spec import Advance, Floats
from harness import batching
from harness.batching import PolicyHost
from harness.remote import Link, RemotePolicy
from harness.rollout import run_episode

STEP_S, CALL_S = 0.150, 0.100


class SharedCore:
    """One core that shares itself equally among those who compute. busy_s: seconds in which somebody did."""

    def __init__(self) -> None:
        self.busy_s = 0.0
        self._changed = threading.Condition()
        self._left: dict[int, float] = {}
        self._now = time.perf_counter()

    def compute(self, who: int, seconds: float) -> None:
        """Returns once the core has worked `seconds` for `who`."""
        with self._changed:
            self._advance()
            self._left[who] = seconds
            self._changed.notify_all()
            while who in self._left:
                self._changed.wait(self._left[who] * len(self._left))
                self._advance()

    def _advance(self) -> None:
        """Work off what was computed since the last look, one who comes to an end after another."""
        now = time.perf_counter()
        passed, self._now = now - self._now, now
        while self._left and passed > 0:
            each = min(passed / len(self._left), *self._left.values())
            passed -= each * len(self._left)
            self.busy_s += each * len(self._left)
            self._left = {who: left - each for who, left in self._left.items() if left - each > 1e-9}
        self._changed.notify_all()


class SharingEnv(FreeEnv):
    """A simulator whose steps are computed on a shared core."""

    def __init__(self, core: SharedCore, number: int) -> None:
        super().__init__()
        self._core, self._number, self._random = core, number, random.Random(number)

    def advance(self, action: Floats) -> Advance:
        self._core.compute(self._number, STEP_S * self._random.uniform(0.95, 1.05))
        return Advance(False)


def busy(workers: int, seconds: float) -> tuple[float, dict[int, int]]:
    """Share of the time in which the core computed until the first worker was through, and batch sizes."""
    core, ends = SharedCore(), list[tuple[float, float]]()
    begun = time.perf_counter()

    def work(number: int, link: Link) -> None:
        remote = RemotePolicy(FreePolicy(1).spec, link, name=f"worker-{number}")
        spec = episode(number, int(seconds / (STEP_S + CALL_S)), 1)
        run_episode(SharingEnv(core, number), remote, spec, converter(ACTION, ACTION))
        ends.append((time.perf_counter() - begun, core.busy_s))
        remote.close()

    with tempfile.TemporaryDirectory(prefix="memvla-") as folder:
        host = PolicyHost(FreePolicy(1, CALL_S))
        link = host.serve_in_thread(f"ipc://{folder}/host")
        threads = [threading.Thread(target=work, args=(number, link)) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        host.stop()
    took, computed = min(ends)
    return computed / took, host.batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=18.0, help="of an episode that never shared or waited in vain")
    parser.add_argument("--always-wait", action="store_true")
    given = parser.parse_args()
    if given.always_wait:
        batching.SPARE_LOAD = 0.0
    share, batches = busy(given.workers, given.seconds)
    print(f"{given.workers} worker(s) share a core: busy {100 * share:.1f} %   batches {dict(sorted(batches.items()))}")


if __name__ == "__main__":
    main()
