"""A whole third-party policy in one file: it sees pictures alone, and remembers what the first one showed.

Its state belongs to episodes and never to the object, so that many episodes can share a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from envs.spec import EpisodeId, Floats, Image
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


@dataclass
class Memory:
    """What one episode has taught: the channel (0 red, 2 blue) in which the lamp shone."""

    start: EpisodeStart
    lamp: int | None = None


class FirstLook(Policy):
    """Goes to the pad whose colour the lamp had when the episode began. memory False: guesses once the lamp is out."""

    def __init__(self, context: PolicyContext, *, memory: bool = True, chunk: int = 4) -> None:
        if context.env.benchmark != "beacon":
            raise PolicyError(f"this policy knows the beacon benchmark only, not {context.env.benchmark}")
        self._remembers = memory
        self._memories: EpisodeStates[Memory] = EpisodeStates()
        self.spec = PolicySpec(
            name="first_look",
            action=context.env.action,
            cameras=("top",),
            chunk=chunk,
            execute=chunk,
            stateful=memory,
        )

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        for start in episodes:
            self._memories.open(start.episode, Memory(start))

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        return [ActReply(request.episode, request.step, self._actions(request)) for request in requests]

    def _actions(self, request: ActRequest) -> Floats:
        memory, picture = self._memories.of(request.episode), request.observation.images["top"]
        seen = lamp_in(picture)
        if self._remembers and memory.lamp is None:
            memory.lamp = seen
        lamp = memory.lamp if self._remembers else seen
        if lamp is None:  # all randomness is keyed by run, scene and call
            lamp = int(noise_generator(memory.start.seed, request.episode, request.call).choice([0, 2]))
        way = np.clip((middle_of(picture, lamp) - middle_of(picture, None)) / 0.1 / self.spec.chunk, -1, 1)
        action = np.array([*way, 0, 0, 0, 0, self.spec.action.gripper.open], dtype=np.float32)
        return np.tile(action, (self.spec.chunk, 1))

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            self._memories.pop(episode, None)

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        if not keep_memory:
            self._memories.of(episode).lamp = None

    def live(self) -> int:
        return len(self._memories)


def lamp_in(picture: Image) -> int | None:
    """The channel of the strip along the upper edge; None when the lamp is out."""
    red, _, blue = picture[0].mean(0)
    return None if max(red, blue) < 100 else 0 if red > blue else 2


def middle_of(picture: Image, channel: int | None) -> npt.NDArray[np.float64]:
    """Where the pad of this colour is (None: the white hand), in metres; the middle when it is hidden."""
    body = picture[1:].astype(int)
    bright = body > 150
    found = bright.all(2) if channel is None else bright[..., channel] & (bright.sum(2) == 1)
    rows, columns = np.nonzero(found)
    if len(rows) == 0:
        return np.zeros(2)
    return np.array([columns.mean(), rows.mean() + 1]) / (picture.shape[0] - 1) * 2.4 - 1.2
