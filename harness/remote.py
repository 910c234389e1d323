"""RemotePolicy: the policy of a host in another process, as a worker sees it."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from envs.spec import EpisodeId
from harness import wire
from policies.base import ActReply, ActRequest, EpisodeStart, Policy, PolicyError, PolicySpec


@dataclass(frozen=True)
class Link:
    """Where a policy host listens, and the keys to speak with it (empty: a private socket on this machine).

    Keys are CURVE keys in Z85 text: the host's public one and the pair all workers of this run share.
    """

    address: str
    incarnation: str
    timeout_s: float
    server_public: str = ""
    client_public: str = ""
    client_secret: str = ""


class RemotePolicy(Policy):
    """Sends each call to a policy host and waits for its answer.

    A lost connection is final: nothing reconnects, since the episode's memory is gone with the host. Every operation
    raises PolicyError when the host is lost, does not answer within the link's time, or reports an error.
    """

    def __init__(self, spec: PolicySpec, link: Link, *, name: str) -> None:
        self.spec = spec
        self._link = link
        self._numbers = itertools.count()
        self._lost = ""
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
        # A name of its own: a second connection under a known one would be ignored by the host.
        self._socket.setsockopt(zmq.IDENTITY, f"{name}/{uuid.uuid4().hex[:8]}".encode())
        self._monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        if link.server_public:
            self._socket.setsockopt_string(zmq.CURVE_SERVERKEY, link.server_public)
            self._socket.setsockopt_string(zmq.CURVE_PUBLICKEY, link.client_public)
            self._socket.setsockopt_string(zmq.CURVE_SECRETKEY, link.client_secret)
        self._socket.connect(link.address)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        for start in episodes:
            self._ask({"op": "start", "start": wire.start_to_wire(start)})

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        asked = [self._ask({"op": "act", "request": wire.request_to_wire(request)}) for request in requests]
        return [wire.reply_from_wire(answer["reply"]) for answer in asked]

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        name = wire.episode_to_wire(episode)
        self._ask({"op": "instruction", "episode": name, "instruction": instruction, "keep": keep_memory})

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            self._ask({"op": "end", "episode": wire.episode_to_wire(episode)})

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._lost:
            raise PolicyError(self._lost)
        number = next(self._numbers)
        deadline = time.monotonic() + self._link.timeout_s
        parts = wire.pack({"host": self._link.incarnation, "number": number, **message})
        try:
            # Without a peer a send would wait for ever: nothing reconnects.
            self._socket.send_multipart(parts, flags=zmq.NOBLOCK, copy=False)
        except zmq.Again:
            raise self._gone() from None
        while True:
            left = deadline - time.monotonic()
            ready = dict(self._poller.poll(max(0, round(left * 1000))))
            if self._socket in ready:
                answer = wire.unpack([part.buffer for part in self._socket.recv_multipart(copy=False)])
                if answer["number"] != number:  # the late answer to a call that was given up
                    continue
                if "error" in answer:
                    raise PolicyError(answer["error"])
                return dict(answer)
            if self._monitor in ready:
                recv_monitor_message(self._monitor)
                raise self._gone()
            if left <= 0:
                self._lost = f"the policy host did not answer '{message['op']}' within {self._link.timeout_s:g} s"
                raise PolicyError(self._lost)

    def _gone(self) -> PolicyError:
        self._lost = "the connection to the policy host was lost, and the memory of this episode with it"
        return PolicyError(self._lost)
