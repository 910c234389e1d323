"""LIBERO end to end: a driver without simulators, workers in the simulator's own Python, records and a report."""

from __future__ import annotations

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

TASKS = "run.tasks=[pick_up_the_alphabet_soup_and_place_it_in_the_basket,pick_up_the_milk_and_place_it_in_the_basket]"


def run(folder: Path, *words: str) -> list[EpisodeRecord]:
    command = [f"run.dir={folder}", "suite=libero_object", *words]
    ended = running.run(compose_run(command), Console(), ["memvla", "run", *command])
    assert ended.exit_code == 0
    with RecordStore(ended.folders[0] / "episodes.sqlite") as store:
        return store.attempts()


def test_the_expert_solves_objects_on_ray_and_the_report_shows_its_videos(tmp_path: Path) -> None:
    found = run(tmp_path, "policy=expert", "run.trials=2", TASKS, "run.film_every=40", "cluster.workers=2")
    assert sum(record.outcome == "success" for record in found) >= 3
    assert {record.worker for record in found} == {"worker-1", "worker-2"}
    simulator = read(tmp_path / "expert").simulators["libero_object"]
    assert simulator["mujoco"] == "3.3.7"
    assert simulator["robosuite"] == "1.4.0"
    videos = [tmp_path / "expert" / record.video for record in found if record.video]
    assert len(videos) == 2
    assert all(video.stat().st_size > 5000 for video in videos)
    page = next(path for path in build([tmp_path]).write(tmp_path) if path.suffix == ".html")
    assert "<video" in page.read_text()


def test_the_same_scenes_and_frames_on_any_worker(tmp_path: Path) -> None:
    """A policy that looks at both cameras: same scenes, first frames and outcomes with one worker and with two."""
    words = ["policy=random", "policy.cameras=true", "run.trials=2", TASKS, "protocol.max_steps=16", "run.videos=0"]

    def hashes(folder: str, workers: int) -> dict[object, tuple[str, str, str]]:
        found = run(tmp_path / folder, *words, f"cluster.workers={workers}")
        return {r.scene: (r.scene_hash, r.first_frame_hash, r.action_digest) for r in found}

    one, two = hashes("one", 1), hashes("two", 2)
    assert len(one) == 4
    assert len({scene for scene, _, _ in one.values()}) == 4
    assert all(frame for _, frame, _ in one.values())
    assert one == two


@pytest.mark.timeout(900)
def test_every_gate_of_the_suite_passes() -> None:
    gates = list(check_suite(load_suite("libero_object")))
    assert [gate for gate in gates if gate.passed is not True] == []
    assert len(gates) == 10


@pytest.mark.timeout(1800)
def test_the_documented_commands_run(tmp_path: Path) -> None:
    documented("libero", tmp_path)
