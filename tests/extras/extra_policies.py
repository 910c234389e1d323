"""Policies for tests: one that remembers correctly, and ones that are broken in one way each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from envs.spec import EpisodeId, Floats
from policies.base import (
    ActReply,
    ActRequest,
    EpisodeStart,
    EpisodeStates,
    Policy,
    PolicyContext,
    PolicyError,
    PolicySpec,
    noise_generator,
)


class Remembering(Policy):
    """Actions depend on everything seen in the episode, on its noise and on nothing else: a wrong memory shows."""

    def __init__(self, context: PolicyContext, *, chunk: int = 4, sleep: float = 0.0) -> None:
        self.spec = PolicySpec(
            name="remembering",
            action=context.env.action,
            cameras=(context.env.cameras[0].name,),
            chunk=chunk,
            execute=chunk,
            stateful=True,
            uses_state=True,
        )
        self._sleep = sleep
        self.memory: EpisodeStates[tuple[EpisodeStart, list[Floats]]] = EpisodeStates()

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        for start in episodes:
            self.memory.open(start.episode, (start, []))

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        time.sleep(self._sleep)
        return [self.answer(request) for request in requests]

    def answer(self, request: ActRequest) -> ActReply:
        start, seen = self.memory.of(request.episode)
        assert request.observation.state is not None
        seen.append(np.append(request.observation.state, self.glance(request)).astype(np.float32))
        return ActReply(request.episode, request.step, self.actions(start, request, np.stack(seen)))

    def glance(self, request: ActRequest) -> float:
        picture = request.observation.images[self.spec.cameras[0]]
        return float(picture.astype(np.int64).sum() % 1009) / 1009

    def actions(self, start: EpisodeStart, request: ActRequest, seen: Floats) -> Floats:
        noise = noise_generator(start.seed, request.episode, request.call)
        size = (self.spec.chunk, self.spec.action.dim)
        mix = np.sin(7.0 * seen.sum(0).mean() + len(seen) + np.arange(size[0] * size[1]).reshape(size))
        return (0.6 * mix + 0.3 * noise.standard_normal(size)).clip(-1, 1).astype(np.float32)

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        if not keep_memory:
            self.memory.of(episode)[1].clear()

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            self.memory.pop(episode, None)

    def live(self) -> int:
        return len(self.memory)


class StateOnObject(Remembering):
    """Broken: one memory for all episodes, on the object."""

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._shared: list[Floats] = []

    def answer(self, request: ActRequest) -> ActReply:
        start, _ = self.memory.of(request.episode)
        if request.call == 0:
            self._shared.clear()
        assert request.observation.state is not None
        self._shared.append(request.observation.state)
        return ActReply(request.episode, request.step, self.actions(start, request, np.stack(self._shared)))


class GlobalNoise(Remembering):
    """Broken: noise from NumPy's global generator."""

    def actions(self, start: EpisodeStart, request: ActRequest, seen: Floats) -> Floats:
        clean = super().actions(start, request, seen)
        return (clean + 0.1 * np.random.standard_normal(clean.shape)).clip(-1, 1).astype(np.float32)


class StaleChunk(Remembering):
    """Broken: goes on answering with the first chunk of the episode."""

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._first: dict[EpisodeId, Floats] = {}

    def answer(self, request: ActRequest) -> ActReply:
        reply = super().answer(request)
        return replace(reply, actions=self._first.setdefault(request.episode, reply.actions))

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        super().end(episodes)
        for episode in episodes:
            self._first.pop(episode, None)


class MissedReset(Remembering):
    """Broken: the memory of an ended episode is found again when its scene is started again."""

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context)
        self._kept: dict[tuple[str, int], list[Floats]] = {}

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        for start in episodes:
            self.memory.open(start.episode, (start, self._kept.get((start.episode.task, start.episode.trial), [])))

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            if episode in self.memory:
                self._kept[episode.task, episode.trial] = self.memory.pop(episode)[1]


class SwappedReplies(Remembering):
    """Broken: replies of a batch come back in the wrong order."""

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        return super().act(requests)[::-1]


class RelabelledReplies(Remembering):
    """Broken worse: the replies of a batch are swapped and each claims to be the right one."""

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        replies = super().act(requests)
        turned = zip(replies, replies[::-1], strict=True)
        return [replace(reply, actions=other.actions) for reply, other in turned]


class KeepsInstruction(Remembering):
    """Broken: remembers across an instruction change that should have emptied it."""

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        return


class Faulty(Remembering):
    """Goes wrong in the scene of trial `trial`: `how` says in what way, `times` in how many attempts."""

    def __init__(self, context: PolicyContext, *, how: str = "", trial: int = 1, times: int = 1) -> None:
        super().__init__(context)
        self._how, self._trial, self._times = how, trial, times

    def _hits(self, episode: EpisodeId) -> bool:
        return episode.trial == self._trial and episode.attempt <= self._times

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        if self._how == "start" and any(self._hits(start.episode) for start in episodes):
            raise PolicyError("no memory left for another episode")
        super().start(episodes)

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        super().end(episodes)
        if self._how == "end" and any(self._hits(episode) for episode in episodes):
            raise RuntimeError("could not free it")

    def answer(self, request: ActRequest) -> ActReply:
        reply = super().answer(request)
        if not self._hits(request.episode) or request.call < 1:
            return reply
        if self._how == "raise":
            raise ValueError("a tensor of the wrong size")
        if self._how == "not_a_number":
            return replace(reply, actions=np.full_like(reply.actions, np.nan))
        if self._how == "shape":
            return replace(reply, actions=reply.actions[:1])
        if self._how == "episode":
            return replace(reply, episode=replace(reply.episode, trial=reply.episode.trial + 1))
        if self._how == "step":
            return replace(reply, step=reply.step - 1)
        if self._how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._how == "hang":
            time.sleep(3600)
        return reply


class Slow(Remembering):
    """Notes every finished call in a file, so that a test can wait for the middle of a run."""

    def __init__(self, context: PolicyContext, *, notes: str, sleep: float = 0.01) -> None:
        super().__init__(context, sleep=sleep)
        self._notes = Path(notes)

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        replies = super().act(requests)
        with self._notes.open("a") as file:
            file.write("call\n" * len(requests))
        return replies
