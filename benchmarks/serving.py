"""What the server costs and what batching brings: calls a second over real sockets, and latency percentiles.

    python benchmarks/serving.py [--policy memoryvla] [--clients 1,8,32] [--seconds 5] [--batching fast]

Prints, for every number of WebSocket clients: calls a second, milliseconds a call (p50, p95, p99), mean batch; then the
ratios to one client, and the server's overhead against the policy called in this process. Every answer is compared with
that of the policy alone (bit for bit with --batching exact).
"""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.sync.client import connect

from envs.spec import EpisodeId, Floats, Observation
from harness.config import load_policy_file, policy_files
from harness.plan import context_of
from harness.serving.app import build_app
from harness.serving.background import running
from harness.serving.settings import ServeSettings
from policies.base import ActRequest, EpisodeStart, Policy
from policies.remote import codec
from suites.protocol import load_suite

SUITE = load_suite("lab_memory")
LIVE = EpisodeId(SUITE.name, "benchmark", 0)


@dataclass
class Client:
    """One client's calls: seconds each, and how far its answers are from the policy's own."""

    seconds: list[float]
    apart: float = 0.0


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--policy", default="memoryvla")
    words.add_argument("--clients", default="1,8,32")
    words.add_argument("--seconds", type=float, default=5.0)
    words.add_argument("--batching", default="fast", choices=("exact", "fast"))
    given = words.parse_args()
    frames = _frames(16)
    alone_s, expected = _alone(_make(given.policy, given.batching), frames)
    print(f"{given.policy}, {given.batching} batching; in this process, one session: {1 / alone_s:.1f} calls/s")
    rates: dict[int, float] = {}
    for many in map(int, given.clients.split(",")):
        app = build_app(_make(given.policy, given.batching), SUITE, ServeSettings(max_batch=32))
        with running(app) as url:
            begun = time.perf_counter()
            clients = _drive(url, many, frames, expected, given.seconds)
            took = time.perf_counter() - begun
            batches = app.state.served.sessions.engine.host.batches
        _print(many, clients, took, batches)
        rates[many] = sum(len(client.seconds) for client in clients) / took
    first = min(rates)
    for many, rate in rates.items():
        print(f"{many} clients / {first} client: {rate / rates[first]:.2f}")
    print(f"{first} client over the server / in this process: {rates[first] * alone_s:.2f}")


def _make(name: str, batching: str) -> Policy:
    from harness.cluster import PolicyConfig

    data = {**load_policy_file(policy_files()[name]), "batching": batching, "max_batch": 32}
    target = data.pop("target")
    options = {key: value for key, value in data.items() if key not in ("name", "title")}
    return PolicyConfig(name, target, options).build(context_of(SUITE))


def _frames(many: int) -> list[Observation]:
    """Real pictures of one lab episode."""
    env = SUITE.module.make(**SUITE.env)
    env.reset(seed=0, options={"task": SUITE.tasks[0].name, "trial": 0})
    found = [env.observe()]
    for chunk in np.random.default_rng(0).uniform(-1, 1, (many - 1, 4, 7)):
        env.step_chunk(chunk, stop_on_done=False)
        found.append(env.observe())
    return found


def _alone(policy: Policy, frames: list[Observation]) -> tuple[float, list[Floats]]:
    """Seconds a call, and the answers."""
    policy.start([EpisodeStart(LIVE, 0, frames[0].instruction)])
    found, begun = [], 0.0
    for call, seen in enumerate(frames):
        if call == 1:
            begun = time.perf_counter()  # the first call warms up
        found.append(policy.act([ActRequest(LIVE, call, seen)])[0].actions)
    took = (time.perf_counter() - begun) / (len(frames) - 1)
    policy.end([LIVE])
    return took, found


def _drive(url: str, many: int, frames: list[Observation], expected: list[Floats], seconds: float) -> list[Client]:
    clients = [Client([]) for _ in range(many)]
    until = time.perf_counter() + seconds

    def work(client: Client) -> None:
        with connect(url.replace("http", "ws") + "/v1/session", compression=None) as line:

            def ask(**message: Any) -> dict[str, Any]:
                line.send(codec.pack(message))
                answer: dict[str, Any] = codec.unpack(line.recv())  # type: ignore[arg-type] # binary messages only
                assert "error" not in answer, answer
                return answer

            while time.perf_counter() < until:
                episode = {"task": LIVE.task, "trial": LIVE.trial}
                ask(op="begin", instruction=frames[0].instruction, episode=episode)
                for call, seen in enumerate(frames):
                    begun = time.perf_counter()
                    answer = ask(op="act", call=call, step=seen.step, images={"front": seen.images["front"]})
                    client.seconds.append(time.perf_counter() - begun)
                    client.apart = max(client.apart, float(np.abs(answer["actions"] - expected[call]).max()))
                ask(op="end")

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clients


def _print(many: int, clients: list[Client], took: float, batches: dict[int, int]) -> None:
    every = np.array([second for client in clients for second in client.seconds]) * 1000
    p50, p95, p99 = np.percentile(every, [50, 95, 99])
    mean = sum(size * count for size, count in batches.items()) / sum(batches.values())
    apart = max(client.apart for client in clients)
    print(
        f"{many:3d} clients: {len(every) / took:7.1f} calls/s, p50 {p50:.0f} ms, p95 {p95:.0f}, p99 {p99:.0f}, "
        f"mean batch {mean:.1f}, {len(every)} calls, largest difference from the policy alone {apart:.1e}"
    )


if __name__ == "__main__":
    main()
