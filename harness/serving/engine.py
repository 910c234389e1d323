"""The policy host of the evaluation, spoken to from an event loop: many calls in flight over one connection."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import Any

import zmq
import zmq.asyncio

from envs.spec import EpisodeId
from harness import wire
from harness.batching import PolicyHost
from policies.base import ActReply, ActRequest, EpisodeStart, Policy, PolicyError, PolicySpec


class Engine:
    """One policy behind its PolicyHost. `open` and `close` belong to the running event loop.

    Starts beyond the policy's slots wait inside the host, in order; calls of several sessions are batched there. Every
    operation raises PolicyError with the host's own message.
    """

    def __init__(self, policy: Policy, *, max_batch: int, call_s: float, wait_s: float) -> None:
        self.host = PolicyHost(policy, max_batch=max_batch, start_wait_s=wait_s)
        self._call_s, self._wait_s = call_s, wait_s
        self._numbers = itertools.count()
        self._due: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._socket: zmq.asyncio.Socket | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def spec(self) -> PolicySpec:
        return self.host.policy.spec

    async def open(self) -> None:
        """Start the host's thread and connect to it."""
        link = self.host.serve_in_thread(f"inproc://serve-{uuid.uuid4().hex}", timeout_s=self._call_s)
        context = zmq.asyncio.Context.shadow(zmq.Context.instance().underlying)
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(link.address)
        self._reader = asyncio.create_task(self._read(self._socket))

    async def close(self) -> None:
        """Stop the host and free the policy; whoever still waits gets an error."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._socket is not None:
            self._socket.close(linger=0)
        for future in self._due.values():
            if not future.done():
                future.set_exception(PolicyError("the server is shutting down"))
        await asyncio.to_thread(self.host.stop)

    def hung(self) -> bool:
        """Whether the policy call at work is older than it may be."""
        return self.host.call_age() > self._call_s

    async def start(self, start: EpisodeStart) -> None:
        await self._ask({"op": "start", "start": wire.start_to_wire(start)}, self._wait_s + self._call_s)

    async def act(self, request: ActRequest) -> ActReply:
        """The reply to one request. Raises PolicyError also when it answers something else."""
        answer = await self._ask({"op": "act", "request": wire.request_to_wire(request)}, self._call_s)
        reply = wire.reply_from_wire(answer["reply"])
        if (reply.episode, reply.step) != (request.episode, request.step):
            raise PolicyError(
                f"asked for {request.episode} step {request.step}, the policy answered for {reply.episode} step "
                f"{reply.step}"
            )
        return reply

    async def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        name = wire.episode_to_wire(episode)
        message = {"op": "instruction", "episode": name, "instruction": instruction, "keep": keep_memory}
        await self._ask(message, self._call_s)

    async def end(self, episode: EpisodeId) -> None:
        await self._ask({"op": "end", "episode": wire.episode_to_wire(episode)}, self._call_s)

    async def _ask(self, message: dict[str, Any], limit_s: float) -> dict[str, Any]:
        assert self._socket is not None, "open the engine first"
        number = next(self._numbers)
        future = self._due[number] = asyncio.get_running_loop().create_future()
        try:
            parts = wire.pack({"host": self.host.incarnation, "number": number, **message})
            await self._socket.send_multipart(parts)
            answer: dict[str, Any] = await asyncio.wait_for(future, limit_s)
        except TimeoutError:
            raise PolicyError(f"the policy did not answer '{message['op']}' within {limit_s:g} s") from None
        finally:
            del self._due[number]
        if "error" in answer:
            raise PolicyError(str(answer["error"]))
        return answer

    async def _read(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            answer = wire.unpack(await socket.recv_multipart())
            future = self._due.get(answer["number"])
            if future is not None and not future.done():  # else: given up by whoever asked
                future.set_result(answer)
