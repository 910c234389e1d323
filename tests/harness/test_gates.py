"""The gates catch what they are for: each policy broken on purpose fails its own."""

from __future__ import annotations

import importlib

import pytest

from harness.config import compose_run
from harness.gates import Gate
from harness.plan import context_of
from harness.policy_gates import PolicyGates
from harness.suite_gates import SuiteGates
from suites.protocol import load_suite

BROKEN = {
    "state_on_object": "interleaved episodes do not touch one another",
    "global_noise": "global random generators do not matter",
    "stale_chunk": "the next call follows the present observation, not a stale chunk",
    "missed_reset": "an episode starts with an empty memory, also after an attempt that was cut short",
    "swapped_replies": "the order within a batch does not matter, and each reply is for its request",
    "relabelled_replies": "batched equals alone",
    "keeps_instruction": "a changed instruction empties the memory when told to",
}


def gates_of(policy: str, suite: str) -> list[Gate]:
    config = compose_run([f"policy={policy}", f"suite={suite}", "cluster=inline"])
    loaded = config.suites[0]
    env = importlib.import_module(loaded.adapter).make(**loaded.env)
    return list(PolicyGates(lambda: config.policies[0].build(context_of(loaded)), env, loaded).run())


@pytest.mark.parametrize("policy", ["remembering", "expert", "expert_memoryless", "random"])
@pytest.mark.parametrize("suite", ["point", "lab_general"])
def test_a_sound_policy_passes_every_gate(policy: str, suite: str) -> None:
    gates = gates_of(policy, suite)
    assert len(gates) == 13
    assert [gate for gate in gates if gate.passed is not True] == []


@pytest.mark.parametrize(("policy", "rule"), BROKEN.items())
def test_a_broken_policy_fails_the_gate_made_for_it(policy: str, rule: str) -> None:
    failed = [gate.rule for gate in gates_of(policy, "point") if gate.passed is False]
    assert rule in failed


@pytest.mark.parametrize("suite", ["point", "point_chain", "lab_general"])
def test_a_sound_suite_passes_every_gate(suite: str) -> None:
    gates = list(SuiteGates(load_suite(suite), tasks=2).run())
    assert [gate for gate in gates if gate.passed is not True] == []


def test_an_environment_with_a_hidden_generator_fails_the_hash_gate() -> None:
    import extra_env
    import numpy as np

    class Hidden(extra_env.PointEnv):
        def load(self, task: str, trial: int, seed: int) -> None:
            super().load(task, trial, seed)
            self._goal = np.random.uniform(-1, 1, 3)

    suite = load_suite("point")
    gates = SuiteGates(suite)
    gates._env = Hidden()
    gates._make = Hidden  # type: ignore[method-assign]
    failed = {gate.rule for gate in gates.run() if gate.passed is False}
    assert "a scene has one hash: again, after other scenes, on a fresh simulator" in failed
    assert "the same actions lead to the same end, also after other episodes" in failed
