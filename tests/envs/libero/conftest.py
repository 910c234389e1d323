"""These tests run inside LIBERO's own environment, and only there:

    PYTHONPATH=. MEMVLA_SIM=libero ~/.memvla/runtimes/libero/bin/python -m pytest tests/envs/libero

Elsewhere the folder is left out. With MEMVLA_SIM=libero a package or library that is missing is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if os.environ.get("MEMVLA_SIM") != "libero":
    collect_ignore_glob = ["*"]

if TYPE_CHECKING:
    from envs.libero.adapter import LiberoEnv


@pytest.fixture
def blind() -> Iterator[LiberoEnv]:
    """libero_spatial without pictures."""
    from envs.libero import make

    env = make(suite="libero_spatial")
    env.select(cameras=())
    yield env  # type: ignore[misc]
    env.close()
