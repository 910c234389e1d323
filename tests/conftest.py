"""Shared by all tests: the third-party extras are on the path, and results go to a folder of the test's own."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

import pytest

ENDED: list[int] = []
"""The exit code, once it is known."""
EXTRAS = Path(__file__).parent / "extras"


@pytest.fixture(autouse=True)
def extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies and suites of tests/extras, for this process and those it starts."""
    monkeypatch.setenv("MEMVLA_POLICIES", str(EXTRAS / "policy_files"))
    monkeypatch.setenv("MEMVLA_SUITES", str(EXTRAS / "suite_files"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXTRAS), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep))


def pytest_sessionfinish(exitstatus: int) -> None:
    ENDED.append(int(exitstatus))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Leave as the tests ended. Ray, TensorFlow, torch and MuJoCo in one process may abort while they are unloaded
    (`free(): invalid pointer`), after everything has been said and done; the exit code would then be that."""
    if ENDED:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ENDED[0])
