"""These tests run inside MIKASA-Robo's own environment, and only there:

    PYTHONPATH=. MEMVLA_SIM=mikasa ~/.memvla/runtimes/maniskill/bin/python -m pytest tests/envs/mikasa

Elsewhere the folder is left out (but for what needs no simulator: `test_data.py`). The mug of the shell games is
taken from ../shared beside the repository, or from where MEMVLA_MIKASA_ASSETS says. With MEMVLA_SIM=mikasa a package,
driver or file that is missing is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

SHARED = Path(__file__).resolve().parents[4] / "shared"

if os.environ.get("MEMVLA_SIM") == "mikasa":
    if (SHARED / "assets" / "mikasa").is_dir():
        os.environ.setdefault("MEMVLA_MIKASA_ASSETS", str(SHARED / "assets" / "mikasa"))
else:
    collect_ignore_glob = ["test_[!d]*.py"]

if TYPE_CHECKING:
    from envs.mikasa.adapter import MikasaEnv


@pytest.fixture(scope="session")
def shared_env() -> Iterator[MikasaEnv]:
    """One simulator for the session: building it and its first picture are slow."""
    from envs.mikasa import make

    env = make()
    yield env  # type: ignore[misc]
    env.close()


@pytest.fixture
def env(shared_env: MikasaEnv) -> MikasaEnv:
    """Both cameras and privileged state."""
    shared_env.select(None, privileged=True)
    return shared_env


@pytest.fixture
def blind(shared_env: MikasaEnv) -> MikasaEnv:
    """No pictures; privileged state."""
    shared_env.select((), privileged=True)
    return shared_env
