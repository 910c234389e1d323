"""Most of these tests run inside the Python environment of SimplerEnv's back end, and only there:

    PYTHONPATH=. MEMVLA_SIM=simpler ~/.memvla/runtimes/maniskill/bin/python -m pytest tests/envs/simpler

Elsewhere only `test_data.py`, which needs no simulator. The back end is the one that `settle` chooses. Models and
pictures are taken from ../shared beside the repository, or from where MEMVLA_SIMPLER_ASSETS says. With
MEMVLA_SIM=simpler a package, driver or file that is missing is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.base import VLAEnv
from suites.protocol import load_suite

SHARED = Path(__file__).resolve().parents[4] / "shared"

if os.environ.get("MEMVLA_SIM") == "simpler":
    if (SHARED / "assets" / "simpler").is_dir():
        os.environ.setdefault("MEMVLA_SIMPLER_ASSETS", str(SHARED / "assets" / "simpler"))
    chosen = load_suite("simpler_bridge").env["backend"]
    collect_ignore = ["test_original.py" if chosen == "maniskill3" else "test_maniskill3.py"]
else:
    collect_ignore_glob = ["test_[!d]*.py"]


@pytest.fixture(scope="session")
def shared_env() -> Iterator[VLAEnv]:
    """One simulator for the session: building it and its first picture are slow."""
    from envs.simpler import make

    env = make(**load_suite("simpler_bridge").env)
    yield env
    env.close()


@pytest.fixture
def env(shared_env: VLAEnv) -> VLAEnv:
    """The camera and privileged state."""
    shared_env.select(None, privileged=True)
    return shared_env


@pytest.fixture
def blind(shared_env: VLAEnv) -> VLAEnv:
    """No pictures; privileged state."""
    shared_env.select((), privileged=True)
    return shared_env
