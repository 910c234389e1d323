"""SimplerEnv end to end on a software renderer: a task of WidowX and one of the Google robot on Ray, with pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from envs.simpler import ORIGINAL, SHADER
from harness import run as running
from harness.config import compose_run
from harness.runtimes import state_of
from reports.manifest import read
from reports.records import EpisodeRecord, RecordStore
from tests.docs.running import documented

SHARED = Path(__file__).resolve().parents[3] / "shared" / "assets" / "simpler"


def bridge(folder: Path, *words: str) -> list[EpisodeRecord]:
    command = [f"run.dir={folder}", "suite=simpler_bridge", *words]
    ended = running.run(compose_run(command), Console(), ["memvla", "run", *command])
    assert ended.exit_code == 0
    with RecordStore(ended.folders[0] / "episodes.sqlite") as store:
        return store.attempts()


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    if SHARED.is_dir():
        monkeypatch.setenv("MEMVLA_SIMPLER_ASSETS", str(SHARED))


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("models")
def test_the_expert_grasps_on_ray_and_is_filmed(tmp_path: Path) -> None:
    words = ["run.tasks=[carrot_on_plate]", "run.trials=2", "run.film_every=40", "cluster.workers=1"]
    found = bridge(tmp_path, "policy=expert", *words)
    assert [record.outcome for record in found] == ["success", "success"]
    assert [record.steps for record in found] == [120, 120]
    assert all(record.metrics["grasped"] == 1.0 for record in found)
    assert len({record.scene_hash for record in found}) == 2
    (video,) = [tmp_path / "expert" / record.video for record in found if record.video]
    assert video.stat().st_size > 5000
    (plan,) = read(tmp_path / "expert").suites
    assert plan.env["backend"] in ("maniskill3", "simpler_env")


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("models")
def test_the_same_scenes_and_frames_on_any_worker(tmp_path: Path) -> None:
    """A policy that looks: same scenes, first frames and actions where one worker plays at the table and then at the
    sink, and where two share them."""
    words = ["policy=random", "policy.cameras=true", "run.tasks=[carrot_on_plate,eggplant_in_basket]"]
    words += ["run.trials=2", "protocol.max_steps=16", "run.videos=0"]

    def hashes(folder: str, workers: int) -> dict[object, tuple[str, str, str]]:
        found = bridge(tmp_path / folder, *words, f"cluster.workers={workers}")
        return {r.scene: (r.scene_hash, r.first_frame_hash, r.action_digest) for r in found}

    one, two = hashes("one", 1), hashes("two", 2)
    assert len({scene for scene, _, _ in one.values()}) == 4
    assert all(frame for _, frame, _ in one.values())
    assert one == two


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    state_of(ORIGINAL) != "ready", reason="the original SimplerEnv is not set up: memvla setup simpler_fractal_vm"
)
def test_the_google_robot_opens_a_drawer_on_ray_and_is_filmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ray tracing, which needs an NVIDIA GPU."""
    monkeypatch.setenv(SHADER, "ibl")
    command = [f"run.dir={tmp_path}", "suite=simpler_fractal_vm", "run.tasks=[open_top_drawer_plain_a0]"]
    command += ["policy=expert", "run.film_every=1", "cluster.workers=1"]
    ended = running.run(compose_run(command), Console(), ["memvla", "run", *command])
    assert ended.exit_code == 0
    with RecordStore(ended.folders[0] / "episodes.sqlite") as store:
        (record,) = store.attempts()
    assert (record.outcome, record.steps) == ("success", 113)
    assert record.video
    assert (tmp_path / "expert" / record.video).stat().st_size > 5000
    manifest = read(ended.folders[0])
    assert (manifest.suites[0].env["backend"], manifest.suites[0].env["shader"]) == ("simpler_env", "ibl")


@pytest.mark.timeout(1800)
def test_the_documented_commands_run(tmp_path: Path) -> None:
    documented("simpler", tmp_path)
