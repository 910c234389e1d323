"""What the server costs, what batching brings, and whether memories stay apart: whole episodes over real sockets.

    python benchmarks/serving.py [--policy memoryvla_lab] [--suite lab_memory] [--clients 1,8,32] [--seconds 20]
                                 [--batching exact]

Episodes of the suite are first run alone, in this process, by the rollout of the evaluation: what the policy was shown
and what it answered is kept. Then clients on WebSockets play them to `memvla serve`, a process of its own: client i
begins with episode i and goes on to the next, a session each, so that every slot sees one scene after another and all
live sessions differ. Printed for every number of clients: calls a second, milliseconds a call (p50, p95, p99), mean
batch, and how many episodes had the digest of the policy alone; then ratios. Exit code 1 where an exact one differs.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

import numpy as np
from websockets.sync.client import connect

from envs.conversions import converter
from envs.spec import EpisodeId, Floats
from harness.cluster import PolicyConfig
from harness.config import load_policy_file, policy_files
from harness.plan import context_of, episodes, scenes
from harness.rollout import run_episode
from policies.base import ActReply, ActRequest, EpisodeStart, Policy
from policies.remote import codec
from suites.protocol import Suite, load_suite

MAX_BATCH = 32


@dataclass
class Played:
    """One episode as the policy went through it alone."""

    start: EpisodeStart
    requests: list[ActRequest] = field(default_factory=list)
    answers: list[Floats] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def digest(self) -> str:
        return digest_of(self.answers)


class Kept(Policy):
    """A policy whose episodes are kept."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.spec = policy, policy.spec
        self.played: dict[EpisodeId, Played] = {}

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        self.policy.start(episodes)
        self.played |= {start.episode: Played(start) for start in episodes}

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        begun = time.perf_counter()
        replies = self.policy.act(requests)
        for request, reply in zip(requests, replies, strict=True):
            kept = self.played[request.episode]
            kept.requests.append(request)
            kept.answers.append(np.asarray(reply.actions, dtype=np.float32))
            kept.seconds.append(time.perf_counter() - begun)
        return replies

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        self.policy.end(episodes)


@dataclass
class Client:
    """What one client saw: seconds of its calls; episodes played, those whose digest differs, and by how much."""

    seconds: list[float] = field(default_factory=list)
    episodes: int = 0
    differ: list[EpisodeId] = field(default_factory=list)
    apart: float = 0.0


