"""Policy: the contract between the engine and whatever chooses actions.

Batched from the start, and state belongs to episodes, never to the object: one policy serves many live episodes at
once, and what it does in one must not depend on the others (the rules of memory).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from envs.spec import ActionSpec, EnvSpec, EpisodeId, Floats, Observation


@dataclass(frozen=True)
class PolicySpec:
    """What a policy needs and gives, for the suite it was built for.

    action: convention of the actions it answers with; cameras: names it must be given (empty: none); chunk: actions
    per answer; execute: how many of them are carried out before the next call; needs_every_frame: it must also see
    the observations between calls; stateful: it remembers within an episode; memory_scope: `episode`, `subtask` or
    None (either); looks_once: it is given pictures at its first call only, and nothing is drawn later; privileged: it
    reads simulator state, and its runs are marked so; uses_state: it must be given
    proprioception; slots: episodes it can hold at once (None: any number); further ones wait, none is evicted; note:
    what a reader of the results must know of how it was run (shown in reports; empty: nothing).
    """

    name: str
    action: ActionSpec
    cameras: tuple[str, ...]
    chunk: int
    execute: int
    needs_every_frame: bool = False
    stateful: bool = False
    memory_scope: str | None = None
    looks_once: bool = False
    privileged: bool = False
    uses_state: bool = False
    slots: int | None = None
    note: str = ""


@dataclass(frozen=True)
class PolicyContext:
    """What a policy may know when it is built: the suite's environment and protocol. No simulator is running yet.

    expert: `module:Class` of the suite's scripted expert ("" if it has none).
    """

    suite: str
    env: EnvSpec
    execute: int | None = None
    expert: str = ""
    gives_state: bool = False
    memory_scope: str = "episode"


@dataclass(frozen=True)
class EpisodeStart:
    """The start of one episode. seed: the run's seed; all randomness in the episode comes from `noise_seed`."""

    episode: EpisodeId
    seed: int
    instruction: str


@dataclass(frozen=True)
class ActRequest:
    """One policy call. call: 0, 1, 2 ... within the episode; between: observations of the steps since the last call,
    oldest first, only for a policy that needs every frame."""

    episode: EpisodeId
    call: int
    observation: Observation
    between: Sequence[Observation] = field(default_factory=tuple)

    @property
    def step(self) -> int:
        """Environment steps taken before this call."""
        return self.observation.step


@dataclass(frozen=True)
class ActReply:
    """The answer: actions float32 [T, A] in the policy's own convention; episode and step echo the request."""

    episode: EpisodeId
    step: int
    actions: Floats
    info: Mapping[str, Any] = field(default_factory=dict)


class PolicyError(RuntimeError):
    """The policy failed or answered wrongly; the attempt is void."""


class OutOfMemory(PolicyError):
    """A batch did not fit into the device's memory, and no episode's state was changed: fewer at once may be asked.

    Only a policy that knows the latter to be so raises it; after any other error of `act` nothing is asked again.
    """


class Policy(ABC):
    """Chooses actions for many episodes at once.

    `start` allocates the state of each episode and raises or succeeds for all; `end` frees it and is called on every
    path, also after an error, also for an episode it never heard of; `act` answers in the order of the requests.
    """

    spec: PolicySpec

    @abstractmethod
    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        """Make empty state for these episodes. Raises if one of them is alive already."""

    @abstractmethod
    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        """One reply per request, in order. Raises PolicyError for an episode that was not started."""

    @abstractmethod
    def end(self, episodes: Sequence[EpisodeId]) -> None:
        """Free the state of these episodes; unknown ones are ignored."""

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:  # noqa: B027 - optional hook
        """Another sentence is in force. keep_memory False (`memory_scope: subtask`): forget as at a start."""

    def check(self, request: ActRequest) -> None:  # noqa: B027 - optional hook
        """Raise PolicyError for an observation this policy cannot take; change nothing.

        Asked before a request joins a batch, so that one that is wrong fails alone.
        """

    def live(self) -> int:
        """Episodes that hold state now (0 after the last `end`)."""
        return 0

    def memory_per_episode(self) -> int:
        """Bytes of memory that one live episode takes."""
        return 0

    def close(self) -> None:  # noqa: B027 - optional hook
        """Free devices and files."""


State = TypeVar("State")


class EpisodeStates(dict[EpisodeId, State]):
    """State by live episode, with the errors the contract asks for."""

    def open(self, episode: EpisodeId, state: State) -> None:
        if episode in self:
            raise PolicyError(f"episode {episode} was started twice without an end between")
        self[episode] = state

    def of(self, episode: EpisodeId) -> State:
        try:
            return self[episode]
        except KeyError:
            raise PolicyError(
                f"episode {episode} is not alive here: it was never started, or its state was lost"
            ) from None


def noise_seed(seed: int, episode: EpisodeId, call: int) -> int:
    """The seed of the noise of one policy call: 63 bits of SHA-256 over (run seed, suite, task, trial, call).

    The attempt is left out on purpose: a repeated attempt must do what the first one would have done.
    """
    text = f"{seed}|{episode.suite}|{episode.task}|{episode.trial}|{call}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def noise_generator(seed: int, episode: EpisodeId, call: int) -> np.random.Generator:
    """NumPy generator for the noise of one policy call; see `noise_seed`."""
    return np.random.default_rng(noise_seed(seed, episode, call))
