"""Suites as data: what is wrong in a file is said, and the fingerprint covers what fixes a score."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plan import scenes
from suites.protocol import SuiteError, load_suite, suite_names

GOOD = """
name: mine
version: 1
title: My suite
benchmark: point
adapter: extra_env
protocol: {max_steps: 10, trials: 2}
tasks: [reach]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMVLA_SUITES", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", [name for name in suite_names() if not name.startswith("point")])
def test_every_suite_of_ours_loads_and_describes_itself_without_its_simulator(name: str) -> None:
    suite = load_suite(name)
    if suite.benchmark == "real" and not suite.env.get("station"):
        with pytest.raises(SuiteError, match="no robot is named: memvla robot"):
            _ = suite.env_spec
    else:
        assert suite.env_spec.cameras
        assert suite.env_spec.action.dim >= 7
    assert len(suite.fingerprint()) == 16
    assert len(scenes(suite, 2)) == sum(min(2, task.trials or 2) for task in suite.tasks)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("max_steps: 10", "max_stps: 10"), "did you mean max_steps"),
        (("max_steps: 10", "max_steps: 0"), "max_steps must be 1 or more"),
        (("trials: 2", "trials: 2, success: sometimes"), "must be one of once, at_end"),
        (("trials: 2", "trials: 2, memory_scope: day"), "must be one of episode, subtask"),
        (("tasks: [reach]", "tasks: []"), "there must be one at least"),
        (("tasks: [reach]", "tasks: [reach, reach]"), "must be unique"),
        (("name: mine", "name: other"), "the file's is 'mine'"),
        (("title:", "titel:"), "did you mean title"),
        ((GOOD, "- 3"), "not a mapping"),
        (("version: 1", "version: [1"), "mine.yaml"),
    ],
)
def test_what_is_wrong_in_a_suite_file_is_said(folder: Path, change: tuple[str, str], says: str) -> None:
    (folder / "mine.yaml").write_text(GOOD.replace(*change))
    with pytest.raises(SuiteError, match=says):
        load_suite("mine")


def test_a_suite_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(SuiteError, match=r"did you mean .*lab_memory"):
        load_suite("lab_memry")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", ""])
def test_a_suite_name_cannot_leave_its_folder(folder: Path, name: str) -> None:
    (folder.parent / "secret.yaml").write_text(GOOD)
    with pytest.raises(SuiteError, match="unknown suite"):
        load_suite(name)


def test_the_fingerprint_changes_with_everything_that_fixes_a_score(folder: Path) -> None:
    changes = [
        ("version: 1", "version: 2"),
        ("max_steps: 10", "max_steps: 11"),
        ("trials: 2", "trials: 2, execute: 4"),
        ("trials: 2", "trials: 2, memory_scope: subtask"),
        ("trials: 2", "trials: 2, success: at_end"),
        ("trials: 2", "trials: 2, scene_seed: 1"),
        ("tasks: [reach]", "tasks: [{name: reach, max_steps: 5}]"),
        ("adapter: extra_env", "adapter: extra_env\nenv: {subtasks: 2}"),
    ]
    found = set()
    for number, change in enumerate([("", ""), *changes]):
        path = folder / f"mine{number}.yaml"
        path.write_text(GOOD.replace(*change).replace("name: mine", f"name: mine{number}"))
        suite = load_suite(f"mine{number}")
        found.add(suite.fingerprint())
    assert len(found) == len(changes) + 1


def test_the_fingerprint_leaves_out_trials_and_titles(folder: Path) -> None:
    (folder / "mine.yaml").write_text(GOOD)
    suite = load_suite("mine")
    assert suite.with_protocol(trials=50).fingerprint() == suite.fingerprint()
    assert suite.with_protocol(max_steps=11).fingerprint() != suite.fingerprint()
    with pytest.raises(SuiteError, match="did you mean max_steps"):
        suite.with_protocol(maxsteps=11)
