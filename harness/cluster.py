"""Where workers and policy hosts live: in this process (`inline`), or as Ray actors (`local`, `address`).

Ray is the control plane: it places, starts and watches actors. Policy calls go straight from worker to host over
ZeroMQ (see batching.py and remote.py).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from envs.runtime import Runtime
from harness.batching import PolicyHost
from harness.plan import EpisodeSpec, Stage
from harness.remote import Link
from harness.runtimes import environment_of, python_of
from harness.worker import Ready, Result, RolloutWorker
from policies.base import Policy, PolicyContext, PolicySpec


class ClusterError(RuntimeError):
    """Ray, a worker or a policy host could not be started. The message names the cure."""


class HostLost(ClusterError):
    """The process of a policy host ended before it could serve: no fault of the policy's, so another may be tried."""


class HeadLost(ClusterError):
    """Ray's head ended, and every actor with it or soon after."""


class WorkerLost(RuntimeError):
    """The process of a worker ended, or had to be ended, while it ran an episode or got ready for one."""


Answer = Result | Ready | WorkerLost
"""What comes of something a worker was told to do."""

RAY_STARTS = 3
"""Times Ray is started on this machine when it does not come up in its time."""

HEAD_LOOKS = 3
"""Looks in a row at which the head of a cluster of several nodes cannot be reached before it counts as gone."""

ANSWER_S = 120.0
"""Seconds within which a worker process says what it is doing. SAPIEN's first picture on a software renderer holds the
interpreter all through (8 s on an idle machine, 49 s on a busy one), and no thread can answer meanwhile."""


@dataclass(frozen=True)
class PolicyConfig:
    """How to make a policy: `target` is `module:callable`, called with the context and the options."""

    name: str
    target: str
    options: Mapping[str, Any]

    def build(self, context: PolicyContext) -> Policy:
        """Import and call the target. Whatever it raises is raised here."""
        module, _, attribute = self.target.partition(":")
        policy: Policy = getattr(importlib.import_module(module), attribute)(context, **self.options)
        return policy


@dataclass
class Host:
    """A policy host as the driver sees it. link: what workers are given (inline: the policy itself)."""

    spec: PolicySpec
    link: Policy | Link
    actor: Any = None


@dataclass
class Worker:
    """A rollout worker as the driver sees it.

    link: the host it was told of last; ticket: what it is at work on (None: idle), an episode or getting ready; began:
    when that began; died: how often in a row this place's process died before it was ready.
    """

    name: str
    actor: Any
    number: int = 0
    episode: EpisodeSpec | None = None
    task: str = ""
    link: Policy | Link | None = None
    ticket: Any = None
    began: float = 0.0
    died: int = 0
    done: int = 0
    first_rss_mb: float = 0.0


class Cluster(ABC):
    """Starts hosts and workers, hands out episodes, collects results."""

    def __init__(self) -> None:
        self._count = 0

    @abstractmethod
    def host(self, policy: PolicyConfig, context: PolicyContext, *, max_batch: int, timeout_s: float) -> Host:
        """Build the policy and start serving it. Raises ClusterError with the policy's own error."""

    @abstractmethod
    def worker(self, runtime: Runtime) -> Worker:
        """Start a rollout worker in the Python environment of `runtime`."""

    def prepare(self, worker: Worker, stage: Stage, link: Policy | Link) -> None:
        """Tell the worker which suite and policy come next; `finished` will tell when it is ready."""
        worker.link, worker.began = link, time.monotonic()
        worker.ticket = self._call(worker, "prepare", stage, link)

    def submit(self, worker: Worker, episode: EpisodeSpec) -> None:
        """Let the worker, which is ready, run the episode; `finished` will tell."""
        worker.episode, worker.began = episode, time.monotonic()
        worker.ticket = self._call(worker, "run", episode)

    @abstractmethod
    def _call(self, worker: Worker, method: str, *given: Any) -> Any:
        """Let the worker do this; returns a ticket for the answer and does not wait."""

    @abstractmethod
    def finished(self, workers: Iterable[Worker], timeout_s: float) -> list[tuple[Worker, Answer]]:
        """Workers that came to an end of what they were at, within `timeout_s` seconds; they are idle now.

        Raises ClusterError when one cannot get ready for a reason that another would meet as well.
        """

    @abstractmethod
    def doing(self, worker: Worker) -> tuple[str, float]:
        """The phase a working worker is in and its age in seconds. Raises WorkerLost if it does not answer."""

    @abstractmethod
    def kill(self, worker: Worker, host: Host | None) -> None:
        """End the worker's process and free the policy state of its episode."""

    @abstractmethod
    def alive(self, host: Host, call_limit_s: float) -> bool:
        """Whether the host's process answers and no policy call in it is older than `call_limit_s`."""

    @abstractmethod
    def supply(
        self, host: Host, worker: Worker, episode: EpisodeSpec, sizes: list[int]
    ) -> tuple[dict[int, float], float]:
        """`PolicyHost.supply` of a host that serves nobody, with the first request of this episode, from an idle
        worker."""

    @abstractmethod
    def release(self, host: Host) -> None:
        """Stop a host and free its policy."""

    def require_gpus(self, hosts: int, workers: int, limit_s: float) -> None:  # noqa: B027 - none is reserved
        """Raise ClusterError where the machines have fewer GPUs than so many hosts and workers reserve. A cluster that
        was joined may grow yet: `limit_s` seconds are waited."""

    def check(self) -> None:  # noqa: B027 - nothing to check where everything is one process
        """Raise HeadLost when what holds the actors together is gone."""

    def restart(self) -> None:  # noqa: B027
        """After HeadLost: begin anew, without any worker or host. Raises ClusterError where that cannot be done."""

    @abstractmethod
    def stop(self) -> None:
        """End everything that was started."""

    def _name(self) -> str:
        self._count += 1
        return f"worker-{self._count}"


