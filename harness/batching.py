"""PolicyHost: one policy serving the live episodes of many workers, batching what arrives.

One thread owns the socket and the policy. When requests wait, the host knows from learned step times which other
sessions are about to ask, and waits for those, little longer than one policy call takes: with a lock-step policy every
batch is full, one slow session holds nobody, and a policy that costs nothing is never waited for. Where the host could
serve every session alone and have time left, nobody is waited for either.
"""

from __future__ import annotations

import hmac
import logging
import statistics
import threading
import time
import traceback
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from envs.spec import EpisodeId
from harness import wire
from harness.remote import Link
from policies.base import ActRequest, EpisodeStart, OutOfMemory, Policy, PolicyError

log = logging.getLogger("memvla.host")

SPARE_LOAD = 0.9
"""Share of the time that calls of one request each may take before requests are held back for a batch. Below it a held
request only keeps its simulator waiting: simulators that share a core would compute, and then wait, all at once."""


@dataclass
class Session:
    """One worker's episode as the host sees it. `away`: how long its environment takes between reply and request."""

    waiting_since: float | None = None
    replied_at: float | None = None
    away: float | None = None
    spread: float = 0.0

    def due(self) -> float | None:
        """When its next request is expected; None if nothing is known yet."""
        if self.replied_at is None or self.away is None:
            return None
        return self.replied_at + self.away

    def load(self, call_s: float) -> float:
        """Share of the time in which the host would be at work for it, were it served alone; 1 if nothing is known."""
        if self.away is None:
            return 1.0
        return call_s / (call_s + self.away) if call_s else 0.0

    def patience(self, call_s: float) -> float:
        """How much later than expected it may come before it is given up: twice its usual spread, and a quarter of a
        policy call at least, since a session that just missed a batch waits for a whole one; but never a whole call."""
        return min(call_s, max(0.001, 2 * self.spread, 0.25 * call_s))


@dataclass
class Scheduler:
    """Decides when the waiting requests become a batch. Times are seconds of one monotonic clock.

    call_s: learned duration of a policy call (0 until the first one: then nobody is waited for).
    """

    max_batch: int
    call_s: float = 0.0
    sessions: dict[EpisodeId, Session] = field(default_factory=dict)

    def started(self, episode: EpisodeId) -> None:
        self.sessions[episode] = Session()

    def ended(self, episode: EpisodeId) -> None:
        self.sessions.pop(episode, None)

    def arrived(self, episode: EpisodeId, now: float) -> None:
        session = self.sessions.setdefault(episode, Session())
        session.waiting_since = now
        if session.replied_at is not None:
            took = now - session.replied_at
            before = took if session.away is None else session.away
            session.spread = 0.7 * session.spread + 0.3 * abs(took - before)
            session.away = 0.7 * before + 0.3 * took

    def served(self, episodes: Sequence[EpisodeId], now: float, took: float) -> None:
        """A batch was answered."""
        self.call_s = took if self.call_s == 0.0 else 0.8 * self.call_s + 0.2 * took
        for episode in episodes:
            session = self.sessions.get(episode)
            if session:
                session.waiting_since, session.replied_at = None, now

    def hold(self, now: float) -> float:
        """Seconds to go on waiting before the next batch (0: run it now). Call only while a request waits."""
        waiting = [s.waiting_since for s in self.sessions.values() if s.waiting_since is not None]
        if len(waiting) >= min(self.max_batch, len(self.sessions)):
            return 0.0
        if sum(session.load(self.call_s) for session in self.sessions.values()) < SPARE_LOAD:
            return 0.0
        # A quarter more than a call: two groups that take turns meet again, and stay together.
        limit = min(waiting) + 1.25 * self.call_s
        until = now
        for session in self.sessions.values():
            due = session.due() if session.waiting_since is None else None
            last = None if due is None else due + session.patience(self.call_s)
            if due is not None and last is not None and due <= limit and now < last:
                until = max(until, last)
        return until - now


