"""`policy.compile`: static shapes, the same actions, nothing compiled twice. Graphs are made and run by `aot_eager`
here, which needs no C++ compiler; `benchmarks/policy_latency.py --compile` runs the real one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from torch._dynamo.testing import CompileCounterWithBackend

from policies.cogact.policy import cogact
from policies.memoryvla.policy import memoryvla, memoryvla_plus, memoryvla_pp
from policies.vla import policy as module
from policies.vla.policy import VLAPolicy
from tests.policies.vla.playing import CONTEXT, alone, episode, request, start, together

FAMILIES = {"cogact": cogact, "memoryvla": memoryvla, "memoryvla_plus": memoryvla_plus, "memoryvla_pp": memoryvla_pp}
LENGTHS = {episode(i): length for i, length in enumerate([5, 1, 4, 2])}
SMALL: dict[str, Any] = {"threads": 1, "expert": {"depth": 1, "steps": 5}}


def options(family: str) -> dict[str, Any]:
    return SMALL if family == "cogact" else {**SMALL, "memory": {"length": 3}}


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Counts the graphs that are made."""
    found = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(module, "COMPILER", found)
    return found


@lru_cache(maxsize=4)
def plain(family: str) -> dict[Any, Any]:
    """What every episode does alone, without compiling."""
    policy: VLAPolicy[Any] = FAMILIES[family](CONTEXT, **options(family))
    lengths = LENGTHS if family != "memoryvla_pp" else dict(list(LENGTHS.items())[-1:])
    return {e: alone(policy, e, length) for e, length in lengths.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_compiled_policy_acts_as_one_that_is_not(family: str, counter: CompileCounterWithBackend) -> None:
    policy = FAMILIES[family](CONTEXT, compile=True, **options(family))
    for which, actions in plain(family).items():
        assert np.abs(alone(policy, which, len(actions)) - actions)[..., :6].max() <= 1e-4
    assert counter.frame_count > 0, "nothing was compiled: this test would show nothing"


def test_in_exact_mode_batch_mates_change_not_one_bit(counter: CompileCounterWithBackend) -> None:
    policy = memoryvla(CONTEXT, compile=True, exact_rows=3, **options("memoryvla"))
    single = {e: alone(policy, e, length) for e, length in LENGTHS.items()}
    for which, actions in together(policy, LENGTHS, 4, seed=3).items():
        assert np.array_equal(actions, single[which])
    assert policy.live() == 0


def test_in_fast_mode_rows_are_padded_to_powers_of_two_and_actions_stay(counter: CompileCounterWithBackend) -> None:
    policy = memoryvla(CONTEXT, compile=True, batching="fast", max_batch=4, **options("memoryvla"))
    sizes: list[int] = []
    run = policy._run

    def watched(rows: Any, text: int = 0) -> Any:
        sizes.append(len(rows))
        return run(rows, text)

    policy._run = watched  # type: ignore[method-assign]
    episodes = list(LENGTHS)[::2] + list(LENGTHS)[3:]
    start(policy, episodes)
    for call in range(2):
        for which, reply in zip(episodes, policy.act([request(e, call) for e in episodes]), strict=True):
            assert np.abs(reply.actions - plain("memoryvla")[which][call])[..., :6].max() <= 1e-4
    policy.act([request(episodes[0], 2)])
    policy.end(episodes)
    assert sizes == [4, 4, 1]
    assert policy.live() == 0


def test_nothing_is_compiled_again_for_a_shape_that_was_seen(counter: CompileCounterWithBackend) -> None:
    policy = memoryvla(CONTEXT, compile=True, **options("memoryvla"))
    episodes = [episode(i) for i in range(3)]  # sentences of other lengths, memories of all ages
    start(policy, episodes)
    policy.act([request(episodes[0], 0)])
    made = counter.frame_count
    for call in range(1, 6):
        policy.act([request(episodes[0], call)])
    for other in episodes[1:]:
        policy.act([request(other, 0)])
    policy.end(episodes)
    assert counter.frame_count == made > 0
