"""The soak runs of benchmarks/, at a size for every day; and disks and clocks that misbehave in the middle of a run."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import harness.rollout
from harness import run as running
from harness.config import compose_run
from reports.records import RecordError, RecordStore

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def ends_well(script: str, *words: str) -> str:
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / script), *words]
    path = os.pathsep.join([str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.timeout(900)
def test_a_run_under_kills_and_faults_ends_as_the_undisturbed_one() -> None:
    """Driver, Ray's head, workers, hosts and simulators killed; raising, hanging, late and wrong answers."""
    said = ends_well(
        "faults.py", "--kills", "7", "--faults", "12", "--episodes", "60", "--policy", "remembering", "--seconds", "800"
    )
    assert "60 of 60 episodes scored; lost 0, double 0, wrong 0" in said


@pytest.mark.timeout(600)
def test_noise_and_damaged_files_crash_nothing() -> None:
    said = ends_well("fuzz.py", "--inputs", "1500", "--seed", "7", "--seconds", "500")
    assert ", 0 findings;" in said


def run(folder: Path, *words: str) -> running.Ended:
    command = [f"run.dir={folder}", "cluster=inline", "run.videos=0", "suite=point", "policy=remembering", *words]
    return running.run(compose_run(command), Console(quiet=True), ["memvla", "run", *command])


def digests(folder: Path) -> dict[int, tuple[str, str, str]]:
    with RecordStore(folder / "remembering" / "episodes.sqlite") as store:
        return {record.trial: (record.outcome, record.scene_hash, record.action_digest) for record in store.attempts()}


def test_records_that_another_program_holds_for_a_while_are_waited_for(tmp_path: Path) -> None:
    """As on a slow disk: a writer is made to wait in the middle of a run, and goes on when it can."""
    run(tmp_path / "whole")
    run(tmp_path / "slow", "run.trials=2")
    other = sqlite3.connect(tmp_path / "slow" / "remembering" / "episodes.sqlite", check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    letting_go = threading.Timer(2.0, other.rollback)
    letting_go.start()
    began = time.monotonic()
    assert run(tmp_path / "slow", "run.trials=6").exit_code == 0
    assert time.monotonic() - began > 1.0, "nothing was ever waited for: this test would show nothing"
    letting_go.join()
    other.close()
    assert digests(tmp_path / "slow") == digests(tmp_path / "whole")


def test_records_that_stay_locked_stop_the_run_with_its_cure_and_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "cut", "run.trials=2")
    real = RecordStore.__init__
    monkeypatch.setattr(RecordStore, "__init__", lambda *given, **words: real(*given, **{**words, "busy_s": 0.2}))
    with sqlite3.connect(tmp_path / "cut" / "remembering" / "episodes.sqlite") as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordError, match="another program holds it: close that program"):
            run(tmp_path / "cut", "run.trials=6")
        other.rollback()
    assert len(digests(tmp_path / "cut")) == 2
    assert run(tmp_path / "cut", "run.trials=6").exit_code == 0
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_a_worker_that_grows_is_replaced_and_its_episodes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulator that keeps 61 MiB of every episode, under a limit of 70: no worker plays more than three. In a
    process of its own, in which nothing else lets go of memory meanwhile."""
    text = (Path(os.environ["MEMVLA_SUITES"]) / "point.yaml").read_text()
    (tmp_path / "leaking.yaml").write_text(
        text.replace("name: point", "name: leaking").replace("env: {}", "env: {how: leak}")
    )
    monkeypatch.setenv("MEMVLA_SUITES", str(tmp_path))
    words = ["suite=leaking", "policy=remembering", "cluster=inline", "run.trials=8", "run.videos=0"]
    command = [f"run.dir={tmp_path / 'run'}", "cluster.recycle_growth_mb=70", *words]
    subprocess.run([sys.executable, "-m", "harness.cli", "run", "--no-report", *command], check=True)
    with RecordStore(tmp_path / "run" / "remembering" / "episodes.sqlite") as store:
        found = store.attempts()
    assert [record.outcome != "void" for record in found] == [True] * 8
    played = Counter(record.worker for record in found)
    assert len(played) >= 3
    assert max(played.values()) <= 3


def test_a_clock_that_jumps_changes_no_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock leaps by hours, back and forth, at every look: only the stamps in the records show it."""
    run(tmp_path / "whole")
    looks: list[int] = []

    def leap() -> timedelta:
        looks.append(1)
        return timedelta(hours=(-1) ** len(looks) * 7 * len(looks))

    class Leaping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + leap()

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + leap().total_seconds())
    monkeypatch.setattr(harness.rollout, "datetime", Leaping)
    assert run(tmp_path / "leaping").exit_code == 0
    assert len(looks) >= 6
    assert digests(tmp_path / "leaping") == digests(tmp_path / "whole")
    with RecordStore(tmp_path / "leaping" / "remembering" / "episodes.sqlite") as store:
        assert all(0 <= record.seconds["total"] < 60 for record in store.attempts())
