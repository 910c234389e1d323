"""These tests run inside the runtime of CALVIN's original simulator, with a checkout of its code at hand:

    PYTHONPATH=. MEMVLA_SIM=calvin_upstream MEMVLA_CALVIN_ENV=FOLDER \
        ~/.memvla/runtimes/calvin_upstream/bin/python -m pytest tests/envs/calvin_upstream

Elsewhere the folder is left out. With MEMVLA_SIM=calvin_upstream a file that is missing is a failure.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[4] / "shared"

if os.environ.get("MEMVLA_SIM") == "calvin_upstream":
    os.environ["MEMVLA_CALVIN_ASSETS"] = os.environ.get("MEMVLA_CALVIN_ASSETS") or str(SHARED / "assets" / "calvin")
else:
    collect_ignore_glob = ["*"]


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of recorded trajectories."""
    found = Path(os.environ.get("MEMVLA_CALVIN_REFERENCE") or SHARED / "reference" / "calvin")
    if not (found / "calvin_D_0.npz").is_file():
        pytest.fail(f"no reference numbers in {found}: name their folder with MEMVLA_CALVIN_REFERENCE")
    return found
