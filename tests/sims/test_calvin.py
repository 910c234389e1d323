"""CALVIN end to end: chains of five through Ray, with the benchmark's own models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from harness import run as running
from harness.check import check_suite
from harness.config import compose_run
from reports.records import EpisodeRecord, RecordStore
from suites.protocol import load_suite

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets" / "calvin"


@pytest.fixture(autouse=True)
def assets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark's models lie beside the checkout; a user's own folder wins."""
    monkeypatch.setenv("MEMVLA_CALVIN_ASSETS", os.environ.get("MEMVLA_CALVIN_ASSETS", str(ASSETS)))


def run(folder: Path, *words: str) -> list[EpisodeRecord]:
    command = [f"run.dir={folder}", "suite=calvin_smoke", *words]
    ended = running.run(compose_run(command), Console(), ["memvla", "run", *command])
    assert ended.exit_code == 0
    with RecordStore(ended.folders[0] / "episodes.sqlite") as store:
        return store.attempts()


@pytest.mark.timeout(900)
def test_the_expert_completes_subtasks_of_real_chains_on_ray(tmp_path: Path) -> None:
    found = run(tmp_path, "policy=expert", "run.trials=2", "run.film_every=60", "cluster.workers=2")
    assert [record.outcome for record in found if record.outcome == "void"] == []
    assert sum(record.metrics["chain_length"] for record in found) >= 2
    assert all(record.scene_hash for record in found)


@pytest.mark.timeout(900)
def test_every_gate_of_the_suite_passes() -> None:
    gates = list(check_suite(load_suite("calvin_smoke")))
    assert [gate for gate in gates if gate.passed is False] == []
    assert sum(gate.passed is True for gate in gates) >= 9
