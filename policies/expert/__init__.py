"""Scripted experts: policies that read simulator state.

They prove an environment's action convention and success rule without any weights, and they make demonstrations. A
suite names its script (`expert: module:Class`); `ExpertPolicy` turns a script into a policy like any other.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from envs.spec import EnvSpec, EpisodeId, Floats
from policies.base import (
    ActReply,
    ActRequest,
    EpisodeStart,
    EpisodeStates,
    Policy,
    PolicyContext,
    PolicyError,
    PolicySpec,
)


class Script(Protocol):
    """A scripted expert for one episode: what it remembers is on the object, and nowhere else.

    `Script(task, instruction, env)` at the start; `act(seen, step)` gives the next actions, float [T, A] in the
    environment's convention (T >= 1; the engine carries out `execute` of them, 1 unless the policy is told otherwise).
    One that has a way for some tasks of its suite only says which in a static method `knows(task) -> bool`.
    """

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None: ...

    def act(self, seen: Mapping[str, npt.NDArray[Any]], step: int) -> npt.ArrayLike: ...


class ExpertPolicy(Policy):
    """The suite's scripted expert. memory False: a fresh script at every call, so that only the present frame's state
    is known: the control that shows whether a task needs memory."""

    def __init__(self, context: PolicyContext, *, name: str = "expert", memory: bool = True) -> None:
        if not context.expert:
            raise PolicyError(f"suite {context.suite} has no scripted expert; choose another policy")
        module, _, attribute = context.expert.partition(":")
        self._script: type[Script] = getattr(importlib.import_module(module), attribute)
        self._env = context.env
        self._memory = memory
        self._live: EpisodeStates[tuple[EpisodeStart, Script]] = EpisodeStates()
        self.spec = PolicySpec(
            name=name,
            action=context.env.action,
            cameras=(),
            chunk=1,
            execute=1,
            stateful=memory,
            privileged=True,
        )

    def _fresh(self, start: EpisodeStart) -> Script:
        return self._script(start.episode.task, start.instruction, self._env)

    def knows(self, task: str) -> bool:
        """Whether the script has a way for the task: all that it does not disown in a `knows` of its own."""
        knows = getattr(self._script, "knows", None)
        return knows is None or bool(knows(task))

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        for start in episodes:
            self._live.open(start.episode, (start, self._fresh(start)))

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: ActRequest) -> ActReply:
        start, script = self._live.of(request.episode)
        seen = request.observation.privileged
        if seen is None:
            raise PolicyError("the expert needs privileged observations and was given none")
        if not self._memory:
            script = self._fresh(start)
        actions: Floats = np.atleast_2d(np.asarray(script.act(seen, request.step), dtype=np.float32))[: self.spec.chunk]
        return ActReply(request.episode, request.step, actions)

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            self._live.pop(episode, None)

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        start, script = self._live.of(episode)
        start = replace(start, instruction=instruction)
        self._live[episode] = (start, script if keep_memory else self._fresh(start))

    def live(self) -> int:
        return len(self._live)