class InlineCluster(Cluster):
    """The same classes in this process, one worker, no Ray: for debugging and tests."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[Worker] = []

    def host(self, policy: PolicyConfig, context: PolicyContext, *, max_batch: int, timeout_s: float) -> Host:
        built = policy.build(context)
        return Host(built.spec, built)

    def worker(self, runtime: Runtime) -> Worker:
        if runtime.name and Path(sys.executable) != python_of(runtime):
            raise ClusterError(
                f"runtime {runtime.name!r} has a Python environment of its own, so its simulator cannot run in this "
                "process; use cluster=local"
            )
        gc.collect()  # no process ends with a worker here: what the last one kept must not count as this one's
        worker = Worker(self._name(), None)
        worker.actor = RolloutWorker(worker.name)
        self._open.append(worker)
        return worker

    def _call(self, worker: Worker, method: str, *given: Any) -> Any:
        return partial(getattr(worker.actor, method), *given)

    def finished(self, workers: Iterable[Worker], timeout_s: float) -> list[tuple[Worker, Answer]]:
        for worker in workers:
            if worker.ticket is not None:
                call, worker.ticket = worker.ticket, None
                return [(worker, call())]
        return []

    def doing(self, worker: Worker) -> tuple[str, float]:
        phase: tuple[str, float] = worker.actor.phase()
        return phase

    def kill(self, worker: Worker, host: Host | None) -> None:
        self._open.remove(worker)
        worker.actor.close()

    def alive(self, host: Host, call_limit_s: float) -> bool:
        return True

    def supply(
        self, host: Host, worker: Worker, episode: EpisodeSpec, sizes: list[int]
    ) -> tuple[dict[int, float], float]:
        assert isinstance(host.link, Policy)
        return PolicyHost(host.link).supply(worker.actor.sample(episode), sizes)

    def release(self, host: Host) -> None:
        if isinstance(host.link, Policy):
            host.link.close()

    def stop(self) -> None:
        for worker in list(self._open):
            self.kill(worker, None)


class HostActor:
    """A PolicyHost inside a Ray actor."""

    def __init__(self, policy: PolicyConfig, context: PolicyContext, max_batch: int) -> None:
        self._host = PolicyHost(policy.build(context), max_batch=max_batch)

    def serve(self, timeout_s: float, address: str) -> tuple[PolicySpec, Link]:
        """Start serving at `address` ("": wherever other nodes can reach it, encrypted); returns what workers need."""
        if address:
            return self._host.policy.spec, self._host.serve_in_thread(address, timeout_s=timeout_s)
        import ray

        reachable = f"tcp://{ray.util.get_node_ip_address()}:*"
        return self._host.policy.spec, self._host.serve_in_thread(reachable, timeout_s=timeout_s, encrypt=True)

    def forget(self, worker: str) -> None:
        self._host.forget(worker)

    def call_age(self) -> float:
        return self._host.call_age()

    def supply(self, sample: list[bytes], sizes: list[int]) -> tuple[dict[int, float], float]:
        return self._host.supply(sample, sizes)

    def stop(self) -> None:
        self._host.stop()


class RayCluster(Cluster):
    """Workers and hosts as Ray actors, on this machine or on a cluster that runs already."""

    def __init__(
        self,
        *,
        address: str | None = None,
        cpus: int | None = None,
        gpus_per_host: float = 0.0,
        gpus_per_worker: float = 0.0,
    ) -> None:
        super().__init__()
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
        if address is None and "RAY_AUTH_MODE" not in os.environ:
            # Ray listens on this machine's network and runs whatever it is sent: only who has the token may speak.
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
        import ray

        self._ray = ray
        # Sockets of one machine lie in a folder that this user alone can read; across nodes there are none.
        self._sockets = _private_folder() if address is None else None
        self._address, self._cpus = address, cpus
        self._gpus_per_host, self._gpus_per_worker = gpus_per_host, gpus_per_worker
        self._actors: list[Any] = []
        self._hosts = 0
        self._unreachable = 0
        self._start()

    def _start(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        local: dict[str, Any] = {"include_dashboard": False, "num_cpus": self._cpus, "object_store_memory": 256 * 2**20}
        more = {} if self._address else local
        for attempt in range(1, RAY_STARTS + 1):
            before = _children()
            try:
                # `local`: a Ray of our own, also where another one runs on this machine.
                self._ray.init(address=self._address or "local", **quiet, **more)
                break
            except Exception as error:
                # On a busy machine its own wait for its parts, which nobody can set, may be too short.
                if self._address is None and "timed out" in str(error) and attempt < RAY_STARTS:
                    self._ray.shutdown()
                    for process in _children() - before:  # which Ray itself leaves behind then
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(process, signal.SIGKILL)
                    continue
                where = f"the Ray cluster at {self._address}" if self._address else "Ray on this machine"
                raise ClusterError(f"could not reach or start {where}: {error}; try cluster=inline") from error
        self._head = str(self._ray.get_runtime_context().gcs_address).rpartition(":")

    def check(self) -> None:
        """Raises HeadLost once its port is closed; across nodes only after several looks, a network may stumble.

        Ray itself would end this process after a minute, without a word to the user.
        """
        try:
            socket.create_connection((self._head[0], int(self._head[2])), timeout=5).close()
            self._unreachable = 0
        except OSError as error:
            self._unreachable += 1
            if self._address is None or self._unreachable >= HEAD_LOOKS:
                raise HeadLost(
                    f"Ray's head at {self._head[0]}:{self._head[2]} is gone ({error}); finished episodes are kept: "
                    "start the cluster again, then run the same command again"
                ) from error

    def restart(self) -> None:
        if self._address is not None:
            raise HeadLost(
                f"Ray's head at {self._address} is gone; finished episodes are kept: start the cluster again, then run "
                "the same command again"
            )
        self._actors.clear()
        self._ray.shutdown()
        self._start()

    def require_gpus(self, hosts: int, workers: int, limit_s: float) -> None:
        wanted = hosts * self._gpus_per_host + workers * self._gpus_per_worker
        until = time.monotonic() + (limit_s if self._address else 0.0)
        while wanted > (found := self._ray.cluster_resources().get("GPU", 0.0)):
            if time.monotonic() >= until:
                raise ClusterError(
                    f"{wanted:g} GPUs are asked for, and Ray finds {found:g}: {hosts} x cluster.gpus_per_host="
                    f"{self._gpus_per_host:g} + {workers} x cluster.gpus_per_worker={self._gpus_per_worker:g}; reserve "
                    "less, or join a cluster that has them (cluster.address=HOST:PORT)"
                )
            time.sleep(1.0)

    def host(self, policy: PolicyConfig, context: PolicyContext, *, max_batch: int, timeout_s: float) -> Host:
        actor = (
            self._ray.remote(HostActor)
            .options(num_cpus=0, num_gpus=self._gpus_per_host, runtime_env=self._surroundings(Runtime()))
            .remote(policy, context, max_batch)
        )
        self._hosts += 1
        address = f"ipc://{self._sockets.name}/{self._hosts}" if self._sockets else ""
        try:
            serving = actor.serve.remote(timeout_s, address)
            while not self._ray.wait([serving], timeout=5.0)[0]:
                self.check()
            spec, link = self._ray.get(serving)
        except self._ray.exceptions.RayError as error:
            died = isinstance(error, self._ray.exceptions.RayActorError) and not error.actor_init_failed
            kind = HostLost if died else ClusterError
            raise kind(f"policy {policy.name} could not be started: {_cause(error)}") from error
        self._actors.append(actor)
        return Host(spec, link, actor)

    def worker(self, runtime: Runtime) -> Worker:
        name = self._name()
        actor = (
            self._ray.remote(concurrency_groups={"control": 1})(RolloutWorker)
            .options(num_cpus=1, num_gpus=self._gpus_per_worker, runtime_env=self._surroundings(runtime))
            .remote(name, draws_on_gpu=self._gpus_per_worker > 0)
        )
        self._actors.append(actor)
        return Worker(name, actor)

    def _surroundings(self, runtime: Runtime) -> dict[str, Any]:
        """Ray's runtime_env: the right Python, and our own packages (nothing else of ours) on its path."""
        return {"py_executable": str(python_of(runtime)), "env_vars": environment_of(runtime)}

    def _call(self, worker: Worker, method: str, *given: Any) -> Any:
        return getattr(worker.actor, method).remote(*given)

    def finished(self, workers: Iterable[Worker], timeout_s: float) -> list[tuple[Worker, Answer]]:
        tickets = {worker.ticket: worker for worker in workers if worker.ticket is not None}
        if not tickets:
            return []
        done, _ = self._ray.wait(list(tickets), num_returns=1, timeout=timeout_s)
        found = [(tickets[ticket], self._answer(tickets[ticket])) for ticket in done]
        for worker, _ in found:
            worker.ticket = None
        return found

    def _answer(self, worker: Worker) -> Answer:
        try:
            answer: Answer = self._ray.get(worker.ticket)
        except self._ray.exceptions.RayError as error:
            if isinstance(error, self._ray.exceptions.RayActorError) and not error.actor_init_failed:
                return WorkerLost(f"the worker process died ({_cause(error)})")
            if worker.episode is None:
                raise ClusterError(f"{worker.name} could not be started: {_cause(error)}") from error
            return WorkerLost(f"the worker failed: {_cause(error)}")
        return answer

    def doing(self, worker: Worker) -> tuple[str, float]:
        try:
            phase: tuple[str, float] = self._ray.get(
                worker.actor.phase.options(concurrency_group="control").remote(), timeout=ANSWER_S
            )
        except self._ray.exceptions.RayError as error:
            raise WorkerLost(f"the worker process does not answer ({_cause(error)})") from error
        return phase

    def kill(self, worker: Worker, host: Host | None) -> None:
        self._ray.kill(worker.actor)
        if worker.actor in self._actors:
            self._actors.remove(worker.actor)
        if host is not None and host.actor is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                host.actor.forget.remote(worker.name)

    def alive(self, host: Host, call_limit_s: float) -> bool:
        try:
            age: float = self._ray.get(host.actor.call_age.remote(), timeout=10)
        except self._ray.exceptions.RayError:
            return False
        return age < call_limit_s

    def supply(
        self, host: Host, worker: Worker, episode: EpisodeSpec, sizes: list[int]
    ) -> tuple[dict[int, float], float]:
        try:
            sample = self._ray.get(worker.actor.sample.remote(episode))
            measured: tuple[dict[int, float], float] = self._ray.get(host.actor.supply.remote(sample, sizes))
        except self._ray.exceptions.RayError as error:
            raise ClusterError(f"the policy could not be measured: {_cause(error)}") from error
        return measured

    def release(self, host: Host) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.get(host.actor.stop.remote(), timeout=15)
        self._ray.kill(host.actor)
        self._actors.remove(host.actor)

    def stop(self) -> None:
        for actor in self._actors:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)
        self._ray.shutdown()
        if self._sockets:
            self._sockets.cleanup()


