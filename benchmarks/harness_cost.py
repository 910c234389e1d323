"""What the harness itself costs: a free policy on a free environment, two 256x256x3 frames and 8 floats an observation.

    python benchmarks/harness_cost.py [--seconds 4]

Prints control steps per second inline, and between workers and a policy host in processes of their own, for one
policy call a step and for chunks of 8; the ratio to a bare ZeroMQ pair that carries the same frames, from the same
run; how full batches are when the policy takes 20 ms and the environments 15 ms a step; and how busy one core is kept
by workers whose simulator computes 15 ms a step while calls of 10 ms are in flight elsewhere.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import zmq

from envs.base import VLAEnv
from envs.conversions import converter
from envs.spec import ActionSpec, Advance, CameraSpec, EnvSpec, EpisodeId, Floats, Gripper, Image, Rotation
from harness.batching import PolicyHost
from harness.plan import EpisodeSpec
from harness.remote import Link, RemotePolicy
from harness.rollout import run_episode
from policies.base import ActReply, ActRequest, EpisodeStart, Policy, PolicySpec

ACTION = ActionSpec("base", False, 1.0, Rotation.EULER_XYZ, 1.0, Gripper(1.0, -1.0))
OFFERED = EnvSpec("free", ACTION, (CameraSpec("front", 256, 256), CameraSpec("wrist", 256, 256)), tuple("abcdefgh"))


class FreeEnv(VLAEnv):
    """Frames that are there already, physics that takes `step_s` seconds: asleep, or of computing (`busy`)."""

    def __init__(self, step_s: float = 0.0, *, busy: bool = False) -> None:
        super().__init__(OFFERED)
        self.step_s, self._busy = step_s, busy
        self._frame = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)

    def load(self, task: str, trial: int, seed: int) -> None:
        pass

    def advance(self, action: Floats) -> Advance:
        if self._busy:
            until = time.thread_time() + self.step_s
            while time.thread_time() < until:
                pass
        elif self.step_s:
            time.sleep(self.step_s)
        return Advance(False)

    def draw(self, camera: str) -> Image:
        return self._frame

    def instruction(self) -> str:
        return "do nothing"

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        return [("nothing", "")]

    def state(self) -> Floats:
        return np.zeros(8, np.float32)


class FreePolicy(Policy):
    """Answers at once, or after `call_s` seconds whatever the batch."""

    def __init__(self, chunk: int, call_s: float = 0.0) -> None:
        self.spec = PolicySpec("free", ACTION, ("front", "wrist"), chunk, chunk, uses_state=True)
        self._call_s = call_s
        self._actions = np.zeros((chunk, 7), np.float32)

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        pass

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        if self._call_s:
            time.sleep(self._call_s)
        return [ActReply(request.episode, request.step, self._actions) for request in requests]

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        pass


@dataclass(frozen=True)
class Load:
    """One measurement: workers, chunk, seconds of a step of each worker, seconds of a policy call. core: the one CPU on
    which all workers compute their steps (None: they sleep, anywhere)."""

    workers: int
    chunk: int
    steps_s: tuple[float, ...]
    call_s: float
    seconds: float
    core: int | None = None


@dataclass(frozen=True)
class Worked:
    """What a worker came to: steps a second, 99th percentile of a call's seconds, share of a CPU kept busy."""

    index: int
    rate: float
    p99_s: float
    busy: float


def episode(name: int, steps: int, chunk: int) -> EpisodeSpec:
    return EpisodeSpec(EpisodeId("free", "free", name), 0, 0, steps, chunk, "once", True, "episode")


def play(policy: Policy, name: int, chunk: int, env: FreeEnv, seconds: float) -> tuple[int, float]:
    """Run episodes for about `seconds`; returns (steps, seconds)."""
    convert, step_s = converter(ACTION, ACTION), env.step_s
    steps = max(chunk, int(2.0 / step_s) if step_s else 400)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        done += run_episode(env, policy, episode(name, steps, chunk), convert).record.steps
    return done, time.perf_counter() - begun


def inline(chunk: int, seconds: float) -> float:
    """Steps per second in one process."""
    steps, took = play(FreePolicy(chunk), 0, chunk, FreeEnv(), seconds)
    return steps / took


def _host(load: Load, address: str, pipe: Any) -> None:
    host = PolicyHost(FreePolicy(load.chunk, load.call_s), max_batch=16)
    pipe.send(host.serve_in_thread(address))
    pipe.recv()
    pipe.send(host.batches)
    host.stop()


