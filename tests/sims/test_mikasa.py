"""MIKASA-Robo end to end on a software renderer: RememberColor3 and another task through Ray, with pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from harness import run as running
from harness.config import compose_run
from reports.records import EpisodeRecord, RecordStore
from tests.docs.running import documented

TASK = "run.tasks=[remember_color_3]"


def run(folder: Path, *words: str, tasks: str = TASK, workers: int = 1) -> list[EpisodeRecord]:
    command = [f"run.dir={folder}", "suite=mikasa_memoryvla", tasks, f"cluster.workers={workers}", *words]
    ended = running.run(compose_run(command), Console(), ["memvla", "run", *command])
    assert ended.exit_code == 0
    with RecordStore(ended.folders[0] / "episodes.sqlite") as store:
        return store.attempts()


@pytest.mark.timeout(900)
def test_the_expert_remembers_the_colour_on_ray_and_is_filmed(tmp_path: Path) -> None:
    found = run(tmp_path, "policy=expert", "run.trials=2", "run.film_every=10")
    assert [record.outcome for record in found] == ["success", "success"]
    assert len({record.scene_hash for record in found}) == 2
    (video,) = [tmp_path / "expert" / record.video for record in found if record.video]
    assert video.stat().st_size > 2000


@pytest.mark.timeout(900)
def test_the_expert_without_memory_meets_the_same_scenes_and_cannot_know(tmp_path: Path) -> None:
    knows = run(tmp_path / "a", "policy=expert", "run.trials=6", "run.videos=0")
    guesses = run(tmp_path / "b", "policy=expert_memoryless", "run.trials=6", "run.videos=0")
    assert [record.scene_hash for record in knows] == [record.scene_hash for record in guesses]
    won = [sum(record.outcome == "success" for record in found) for found in (knows, guesses)]
    assert won[0] >= 5
    assert won[1] < won[0]


@pytest.mark.timeout(1800)
def test_the_documented_commands_run(tmp_path: Path) -> None:
    documented("mikasa", tmp_path)


@pytest.mark.timeout(1200)
def test_the_same_scenes_and_frames_on_any_worker(tmp_path: Path) -> None:
    """A policy that looks at both cameras: same scenes, first frames and actions where one worker plays both tasks,
    one after the other, and where two share them. Scenes of one colour are told apart by where the cubes lie."""
    tasks = "run.tasks=[remember_color_3,intercept_medium]"
    words = ["policy=random", "policy.cameras=true", "run.trials=2", "protocol.max_steps=16", "run.videos=0"]

    def hashes(folder: str, workers: int) -> dict[object, tuple[str, str, str]]:
        found = run(tmp_path / folder, *words, tasks=tasks, workers=workers)
        return {r.scene: (r.scene_hash, r.first_frame_hash, r.action_digest) for r in found}

    one, two = hashes("one", 1), hashes("two", 2)
    assert len({scene for scene, _, _ in one.values()}) == 4
    assert all(frame for _, frame, _ in one.values())
    assert one == two
