"""Plays made-up episodes through a policy, as the engine would, without a simulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.spec import ActionSpec, CameraSpec, EnvSpec, EpisodeId, Gripper, Observation, Rotation
from policies.base import ActReply, ActRequest, EpisodeStart, Policy, PolicyContext

ACTION = ActionSpec("world", False, 0.02, Rotation.EULER_XYZ, 0.1, Gripper(open=1.0, closed=-1.0), hz=20.0)
ENV = EnvSpec("toy", ACTION, (CameraSpec("front", 64, 64), CameraSpec("wrist", 64, 64)), state=("x", "y", "z"))
CONTEXT = PolicyContext(suite="toy", env=ENV, gives_state=True)
SENTENCES = ("press the red button", "stack the green block on the blue one", "wait")
STEPS = 4
"""Environment steps between calls."""


def episode(trial: int, attempt: int = 1) -> EpisodeId:
    return EpisodeId("toy", f"task{trial % 3}", trial, attempt)


def sentence(which: EpisodeId) -> str:
    return SENTENCES[which.trial % 3]


def start(policy: Policy, which: Sequence[EpisodeId], seed: int = 0) -> None:
    policy.start([EpisodeStart(e, seed, sentence(e)) for e in which])


def observation(which: EpisodeId, call: int, size: int = 64) -> Observation:
    """What this episode shows at this call: fixed by both, whatever the policy does."""
    generator = np.random.default_rng([which.trial, call])
    images = {c.name: generator.integers(0, 256, (size, size, 3), dtype=np.uint8) for c in ENV.cameras}
    state = generator.standard_normal(3).astype(np.float32)
    return Observation(images, state, sentence(which), call * STEPS)


def request(which: EpisodeId, call: int) -> ActRequest:
    return ActRequest(which, call, observation(which, call))


def alone(policy: Policy, which: EpisodeId, calls: int) -> npt.NDArray[Any]:
    """Actions [calls, T, A] of one episode with nobody else alive."""
    start(policy, [which])
    found = [policy.act([request(which, call)])[0].actions for call in range(calls)]
    policy.end([which])
    return np.stack(found)


def together(policy: Policy, lengths: dict[EpisodeId, int], batch: int, seed: int) -> dict[EpisodeId, npt.NDArray[Any]]:
    """The same for many at once: episodes start and end at different times, batches are drawn and ordered at random.

    Also checks that every reply echoes its request.
    """
    generator = np.random.default_rng(seed)
    waiting, live = list(lengths), list[EpisodeId]()
    found: dict[EpisodeId, list[npt.NDArray[Any]]] = {e: [] for e in lengths}
    while waiting or live:
        if waiting and (not live or generator.random() < 0.5):
            live.append(waiting.pop(0))
            start(policy, live[-1:])
        chosen = [live[int(i)] for i in generator.permutation(len(live))[:batch]]
        requests = [request(e, len(found[e])) for e in chosen]
        replies = policy.act(requests)
        check(requests, replies)
        for e, reply in zip(chosen, replies, strict=True):
            found[e].append(reply.actions)
            if len(found[e]) == lengths[e]:
                policy.end([e])
                live.remove(e)
    return {e: np.stack(actions) for e, actions in found.items()}


def check(requests: Sequence[ActRequest], replies: Sequence[ActReply]) -> None:
    assert [(r.episode, r.step) for r in requests] == [(r.episode, r.step) for r in replies]
    for reply in replies:
        assert reply.actions.dtype == np.float32
        assert np.isfinite(reply.actions).all()