def _children(of: int | str = "self") -> set[int]:
    """Processes that this one, or the one named, started and that live."""
    found = set()
    for path in Path("/proc", str(of), "task").glob("*/children"):
        with contextlib.suppress(OSError):  # it ended in between
            found |= {int(number) for number in path.read_text().split()}
    return found


def kill_descendants() -> None:
    """End all processes below this one at once. Ray's agents notice only after a minute that their node is gone."""
    below, found = _children(), set[int]()
    while below:
        found |= below
        below = {child for process in below for child in _children(process)} - found
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that this user alone can enter. Those of processes that were killed are taken away first."""
    for old in Path(tempfile.gettempdir()).glob("memvla-sockets-*-*"):
        owner = old.name.split("-")[2]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(old, ignore_errors=True)  # another user's stays
    return tempfile.TemporaryDirectory(prefix=f"memvla-sockets-{os.getpid()}-")


def _cause(error: BaseException) -> str:
    """The innermost message of a Ray error, in one line, without Ray's advice."""
    cause = getattr(error, "cause", None) or error
    lines = [line for line in str(cause).splitlines() if line.strip()]
    text = lines[-1].strip() if lines else ""
    if "Worker exit type:" in text:
        text = text.partition("Worker exit type:")[2].partition("Some common causes")[0].strip()
        return f"exit type {text}"[:200]
    return f"{type(cause).__name__}: {text}"[:500]
