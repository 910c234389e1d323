"""Servers behind a WebSocket: openpi's, vla-eval's, and our own. One connection for each episode.

Protocols: openpi-client 0.1.2 (websocket_client_policy.py); vla-eval 0.8.0 (protocol/messages.py, connection.py).
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from typing import Any

from websockets.sync.client import ClientConnection, connect

from envs.spec import ActionSpec, Floats
from policies.base import ActRequest, EpisodeStart, PolicyError
from policies.remote import codec
from policies.remote.line import Line, chunk_of
from policies.remote.options import Options
from policies.remote.words import GRIPPERS, ROTATIONS

OPENPI_IMAGES = ("observation/image", "observation/wrist_image")
MAX_ANSWER = 64 * 2**20


class SocketLine(Line):
    """A connection that lives as long as its episode."""

    path = "/"
    byte_keys = False

    def __init__(self, options: Options, cameras: tuple[str, ...], start: EpisodeStart, action: ActionSpec) -> None:
        super().__init__(options, cameras, start)
        self._action = action
        self._stack = ExitStack()
        with self.unbroken():
            self._socket: ClientConnection = self._stack.enter_context(
                connect(
                    options.address(self.path, socket=True),
                    additional_headers=options.headers() | self.marks(),
                    compression=None,
                    max_size=MAX_ANSWER,
                    open_timeout=options.timeout,
                    close_timeout=2,
                    ping_interval=None,  # a server may hold its event loop for the whole of a policy call
                    proxy=None,
                )
            )
            try:
                self.greet()
            except BaseException:
                self._stack.close()
                raise

    def greet(self) -> None:
        """What is said before the first frame."""
        raise NotImplementedError

    def send(self, message: Any) -> None:
        self._socket.send(codec.pack(message, byte_keys=self.byte_keys))

    def receive(self) -> dict[str, Any]:
        """The next message. Raises PolicyError for one that is text, which is how servers of this kind complain."""
        data = self._socket.recv(timeout=self.options.timeout)
        if isinstance(data, str):
            raise PolicyError(f"the server at {self.options.url} complains: {data.strip().splitlines()[-1][:300]}")
        found = codec.unpack(data)
        if not isinstance(found, dict):
            raise PolicyError(f"the server at {self.options.url} sent a message that is no map")
        return found

    def close(self) -> None:
        self._stack.close()

    def called(self, place: int, camera: str, usual: tuple[str, ...] = ()) -> str:
        """What the server calls a camera."""
        names = self.options.names or {}
        return names.get(camera, usual[place] if place < len(usual) else camera)


class OpenpiLine(SocketLine):
    """openpi: metadata at the start, then an observation for an action chunk. The protocol knows no episodes."""

    byte_keys = True

    def greet(self) -> None:
        self.receive()

    def act(self, request: ActRequest) -> Floats:
        message: dict[str, Any] = {"prompt": self.instruction}
        for place, camera in enumerate(self.cameras):
            message[self.called(place, camera, OPENPI_IMAGES)] = self.picture(request, camera)
        if request.observation.state is not None:
            message["observation/state"] = request.observation.state
        self.send(message)
        return chunk_of(self.receive().get("actions"))

    def instruction_changed(self, instruction: str, *, keep_memory: bool) -> None:
        if not keep_memory:
            self._socket.close()
            fresh = OpenpiLine(self.options, self.cameras, self.start, self._action)
            self._stack, self._socket = fresh._stack, fresh._socket


class VlaEvalLine(SocketLine):
    """vla-eval: hello, episode_start, an observation for one action, episode_end."""

    def greet(self) -> None:
        self._sequence = 0
        hello = self._exchange("hello", {"harness_version": "memvla", "protocol_version": 1}, "hello")
        _check_words(hello.get("action_spec"), self._action, self.options.url)
        self._begin()

    def _begin(self) -> None:
        name = self.start.episode
        full = [name.suite, name.task, name.trial, name.attempt]
        task = {"suite": name.suite, "name": name.task, "episode_idx": name.trial}
        self._say("episode_start", {"task": task, "memvla": {"episode": full, "seed": self.start.seed}})

    def act(self, request: ActRequest) -> Floats:
        seen = request.observation
        images = {self.called(i, name): self.picture(request, name) for i, name in enumerate(self.cameras)}
        payload: dict[str, Any] = {"images": images, "task_description": self.instruction}
        if seen.state is not None:
            payload["state"] = payload["states"] = seen.state
        return chunk_of(self._exchange("observation", payload, "action").get("actions"))

    def instruction_changed(self, instruction: str, *, keep_memory: bool) -> None:
        if not keep_memory:
            self._begin()

    def close(self) -> None:
        with suppress(Exception):  # where the connection is gone the server ends the episode with it
            self._say("episode_end", {})
        super().close()

    def _say(self, kind: str, payload: dict[str, Any]) -> int:
        self._sequence += 1
        self.send({"type": kind, "payload": payload, "seq": self._sequence, "timestamp": time.time()})
        return self._sequence

    def _exchange(self, kind: str, payload: dict[str, Any], wanted: str) -> dict[str, Any]:
        number = self._say(kind, payload)
        answer = self.receive()
        if answer.get("type") != wanted:
            raise PolicyError(
                f"the server at {self.options.url} answered {kind} with {answer.get('type')}: "
                f"{str(answer.get('payload'))[:300]}"
            )
        if answer.get("seq") != number:
            raise PolicyError(f"message {number} was answered with number {answer.get('seq')}: answers are out of step")
        return dict(answer["payload"])


class OwnLine(SocketLine):
    """Our own protocol: raw frames, every answer echoing call and step."""

    path = "/v1/session"

    def greet(self) -> None:
        name = self.start.episode
        episode = {"suite": name.suite, "task": name.task, "trial": name.trial, "attempt": name.attempt}
        self._first = True
        self._answer({"op": "begin", "instruction": self.instruction, "seed": self.start.seed, "episode": episode})

    def act(self, request: ActRequest) -> Floats:
        message: dict[str, Any] = {"op": "act", "call": request.call, "step": request.step}
        message["images"] = {name: self.picture(request, name) for name in self.cameras}
        message["first"], self._first = self._first, False
        if request.observation.state is not None:
            message["state"] = request.observation.state
        answer = self._answer(message)
        if (answer.get("call"), answer.get("step")) != (request.call, request.step):
            raise PolicyError(
                f"asked for call {request.call} step {request.step}, the server answered for call {answer.get('call')} "
                f"step {answer.get('step')}"
            )
        return chunk_of(answer.get("actions"))

    def instruction_changed(self, instruction: str, *, keep_memory: bool) -> None:
        self._answer({"op": "instruction", "instruction": instruction, "keep_memory": keep_memory})

    def close(self) -> None:
        with suppress(Exception):  # where the connection is gone the server ends the session with it
            self._answer({"op": "end"})
        super().close()

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        self.send(message)
        answer = self.receive()
        if "error" in answer:
            raise PolicyError(f"the server at {self.options.url} answered {answer.get('status')}: {answer['error']}")
        return answer


def _check_words(told: Any, action: ActionSpec, url: str) -> None:
    """Raise PolicyError where a vla-eval server says that its actions are others than those we take them for."""
    if not isinstance(told, dict):
        return
    ours = {
        "position": "absolute_xyz" if action.absolute else "delta_xyz",
        "rotation": ROTATIONS[action.rotation.value],
        "gripper": GRIPPERS.get((action.gripper.open, action.gripper.closed), "raw"),
    }
    for part, expected in ours.items():
        theirs = told.get(part, {}).get("format", "raw") if isinstance(told.get(part), dict) else "raw"
        if "raw" not in (theirs, expected) and theirs != expected:
            raise PolicyError(
                f"the server at {url} answers with {part} {theirs}, taken here for {expected}; name what it answers "
                "with by policy.convention"
            )