def digest_of(answers: Sequence[Floats]) -> str:
    """Over the bits of all answers of an episode."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(chunk, dtype="<f4").tobytes() for chunk in answers)).hexdigest()


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--policy", default="memoryvla_lab", help="a shipped one, or any other")
    words.add_argument("--suite", default="lab_memory")
    words.add_argument("--clients", default="1,8,32")
    words.add_argument("--seconds", type=float, default=20.0, help="for each number of clients")
    words.add_argument("--batching", default="exact", choices=("exact", "fast"))
    given = words.parse_args()
    numbers = [int(number) for number in given.clients.split(",")]
    alone = _alone(load_suite(given.suite), given.policy, given.batching, max(numbers))
    alone_s = float(np.mean([second for played in alone for second in played.seconds[1:]]))
    print(
        f"{given.policy} on {given.suite}, {given.batching} batching: {len(alone)} episodes alone, "
        f"{sum(len(played.answers) for played in alone)} calls, {1 / alone_s:.1f} calls/s in this process"
    )
    rates, differ = {}, 0
    for many in numbers:
        with _server(given) as url:
            begun = time.perf_counter()
            clients = _drive(url, many, alone, given.seconds)
            took = time.perf_counter() - begun
            _print(many, clients, took, _mean_batch(url))
        rates[many] = sum(len(client.seconds) for client in clients) / took
        differ += sum(len(client.differ) for client in clients)
    first = min(rates)
    for many, rate in rates.items():
        print(f"{many} clients / {first} client: {rate / rates[first]:.2f}")
    print(f"{first} client over the server / in this process: {rates[first] * alone_s:.2f}")
    return int(given.batching == "exact" and differ > 0)


def _alone(suite: Suite, name: str, batching: str, most: int) -> list[Played]:
    """Whole episodes of the suite, tasks in turn, as many as there are clients."""
    data = {**load_policy_file(policy_files()[name]), "batching": batching, "max_batch": MAX_BATCH}
    options = {key: value for key, value in data.items() if key not in ("name", "title", "target")}
    kept = Kept(PolicyConfig(name, data["target"], options).build(context_of(suite)))
    env = suite.module.make(**suite.env)
    convert = converter(kept.spec.action, suite.env_spec.action)
    wanted = sorted(scenes(suite, -(-most // len(suite.tasks))), key=lambda scene: scene.trial)[:most]
    for spec in episodes(wanted, suite, kept.spec, seed=0):
        assert run_episode(env, kept, spec, convert).fault is None
    env.close()
    return list(kept.played.values())


@contextmanager
def _server(given: argparse.Namespace) -> Iterator[str]:
    """`memvla serve` on a free port; yields its address."""
    settings = [f"serve.max_batch={MAX_BATCH}", f"policy.max_batch={MAX_BATCH}", f"policy.batching={given.batching}"]
    words = [f"policy={given.policy}", f"suite={given.suite}", *settings, "serve.rate=0", "--port", "0"]
    command = [sys.executable, "-m", "harness.cli", "serve", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            found = None
            while found is None and (line := process.stdout.readline()):
                found = re.search(r"serving on (http://\S+)", line)
            assert found is not None, f"{' '.join(command)} did not start"
            yield found[1]
        finally:
            process.terminate()


def _drive(url: str, many: int, alone: list[Played], seconds: float) -> list[Client]:
    """All clients at once, until the time is up; every client finishes the episode it plays."""
    clients = [Client() for _ in range(many)]
    until = time.perf_counter() + seconds

    def work(first: int, client: Client) -> None:
        with connect(url.replace("http", "ws") + "/v1/session", compression=None) as line:
            for number in itertools.count(first):
                if time.perf_counter() > until:
                    return
                _play(line, alone[number % len(alone)], client)

    threads = [threading.Thread(target=work, args=each) for each in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(client.episodes for client in clients), "a client ended early"
    return clients


def _play(line: Any, played: Played, client: Client) -> None:
    """One session: an episode from its first frame to its last."""

    def ask(**message: Any) -> dict[str, Any]:
        line.send(codec.pack(message))
        answer: dict[str, Any] = codec.unpack(line.recv())
        assert "error" not in answer, answer
        return answer

    name = played.start.episode
    episode = {"suite": name.suite, "task": name.task, "trial": name.trial}
    ask(op="begin", instruction=played.start.instruction, episode=episode)
    answers = []
    for request in played.requests:
        seen = request.observation
        frame: dict[str, Any] = {"images": dict(seen.images)} | ({} if seen.state is None else {"state": seen.state})
        begun = time.perf_counter()
        answer = ask(op="act", call=request.call, step=seen.step, **frame)
        client.seconds.append(time.perf_counter() - begun)
        assert (answer["call"], answer["step"]) == (request.call, seen.step), answer
        answers.append(answer["actions"])
    ask(op="end")
    client.episodes += 1
    gaps = [float(np.abs(one - other).max()) for one, other in zip(answers, played.answers, strict=True)]
    client.apart = max(client.apart, *gaps)
    if digest_of(answers) != played.digest:
        client.differ.append(name)


def _mean_batch(url: str) -> float:
    """Sessions a policy call served, from the server's own figures."""
    with urlopen(f"{url}/metrics") as page:
        lines = [line.split() for line in page.read().decode().splitlines() if line.startswith("memvla_batch_size")]
    figures = {words[0]: float(words[1]) for words in lines}
    return figures["memvla_batch_size_sum"] / figures['memvla_batch_size_bucket{le="+Inf"}']


def _print(many: int, clients: list[Client], took: float, batch: float) -> None:
    every = np.array([second for client in clients for second in client.seconds]) * 1000
    p50, p95, p99 = np.percentile(every, [50, 95, 99])
    episodes = sum(client.episodes for client in clients)
    differ = [name for client in clients for name in client.differ]
    print(
        f"{many:3d} clients, {took:.0f} s: {len(every) / took:.1f} calls/s, p50 {p50:.0f} ms, p95 {p95:.0f}, "
        f"p99 {p99:.0f}, mean batch {batch:.1f}; {len(every)} calls in {episodes} episodes, {episodes - len(differ)} "
        f"with the digest of the policy alone, largest difference {max(client.apart for client in clients):.1e}",
        flush=True,
    )
    for name in differ[:5]:
        print(f"    differs: {name}")


if __name__ == "__main__":
    sys.exit(main())
