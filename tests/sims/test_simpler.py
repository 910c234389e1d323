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
from reports.records import RecordStore
from tests.docs.running import documented

SHARED = Path(__file__).resolve().parents[3] / "shared" / "assets" / "simpler"


@pytest.mark.timeout(900)
def test_the_expert_grasps_on_ray_and_is_filmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if SHARED.is_dir():
        monkeypatch.setenv("MEMVLA_SIMPLER_ASSETS", str(SHARED))
    command = [f"run.dir={tmp_path}", "suite=simpler_bridge", "run.tasks=[carrot_on_plate]", "policy=expert"]
    command += ["run.trials=2", "run.film_every=40", "cluster.workers=1"]
    ended = running.run(compose_run(command), Console(), ["memvla", "run", *command])
    assert ended.exit_code == 0
    with RecordStore(ended.folders[0] / "episodes.sqlite") as store:
        found = store.attempts()
    assert [record.outcome for record in found] == ["success", "success"]
    assert [record.steps for record in found] == [120, 120]
    assert all(record.metrics["grasped"] == 1.0 for record in found)
    assert len({record.scene_hash for record in found}) == 2
    (video,) = [tmp_path / "expert" / record.video for record in found if record.video]
    assert video.stat().st_size > 5000
    (plan,) = read(ended.folders[0]).suites
    assert plan.env["backend"] in ("maniskill3", "simpler_env")


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
