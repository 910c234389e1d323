"""These tests run inside CALVIN's own environment, and only there:

    PYTHONPATH=. MEMVLA_SIM=calvin ~/.memvla/runtimes/calvin/bin/python -m pytest tests/envs/calvin

Elsewhere the folder is left out (but for what needs no simulator: `test_chains.py`). They take models and reference
numbers from ../shared beside the repository, or from where MEMVLA_CALVIN_ASSETS and MEMVLA_CALVIN_REFERENCE say. With
MEMVLA_SIM=calvin a file that is missing is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

SHARED = Path(__file__).resolve().parents[4] / "shared"
REFERENCE = Path(os.environ.get("MEMVLA_CALVIN_REFERENCE") or SHARED / "reference" / "calvin")

if os.environ.get("MEMVLA_SIM") == "calvin":
    os.environ["MEMVLA_CALVIN_ASSETS"] = os.environ.get("MEMVLA_CALVIN_ASSETS") or str(SHARED / "assets" / "calvin")
else:
    collect_ignore_glob = ["test_[!c]*.py"]

if TYPE_CHECKING:
    from envs.calvin.adapter import CalvinEnv


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of recorded trajectories and of the list of chains."""
    if not (REFERENCE / "calvin_D_0.npz").is_file():
        pytest.fail(f"no reference numbers in {REFERENCE}: name their folder with MEMVLA_CALVIN_REFERENCE")
    return REFERENCE


@pytest.fixture
def blind() -> Iterator[CalvinEnv]:
    """Scene D without pictures."""
    from envs.calvin import make

    env = make()
    env.select(cameras=())
    yield env  # type: ignore[misc]
    env.close()
