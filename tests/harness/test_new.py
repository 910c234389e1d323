"""`memvla new`: what it writes passes the gates as written, and nothing is ever overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def memvla(*words: object, mine: Path) -> subprocess.CompletedProcess[str]:
    """A command in a shell that says where one's own things are, as `memvla new` tells to."""
    found = {"PYTHONPATH": mine, "MEMVLA_SUITES": mine / "suite_files", "MEMVLA_POLICIES": mine / "policy_files"}
    surroundings = {**os.environ, **{name: str(value) for name, value in found.items()}}
    command = [sys.executable, "-m", "harness.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=200)


def done(*words: object, mine: Path) -> str:
    ended = memvla(*words, mine=mine)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def test_a_new_benchmark_passes_every_gate(mine: Path) -> None:
    said = done("new", "env", "drawer", "--into", mine, mine=mine)
    assert f"PYTHONPATH={mine}" in said
    assert "memvla check suite=drawer" in said
    assert "10 passed, 0 failed" in done("check", "suite=drawer", mine=mine)


def test_a_new_policy_passes_every_gate_also_on_a_new_benchmark(mine: Path) -> None:
    done("new", "policy", "gazer", "--into", mine, mine=mine)
    done("new", "env", "drawer", "--into", mine, mine=mine)
    for suite in ("lab_smoke", "drawer"):
        assert "13 passed, 0 failed" in done("check", "policy=gazer", f"suite={suite}", mine=mine)


def test_a_new_suite_is_a_copy_under_another_name_and_runs(mine: Path) -> None:
    done("new", "suite", "short_lab", "--like", "lab_smoke", "--into", mine, mine=mine)
    assert "remember_colour_3" in done("suites", "short_lab", mine=mine)
    folder = mine.parent / "run"
    words = ["suite=short_lab", "policy=expert", "run.trials=1", "cluster=inline", f"run.dir={folder}"]
    assert "2 successes (100 %)" in done("run", *words, mine=mine)


def test_what_is_written_is_clean_code(mine: Path) -> None:
    done("new", "env", "drawer", "--into", mine, mine=mine)
    done("new", "policy", "gazer", "--into", mine, mine=mine)
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, "--config", ROOT / "pyproject.toml", mine]
        ruff = subprocess.run(command, capture_output=True, text=True)
        assert ruff.returncode == 0, ruff.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["env", "drawer-2"], "'drawer-2' cannot name a Python module"),
        (["policy", "class"], "'class' cannot name a Python module"),
        (["policy", "random"], "there is a policy called 'random' already"),
        (["env", "lab_memory"], "there is a suite called 'lab_memory' already"),
        (["suite", "mine", "--like", "lab_memry"], "did you mean lab_memory"),
    ],
)
def test_a_name_that_cannot_be_is_one_clear_error_and_writes_nothing(mine: Path, words: list[str], says: str) -> None:
    ended = memvla("new", *words, "--into", mine, mine=mine)
    said = " ".join(ended.stderr.split())
    assert ended.returncode == 1
    assert says in said
    assert "Traceback" not in said
    assert not mine.exists()


def test_nothing_is_overwritten(mine: Path) -> None:
    done("new", "env", "drawer", "--into", mine, mine=mine)
    changed = mine / "drawer_env.py"
    changed.write_text("# hours of work\n")
    ended = memvla("new", "env", "drawer", "--into", mine, mine=mine)
    assert ended.returncode == 1
    assert "nothing is overwritten" in " ".join(ended.stderr.split())
    assert changed.read_text() == "# hours of work\n"
