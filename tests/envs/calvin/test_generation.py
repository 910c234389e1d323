"""All 1000 chains from the published rule; a minute of drawing, so only with the simulator's tests."""

from __future__ import annotations

import pytest

from envs.calvin.chains import chains, generate


@pytest.mark.timeout(600)
def test_the_published_rule_makes_the_shipped_chains() -> None:
    assert generate() == list(chains())
