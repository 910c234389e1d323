"""MIKASA-Robo end to end on a software renderer: RememberColor3 through Ray, with pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from harness import run as running
from harness.config import compose_run
from reports.records import EpisodeRecord, RecordStore
from tests.docs.running import documented

TASK = "run.tasks=[remember_color_3]"


def run(folder: Path, *words: str) -> list[EpisodeRecord]:
    command = [f"run.dir={folder}", "suite=mikasa_memoryvla", TASK, "cluster.workers=1", *words]
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
