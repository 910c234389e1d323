"""Policies that need no weights: the floor every other one must beat, and the cost of the harness itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.spec import EpisodeId
from policies.base import (
    ActReply,
    ActRequest,
    EpisodeStart,
    EpisodeStates,
    Policy,
    PolicyContext,
    PolicySpec,
    noise_generator,
)


class RandomPolicy(Policy):
    """Draws every action uniformly from the environment's range. `scale` shrinks the motion; `cameras` asks for
    pictures it does not look at, to see what they cost."""

    def __init__(self, context: PolicyContext, *, scale: float = 1.0, chunk: int = 8, cameras: bool = False) -> None:
        action = context.env.action
        self._scale = scale * (1.0 if action.limit is None else action.limit)
        self._live: EpisodeStates[EpisodeStart] = EpisodeStates()
        self.spec = PolicySpec(
            name="random",
            action=action,
            cameras=tuple(camera.name for camera in context.env.cameras) if cameras else (),
            chunk=chunk,
            execute=chunk,
        )

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        for start in episodes:
            self._live.open(start.episode, start)

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: ActRequest) -> ActReply:
        start = self._live.of(request.episode)
        noise = noise_generator(start.seed, request.episode, request.call)
        grip = self.spec.action.gripper
        actions = noise.uniform(-self._scale, self._scale, (self.spec.chunk, self.spec.action.dim))
        actions[:, -1] = np.where(noise.random(self.spec.chunk) < 0.5, grip.open, grip.closed)
        return ActReply(request.episode, request.step, actions.astype(np.float32))

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            self._live.pop(episode, None)

    def live(self) -> int:
        return len(self._live)
