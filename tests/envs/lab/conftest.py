"""One lab for a module's tests: its resets must not depend on what ran before, so sharing it is itself a test."""

from __future__ import annotations

import pytest

from envs.lab import make
from envs.lab.env import LabEnv


@pytest.fixture(scope="module")
def env() -> LabEnv:
    lab = make()
    lab.select([], privileged=True)
    return lab