def _worker(load: Load, index: int, link: Link, barrier: Any, results: Any) -> None:
    remote = RemotePolicy(FreePolicy(load.chunk).spec, link, name=f"worker-{index}")
    latencies: list[float] = []
    ask = remote.act

    def timed(requests: Sequence[ActRequest]) -> list[ActReply]:
        begun = time.perf_counter()
        replies = ask(requests)
        latencies.append(time.perf_counter() - begun)
        return replies

    remote.act = timed  # type: ignore[method-assign] # timed from outside
    if load.core is not None:
        os.sched_setaffinity(0, {load.core})
    env = FreeEnv(load.steps_s[index], busy=load.core is not None)
    barrier.wait()
    computed = time.process_time()
    steps, took = play(remote, index, load.chunk, env, load.seconds)
    busy = (time.process_time() - computed) / took
    results.put(Worked(index, steps / took, float(np.percentile(latencies, 99)), busy))


def distributed(load: Load) -> tuple[list[Worked], dict[int, int]]:
    """What the workers came to, in their order, and batch sizes."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    folder = tempfile.TemporaryDirectory(prefix="memvla-")
    host = context.Process(target=_host, args=(load, f"ipc://{folder.name}/host", theirs))
    host.start()
    link = ours.recv()
    barrier, results = context.Barrier(load.workers), context.Queue()
    workers = [context.Process(target=_worker, args=(load, i, link, barrier, results)) for i in range(load.workers)]
    for worker in workers:
        worker.start()
    found = sorted((results.get(timeout=60 + 4 * load.seconds) for _ in workers), key=lambda each: each.index)
    for worker in workers:
        worker.join()
    ours.send("stop")
    batches = ours.recv()
    host.join()
    folder.cleanup()
    return found, batches


def _echo(address: str) -> None:
    socket = zmq.Context.instance().socket(zmq.REP)
    socket.bind(address)
    while socket.recv_multipart(copy=False)[0].bytes != b"stop":
        socket.send(b"x" * 300)
    socket.send(b"")
    socket.close()


def bare_zeromq(seconds: float) -> float:
    """Round trips per second of a bare pair that carries the same two frames."""
    context = mp.get_context("spawn")
    folder = tempfile.TemporaryDirectory(prefix="memvla-")
    address = f"ipc://{folder.name}/echo"
    peer = context.Process(target=_echo, args=(address,))
    peer.start()
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.connect(address)
    frame = np.zeros((256, 256, 3), np.uint8)
    count, begun = 0, 0.0
    for count in range(10**9):
        if count == 50:
            begun = time.perf_counter()
        if count > 50 and time.perf_counter() - begun > seconds:
            break
        socket.send_multipart([b"go", frame.data, frame.data], copy=False)
        socket.recv()
    rate = (count - 50) / (time.perf_counter() - begun)
    socket.send(b"stop")
    socket.recv()
    peer.join()
    folder.cleanup()
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--only-batching", action="store_true")
    given = parser.parse_args()
    seconds = given.seconds
    if not given.only_batching:
        cost(seconds)
    batching(2 * seconds)
    overlap(seconds)


def cost(seconds: float) -> None:
    """Steps per second of a free policy on a free environment."""
    print(f"inline, one call a step:            {inline(1, seconds):9.0f} steps/s")
    print(f"inline, chunk 8:                    {inline(8, seconds):9.0f} steps/s")
    bare = bare_zeromq(seconds)
    print(f"bare ZeroMQ pair, the same frames:  {bare:9.0f} round trips/s")
    for workers, chunk in ((1, 1), (2, 1), (4, 1), (8, 1), (1, 8), (2, 8)):
        found, _ = distributed(Load(workers, chunk, (0.0,) * workers, 0.0, seconds))
        total, p99 = sum(each.rate for each in found), max(each.p99_s for each in found)
        print(
            f"{workers} worker(s), chunk {chunk}:              {total:9.0f} steps/s   p99 {1000 * p99:6.2f} ms   "
            f"{total / chunk / bare:.2f} of the bare pair's calls"
        )


def batching(seconds: float) -> None:
    """Share of the ideal rate when a call takes 20 ms whatever the batch and a step 15 ms."""
    ideal = 1 / (0.020 + 0.015)
    cases = [
        ("8 lock-step sessions", (0.015,) * 8),
        ("4 lock-step sessions", (0.015,) * 4),
        ("7 beside one slow", (*(0.015,) * 7, 0.3)),
    ]
    for name, steps in cases:
        found, batches = distributed(Load(len(steps), 1, steps, 0.020, seconds))
        share = fmean(each.rate for each in found if steps[each.index] == 0.015) / ideal
        print(f"{name:24s} {100 * share:5.1f} % of the ideal rate   batches {dict(sorted(batches.items()))}")


def overlap(seconds: float) -> None:
    """How busy workers keep one core with steps of 15 ms, while calls of 10 ms are in flight elsewhere."""
    core = min(os.sched_getaffinity(0))
    for workers in (1, 2):
        found, _ = distributed(Load(workers, 1, (0.015,) * workers, 0.010, seconds, core))
        print(f"{workers} worker(s) on one core:     the core is busy {100 * sum(each.busy for each in found):5.1f} %")


if __name__ == "__main__":
    main()
