"""examples/: complete, short, through every gate, and worth looking at: the policy solves what its memory allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reports.records import RecordStore
from tests.harness.test_cli import memvla

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))
    monkeypatch.setenv("MEMVLA_SUITES", str(EXAMPLES / "suite_files"))
    monkeypatch.setenv("MEMVLA_POLICIES", str(EXAMPLES / "policy_files"))


def success(folder: Path) -> float:
    records = RecordStore(folder / "episodes.sqlite").episodes()
    assert len(records) == 40
    return sum(record.outcome == "success" for record in records) / len(records)


@pytest.mark.parametrize("name", ["beacon_env.py", "beacon_policy.py"])
def test_each_is_complete_in_under_100_lines(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 100


def test_the_benchmark_passes_every_gate() -> None:
    done = memvla("check", "suite=beacon")
    assert "10 passed, 0 failed" in done.stdout, done.stdout + done.stderr


def test_the_policy_passes_every_gate() -> None:
    done = memvla("check", "policy=first_look", "suite=beacon")
    assert "13 passed, 0 failed" in done.stdout, done.stdout + done.stderr


def test_memory_is_what_solves_it(tmp_path: Path) -> None:
    words = ["suite=beacon", "cluster=inline", "run.videos=0"]
    for label, word in (("with", "policy.memory=true"), ("without", "policy.memory=false")):
        done = memvla("run", *words, "policy=first_look", word, f"run.dir={tmp_path / label}")
        assert done.returncode == 0, done.stderr
    assert success(tmp_path / "with" / "first_look") == 1.0
    assert 0.2 < success(tmp_path / "without" / "first_look") < 0.8


def test_a_suite_it_does_not_know_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = memvla("run", "suite=lab_smoke", "policy=first_look", "cluster=inline", f"run.dir={tmp_path}")
    assert done.returncode == 1, os.linesep.join([done.stdout, done.stderr])
    assert "knows the beacon benchmark only, not lab" in " ".join(done.stderr.split())
