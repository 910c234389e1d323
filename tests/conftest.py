"""Shared by all tests: the third-party extras are on the path, and results go to a folder of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

EXTRAS = Path(__file__).parent / "extras"


@pytest.fixture(autouse=True)
def extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Policies and suites of tests/extras, for this process and those it starts."""
    monkeypatch.setenv("MEMVLA_POLICIES", str(EXTRAS / "policy_files"))
    monkeypatch.setenv("MEMVLA_SUITES", str(EXTRAS / "suite_files"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXTRAS), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep))