@dataclass(frozen=True)
class Waiting:
    """A start that found every slot taken: who asked, under which number, and until when it may wait."""

    sender: bytes
    number: int
    start: EpisodeStart
    until: float


class PolicyHost:
    """Owns one policy; answers workers over ZeroMQ. `serve` runs until `stop`.

    A start beyond the policy's slots waits, in order of arrival, until a live episode ends; none is ever evicted.

    max_batch: most requests in one policy call. start_wait_s: how long a start may wait for a slot before it is
    answered with an error (None: nine tenths of the time callers wait for an answer, so that the error reaches them).
    incarnation: a fresh random name, so that a worker never goes on with another host that happens to listen at the
    same address.
    """

    def __init__(self, policy: Policy, *, max_batch: int = 16, start_wait_s: float | None = None) -> None:
        self.policy = policy
        self.incarnation = uuid.uuid4().hex
        self.batches: dict[int, int] = {}
        self.calls_s = 0.0
        self._scheduler = Scheduler(max_batch)
        self._owners: dict[EpisodeId, bytes] = {}
        self._queue: list[tuple[bytes, int, ActRequest]] = []
        self._waiting: list[Waiting] = []
        self._start_wait_s = start_wait_s
        self._forget: list[str] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._gate: ThreadAuthenticator | None = None
        self._calling_since: float | None = None

    def serve_in_thread(self, address: str, *, timeout_s: float = 300, encrypt: bool = False) -> Link:
        """Bind `address` (`ipc://…`, or `tcp://host:*`), serve from a thread of its own, return how to reach it.

        encrypt: CURVE on the socket; only holders of the returned link's keys get in (for anything but `ipc`).
        """
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        link = Link(address, self.incarnation, timeout_s)
        if encrypt:
            link = self._lock(context, socket, link)
        if self._start_wait_s is None:
            self._start_wait_s = 0.9 * timeout_s
        socket.bind(address)
        self._thread = threading.Thread(target=self._serve, args=(socket,), name="policy-host", daemon=True)
        self._thread.start()
        return replace(link, address=socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def _lock(self, context: zmq.Context[zmq.Socket[bytes]], socket: zmq.Socket[bytes], link: Link) -> Link:
        """Make `socket` a CURVE server that lets in one key pair only, made here and returned in the link."""
        (server_public, server_secret), (public, secret) = zmq.curve_keypair(), zmq.curve_keypair()
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, server_secret)
        socket.setsockopt_string(zmq.ZAP_DOMAIN, "memvla")
        self._gate = ThreadAuthenticator(context)
        self._gate.start()
        self._gate.configure_curve_callback("memvla", _OnlyKey(public))
        return replace(
            link,
            server_public=server_public.decode(),
            client_public=public.decode(),
            client_secret=secret.decode(),
        )

    def stop(self) -> None:
        """Stop serving and free the policy."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=10)
        if self._gate:
            self._gate.stop()
        self.policy.close()

    def forget(self, worker: str) -> None:
        """A worker died: free the state of its episodes (carried out by the serving thread)."""
        self._forget.append(worker)

    def call_age(self) -> float:
        """Seconds since the policy call now at work began; 0 when none is."""
        return 0.0 if self._calling_since is None else time.perf_counter() - self._calling_since

    def stats(self) -> dict[str, Any]:
        """Batch sizes seen (size -> count), seconds in the policy, episodes alive, starts waiting for a slot, bytes of
        memory that one live episode takes."""
        return {
            "batches": dict(self.batches),
            "seconds": self.calls_s,
            "live": self.policy.live(),
            "waiting": len(self._waiting),
            "memory_per_episode": self.policy.memory_per_episode(),
        }

    def supply(self, sample: Sequence[bytes], sizes: Sequence[int], rounds: int = 4) -> tuple[dict[int, float], float]:
        """Measure the policy with a request that a worker sampled, while no episode is alive: seconds of a call by
        number of requests in it (the median of `rounds`), and CPUs kept busy in a call."""
        request = wire.request_from_wire(wire.unpack(sample))
        took, busy, whole = dict[int, float](), 0.0, 0.0
        for size in sizes:
            episodes = [replace(request.episode, trial=trial) for trial in range(size)]
            starts = [EpisodeStart(episode, 0, request.observation.instruction) for episode in episodes]
            self.policy.start(starts)
            times = []
            try:
                for call in range(rounds + 1):
                    begun, used = time.perf_counter(), time.process_time()
                    self.policy.act([replace(request, episode=episode, call=call) for episode in episodes])
                    if call:  # the first of a size may compile, or find its memory
                        times.append(time.perf_counter() - begun)
                        busy, whole = busy + time.process_time() - used, whole + times[-1]
            finally:
                self.policy.end(episodes)
            took[size] = statistics.median(times)
        return took, busy / whole if whole else 0.0

    # ------------------------------------------------------------------ the serving thread

    def _serve(self, socket: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        while not self._stop.is_set():
            hold = self._scheduler.hold(time.perf_counter()) if self._queue else 0.1
            # A poll counts whole milliseconds: shorter holds are polled without sleeping.
            if hold > 0 and (not self._queue or hold >= 0.001):
                poller.poll(int(hold * 1000))
            while socket.poll(0):
                self._receive(socket)
            while self._forget:
                self._drop_worker(self._forget.pop())
            self._admit(socket)
            if self._queue and self._scheduler.hold(time.perf_counter()) <= 0:
                self._run_batch(socket)
        socket.close()

    def _receive(self, socket: zmq.Socket[bytes]) -> None:
        frames: list[zmq.Frame] = socket.recv_multipart(copy=False)
        identity, *parts = frames
        sender = identity.bytes
        number = -1
        try:
            message = wire.unpack([part.buffer for part in parts])
            number = int(message["number"])
            if message["host"] != self.incarnation:
                raise PolicyError("the policy host was restarted: the state of this episode is lost")
            if message["op"] == "act":
                request = wire.request_from_wire(message["request"])
                self.policy.check(request)
                self._scheduler.arrived(request.episode, time.perf_counter())
                self._queue.append((sender, number, request))
                return
            if message["op"] == "start" and self._must_wait(start := wire.start_from_wire(message["start"])):
                until = time.perf_counter() + (self._start_wait_s or 0.0)
                self._waiting.append(Waiting(sender, number, start, until))
                return
            self._control(sender, message)
            self._send(socket, sender, {"number": number})
        except Exception as error:
            self._send(socket, sender, {"number": number, "error": _one_line(error)})

    def _control(self, sender: bytes, message: dict[str, Any]) -> None:
        """start, instruction_changed and end: carried out at once, in the order of arrival."""
        if message["op"] == "start":
            self._start(sender, wire.start_from_wire(message["start"]))
        elif message["op"] == "instruction":
            episode = wire.episode_from_wire(message["episode"])
            self.policy.instruction_changed(episode, str(message["instruction"]), keep_memory=bool(message["keep"]))
        elif message["op"] == "end":
            self._end(wire.episode_from_wire(message["episode"]))
        else:
            raise wire.WireError(f"unknown operation {message['op']!r}")

    def _start(self, sender: bytes, start: EpisodeStart) -> None:
        self.policy.start([start])
        self._owners[start.episode] = sender
        self._scheduler.started(start.episode)

    def _full(self) -> bool:
        slots = self.policy.spec.slots
        return slots is not None and len(self._owners) >= slots

    def _must_wait(self, start: EpisodeStart) -> bool:
        """Whether a start has to queue for a slot. One that is alive already is no candidate: the policy refuses it."""
        if any(waiting.start.episode == start.episode for waiting in self._waiting):
            raise PolicyError(f"episode {start.episode} already waits for a slot: it was started twice")
        return start.episode not in self._owners and (self._full() or bool(self._waiting))

    def _admit(self, socket: zmq.Socket[bytes]) -> None:
        """Start those that waited, the first come first, while there are slots; give up those that waited too long."""
        while self._waiting and not self._full():
            waiting = self._waiting.pop(0)
            try:
                self._start(waiting.sender, waiting.start)
                answer: dict[str, Any] = {}
            except Exception as error:
                answer = {"error": _one_line(error)}
            if not self._send(socket, waiting.sender, {"number": waiting.number, **answer}) and not answer:
                self._end(waiting.start.episode)  # whoever asked is gone: nobody would ever end it
        now = time.perf_counter()
        for waiting in [w for w in self._waiting if now >= w.until]:
            self._waiting.remove(waiting)
            late = (
                f"no slot came free for {waiting.start.episode} within {self._start_wait_s:g} s: all "
                f"{self.policy.spec.slots} are held by live episodes; end some first, or raise policy.slots"
            )
            self._send(socket, waiting.sender, {"number": waiting.number, "error": late})

    def _end(self, episode: EpisodeId) -> None:
        self._owners.pop(episode, None)
        self._scheduler.ended(episode)
        self._queue = [waiting for waiting in self._queue if waiting[2].episode != episode]
        self._waiting = [waiting for waiting in self._waiting if waiting.start.episode != episode]
        self.policy.end([episode])

    def _drop_worker(self, worker: str) -> None:
        mark = f"{worker}/".encode()
        self._waiting = [waiting for waiting in self._waiting if not waiting.sender.startswith(mark)]
        for episode in [e for e, owner in self._owners.items() if owner.startswith(mark)]:
            try:
                self._end(episode)
            except Exception:
                log.exception("the policy failed to end %s of a lost worker", episode)

    def _run_batch(self, socket: zmq.Socket[bytes]) -> None:
        batch, self._queue = self._queue[: self._scheduler.max_batch], self._queue[self._scheduler.max_batch :]
        begun = self._calling_since = time.perf_counter()
        answers = self._act([request for _, _, request in batch])
        ended, self._calling_since = time.perf_counter(), None
        self.calls_s += ended - begun
        self.batches[len(batch)] = self.batches.get(len(batch), 0) + 1
        self._scheduler.served([request.episode for _, _, request in batch], ended, ended - begun)
        for (sender, number, _), answer in zip(batch, answers, strict=True):
            self._send(socket, sender, {"number": number, **answer})

    def _act(self, requests: list[ActRequest]) -> list[dict[str, Any]]:
        """One answer per request. An error answers all: whose state it spoiled cannot be known.

        A batch that does not fit into memory is split, and no later one is as large.
        """
        try:
            replies = self.policy.act(requests)
            if len(replies) != len(requests):
                raise PolicyError(f"{len(requests)} replies were due, the policy gave {len(replies)}")
            return [{"reply": wire.reply_to_wire(reply)} for reply in replies]
        except OutOfMemory as error:
            half = len(requests) // 2
            if not half:
                return [{"error": _one_line(error)}]
            log.warning("%d episodes do not fit in one call, %d at most from now on: %s", len(requests), half, error)
            self._scheduler.max_batch = min(half, self._scheduler.max_batch)
            return [*self._act(requests[:half]), *self._act(requests[half:])]
        except Exception as error:
            log.error("policy call failed:\n%s", traceback.format_exc())
            return [{"error": _one_line(error)}] * len(requests)

    def _send(self, socket: zmq.Socket[bytes], receiver: bytes, message: dict[str, Any]) -> bool:
        """Whether there was somebody to send to."""
        try:
            socket.send_multipart([receiver, *wire.pack(message)], copy=False)
        except zmq.ZMQError as error:
            log.warning("worker %r is gone: %s", receiver, error)
            return False
        return True


class _OnlyKey:
    """Credentials provider for pyzmq's authenticator: lets in the holder of one key."""

    def __init__(self, public: bytes) -> None:
        self._known = public

    def callback(self, domain: str, key: bytes) -> bool:
        return hmac.compare_digest(key, self._known)


def _one_line(error: Exception) -> str:
    kind = "" if isinstance(error, PolicyError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())[:500]
