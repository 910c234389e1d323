"""Who holds which memory: one session is one episode, named by an id nobody can guess."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from envs.spec import EpisodeId, Floats, Image, Observation
from harness.rollout import checked
from harness.serving.engine import Engine
from harness.serving.metrics import Metrics, say
from harness.serving.settings import ServeSettings
from policies.base import ActRequest, EpisodeStart, PolicyError

MOST_REMEMBERED = 4096
"""Ended sessions whose end can still be told to a client that comes back."""
MAX_STEP = 2**31
MAX_TEXT = 2000
SWEEP_S = 0.5


class ServingError(Exception):
    """An answer that is an error: an HTTP status and one sentence for the client."""

    def __init__(self, status: int, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = None if retry_after_s is None else max(1, math.ceil(retry_after_s))


@dataclass
class Session:
    """A live episode. label: the client's name for it, whose noise it gets; episode: the policy's name for it, never
    used twice; calls: policy calls so far; step: of the last frame (-1: none yet); peer: the client's address."""

    id: str
    label: EpisodeId
    episode: EpisodeId
    seed: int
    instruction: str
    protocol: str
    peer: str
    calls: int = 0
    step: int = -1
    busy: bool = False
    used: float = field(default_factory=time.monotonic)

    @property
    def mark(self) -> str:
        """What stands for the id in logs: reading them does not let anyone into a session."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:10]


class Sessions:
    """All live sessions of one policy. Lives in one event loop; nothing here is safe from threads."""

    def __init__(self, engine: Engine, settings: ServeSettings, suite: str, metrics: Metrics) -> None:
        self.engine, self.settings, self.suite, self.metrics = engine, settings, suite, metrics
        self._live: dict[str, Session] = {}
        self._past: OrderedDict[str, str] = OrderedDict()
        self._serial = itertools.count(1)
        self._waiting = 0
        self._sweeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._live)

    def watch(self) -> None:
        """Begin to end sessions that fall silent."""
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """End everything."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for session in list(self._live.values()):
            await self.end(session, "shutdown")

    # ------------------------------------------------------------------ what protocols call

    async def begin(
        self, instruction: str, *, protocol: str, peer: str, seed: int | None = None, label: EpisodeId | None = None
    ) -> Session:
        """A new session with an empty memory. Waits for a slot; raises ServingError 503 when none comes free."""
        instruction = _sentence(instruction)
        serial = next(self._serial)
        label = label or EpisodeId(self.suite, "live", 0)
        seed = self.settings.seed if seed is None else seed
        if not 0 <= seed < 2**63:
            raise ServingError(400, f"seed must lie in 0 .. 2^63 - 1, was {seed}")
        if not 0 <= label.trial < MAX_STEP or not 0 <= label.attempt < MAX_STEP:
            raise ServingError(400, f"trial and attempt must lie in 0 .. 2^31 - 1, were {label.trial}, {label.attempt}")
        # The attempt keeps apart sessions of one name; noise does not depend on it.
        episode = EpisodeId(label.suite, label.task, label.trial, serial)
        session = Session(secrets.token_urlsafe(24), label, episode, seed, instruction, protocol, peer)
        await self._take_slot(session)
        session.used = time.monotonic()
        self._live[session.id] = session
        self.metrics.live.set(len(self._live))
        self.metrics.begun.labels(protocol).inc()
        say("session begun", session=session.mark, episode=str(label), protocol=protocol, peer=peer)
        return session

    def get(self, id: str) -> Session:
        """The live session of this id. Raises ServingError 404, or 410 with the reason why it is no more."""
        session = self._live.get(id)
        if session is not None:
            return session
        if reason := self._past.get(id):
            raise ServingError(410, f"this session has ended ({reason}), and its memory with it; begin a new one")
        raise ServingError(404, "there is no such session; begin one first")

    async def act(
        self,
        session: Session,
        *,
        images: Mapping[str, Image],
        state: Floats | None = None,
        call: int | None = None,
        step: int | None = None,
        instruction: str | None = None,
        first: bool = False,
    ) -> Floats:
        """The action chunk float32 [T, A] for one frame. call, step: what the client says it sends (None: it does not
        say); first: it is the session's first frame, whatever the number of its call. Raises ServingError; where the
        memory can no longer be trusted the session is ended."""
        if first and call is not None and session.step < 0 and call < MAX_STEP:
            session.calls = call
        self._in_turn(session, call, step)
        session.busy = True
        try:
            if instruction is not None and instruction != session.instruction:
                await self._switch(session, instruction, keep_memory=True)
            request = self._request(session, images, state, session.step + 1 if step is None else step)
            begun = time.perf_counter()
            actions = await self._call(session, request)
            self.metrics.call_s.labels(session.protocol).observe(time.perf_counter() - begun)
        finally:
            session.busy = False
            session.used = time.monotonic()
        session.calls += 1
        session.step = request.step
        return actions

    async def switch(self, session: Session, instruction: str, *, keep_memory: bool) -> None:
        """Another sentence is in force from here on. keep_memory False: forget as at a beginning."""
        if session.busy:
            raise ServingError(409, "a call of this session is at work; wait for its answer")
        session.busy = True
        try:
            await self._switch(session, instruction, keep_memory=keep_memory)
        finally:
            session.busy = False
            session.used = time.monotonic()

    async def end(self, session: Session, reason: str) -> None:
        """Free the session's memory and slot; harmless for one that has ended."""
        if self._live.pop(session.id, None) is None:
            return
        self._past[session.id] = REASONS[reason].format(idle=self.settings.idle_s)
        if len(self._past) > MOST_REMEMBERED:
            self._past.popitem(last=False)
        self.metrics.live.set(len(self._live))
        self.metrics.ended.labels(reason).inc()
        level = logging.WARNING if reason in ("silence", "failure") else logging.INFO
        say("session ended", level=level, session=session.mark, reason=reason, calls=session.calls)
        try:
            await self.engine.end(session.episode)
        except PolicyError as error:
            say("policy failed to end", level=logging.ERROR, session=session.mark, cause=str(error))

    # ------------------------------------------------------------------ parts

    async def _take_slot(self, session: Session) -> None:
        """Start the episode in the policy, waiting for a slot if there is none."""
        capacity = self.engine.spec.slots
        if len(self._live) + self._waiting >= (capacity or self.settings.sessions) + self._room():
            raise self._full()
        self._waiting += 1
        self.metrics.waiting.set(max(0, len(self._live) + self._waiting - (capacity or self.settings.sessions)))
        try:
            await self.engine.start(EpisodeStart(session.episode, session.seed, session.instruction))
        except PolicyError as error:
            if "no slot came free" in str(error):
                raise self._full() from error
            raise ServingError(400, str(error)) from error
        except asyncio.CancelledError:
            # The client left while it waited: whatever slot it still gets is given back.
            await asyncio.shield(self.engine.end(session.episode))
            raise
        finally:
            self._waiting -= 1
            self.metrics.waiting.set(max(0, len(self._live) + self._waiting - (capacity or self.settings.sessions)))

    def _room(self) -> int:
        """How many may wait: a policy without slots of its own never makes anyone wait."""
        return self.settings.waiting if self.engine.spec.slots is not None else 0

    def _full(self) -> ServingError:
        silent = max((time.monotonic() - session.used for session in self._live.values()), default=0.0)
        many = f"{len(self._live)} sessions are live and {self._waiting} wait"
        return ServingError(
            503, f"all slots are taken: {many}; try again later", retry_after_s=self.settings.idle_s - silent
        )

    def _in_turn(self, session: Session, call: int | None, step: int | None) -> None:
        if session.busy:
            raise ServingError(
                409, "a call of this session is at work: one at a time, each after the last one's answer"
            )
        if call is not None and call != session.calls:
            raise ServingError(
                409,
                f"call {call} came where call {session.calls} was due: a frame was lost, repeated or out of order, and "
                "nothing was done with it",
            )
        if step is not None and not session.step < step < MAX_STEP:
            raise ServingError(
                409, f"a frame of step {step} came after one of step {session.step}: out of order, nothing was done"
            )

    def _request(self, session: Session, images: Mapping[str, Image], state: Floats | None, step: int) -> ActRequest:
        """The policy's request, checked as far as it can be without running anything. Raises ServingError 400."""
        spec = self.engine.spec
        missing = [name for name in spec.cameras if name not in images]
        if missing:
            given = ", ".join(images) or "none"
            raise ServingError(400, f"picture of camera {', '.join(missing)} is missing; given: {given}")
        if spec.uses_state and state is None:
            raise ServingError(400, "this policy reads proprioception: send `state`")
        if state is not None and not np.isfinite(state).all():
            raise ServingError(400, "`state` holds NaN or infinite numbers")
        seen = Observation(
            {name: images[name] for name in spec.cameras},
            state if spec.uses_state else None,
            session.instruction,
            step,
        )
        request = ActRequest(session.episode, session.calls, seen)
        try:
            self.engine.host.policy.check(request)
        except PolicyError as error:
            raise ServingError(400, str(error)) from error
        return request

    async def _call(self, session: Session, request: ActRequest) -> Floats:
        try:
            reply = await self.engine.act(request)
            return checked([reply], request, self.engine.spec)
        except PolicyError as error:
            say("policy call failed", level=logging.ERROR, session=session.mark, cause=str(error))
            await self.end(session, "failure")
            raise ServingError(
                500, "the policy failed in this call; the session is ended, since its memory cannot be trusted"
            ) from error
        except asyncio.CancelledError:
            # The client left in the middle of a call: what its memory holds now, nobody knows.
            await asyncio.shield(self.end(session, "disconnected"))
            raise

    async def _switch(self, session: Session, instruction: str, *, keep_memory: bool) -> None:
        instruction = _sentence(instruction)
        try:
            await self.engine.instruction_changed(session.episode, instruction, keep_memory=keep_memory)
        except PolicyError as error:
            await self.end(session, "failure")
            raise ServingError(500, "the policy refused the new instruction; the session is ended") from error
        session.instruction = instruction

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_S, self.settings.idle_s / 4))
            oldest = time.monotonic() - self.settings.idle_s
            for session in [s for s in self._live.values() if not s.busy and s.used < oldest]:
                await self.end(session, "silence")


REASONS = {
    "asked": "its client ended it",
    "restarted": "its client began a new episode",
    "silence": "it was silent for {idle:g} s",
    "failure": "the policy failed in it",
    "disconnected": "its connection was lost",
    "shutdown": "the server is shutting down",
}


def _sentence(text: str) -> str:
    text = text.strip()
    if not text:
        raise ServingError(400, "the instruction is empty")
    if len(text) > MAX_TEXT:
        raise ServingError(400, f"the instruction has {len(text)} characters; at most {MAX_TEXT} are allowed")
    return text
