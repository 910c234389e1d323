"""A policy that is asked while demonstrations are recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.spec import EpisodeId, Observation
from harness.plan import context_of
from harness.recording import Actor
from policies.base import ActReply, ActRequest, EpisodeStart
from suites.protocol import load_suite
from tests.extras.extra_policies import Remembering

EPISODES = tuple(EpisodeId("lab_smoke", "press_by_colour", trial) for trial in range(3))


class Counted(Remembering):
    """Notes how many requests a call brings."""

    def __init__(self) -> None:
        super().__init__(context_of(load_suite("lab_smoke")))
        self.sizes: list[int] = []

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        self.sizes.append(len(requests))
        return super().act(requests)


def actor() -> tuple[Actor, Counted]:
    policy = Counted()
    asked = Actor(policy, policy.spec.cameras, execute=2)
    asked.start([EpisodeStart(episode, 7, "press") for episode in EPISODES])
    return asked, policy


def test_one_call_answers_all_episodes_that_are_due_as_if_each_were_asked_alone() -> None:
    chance = np.random.default_rng(0)
    (together, counted), (alone, _) = actor(), actor()
    camera = counted.spec.cameras[0]
    for step in range(6):
        # The last comes a step later, so that two are due at even steps and one at odd ones.
        asked = {
            episode: Observation(
                {camera: chance.integers(0, 256, (64, 64, 3), dtype=np.uint8)},
                chance.standard_normal(8).astype(np.float32),
                "press",
                step,
            )
            for episode in EPISODES[: 3 if step else 2]
        }
        actions = together.act(asked)
        assert list(actions) == list(asked)
        for episode, seen in asked.items():
            assert np.array_equal(actions[episode], alone.act({episode: seen})[episode])
    assert counted.sizes == [2, 1, 2, 1, 2, 1]
