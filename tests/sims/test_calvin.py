"""CALVIN end to end: a driver without simulators, workers in the simulator's own Python, records and a report."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from harness import run as running
from harness.check import check_suite
from harness.config import compose_run
from reports.manifest import read
from reports.records import EpisodeRecord, RecordStore
from reports.report import build
from suites.protocol import load_suite
from tests.docs.running import documented

SHARED = Path(__file__).resolve().parents[3] / "shared" / "assets" / "calvin"


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMVLA_CALVIN_ASSETS", os.environ.get("MEMVLA_CALVIN_ASSETS") or str(SHARED))


def run(folder: Path, *words: str) -> list[EpisodeRecord]:
    command = [f"run.dir={folder}", "suite=calvin_smoke", *words]
    ended = running.run(compose_run(command), Console(), ["memvla", "run", *command])
    assert ended.exit_code == 0
    with RecordStore(ended.folders[0] / "episodes.sqlite") as store:
        return store.attempts()


def test_the_expert_does_whole_chains_on_ray_and_the_records_hold_every_subtask(tmp_path: Path) -> None:
    found = run(tmp_path, "policy=expert", "run.trials=3", "run.film_every=60", "cluster.workers=2")
    assert len(found) == 3
    assert sum(record.metrics["chain_length"] for record in found) >= 13
    for record in found:
        length = int(record.metrics["chain_length"])
        begun = {name: done for name, done in record.metrics.items() if name.startswith("task/")}
        assert sum(begun.values()) == length
        assert len(begun) == min(length + 1, 5)
        assert len(record.subtask_steps) == (length if length == 5 else length + 1)
        assert sum(record.subtask_steps) == record.steps
        assert max(record.subtask_steps) <= 240
        assert record.score == length / 5
    assert read(tmp_path / "expert").simulators["calvin_smoke"]["pybullet"] == "3.2.7"
    assert next(path for path in build([tmp_path]).write(tmp_path) if path.suffix == ".html").is_file()


def test_the_same_scenes_and_frames_on_any_worker(tmp_path: Path) -> None:
    """A policy that looks at both cameras: same scenes, first frames and actions with one worker and with two."""
    words = ["policy=random", "policy.cameras=true", "run.trials=3", "protocol.max_steps=16", "run.videos=0"]

    def hashes(folder: str, workers: int) -> dict[object, tuple[str, str, str]]:
        found = run(tmp_path / folder, *words, f"cluster.workers={workers}")
        return {r.scene: (r.scene_hash, r.first_frame_hash, r.action_digest) for r in found}

    one, two = hashes("one", 1), hashes("two", 2)
    assert len({scene for scene, _, _ in one.values()}) == 3
    assert all(frame for _, frame, _ in one.values())
    assert one == two


@pytest.mark.timeout(900)
def test_every_gate_of_the_suite_passes() -> None:
    gates = list(check_suite(load_suite("calvin_smoke")))
    assert [gate for gate in gates if gate.passed is not True] == []
    assert len(gates) == 10


@pytest.mark.timeout(1800)
def test_the_documented_commands_run(tmp_path: Path) -> None:
    documented("calvin", tmp_path)
