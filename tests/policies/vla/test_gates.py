"""The learned policies keep every rule of memory that `memvla check` asks for."""

from __future__ import annotations

import importlib

import pytest

from harness.config import compose_run
from harness.plan import context_of
from harness.policy_gates import PolicyGates


@pytest.mark.parametrize("policy", ["cogact", "memoryvla", "memoryvla_plus", "memoryvla_pp"])
def test_a_learned_policy_passes_every_gate(policy: str) -> None:
    config = compose_run([f"policy={policy}", "suite=lab_smoke", "cluster=inline", "policy.expert.steps=2"])
    suite = config.suites[0]
    env = importlib.import_module(suite.adapter).make(**suite.env)
    gates = list(PolicyGates(lambda: config.policies[0].build(context_of(suite)), env, suite).run())
    assert len(gates) == 13
    assert [gate for gate in gates if gate.passed is not True] == []
