from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from reports.manifest import Manifest, ManifestError, differences, find_runs, plan_of, read, refuse_resume
from suites.protocol import load_suite
from tests.reports.making import manifest, plan, record, run_folder

SUITE = """
name: tiny
version: 3
title: A tiny suite
benchmark: tiny
adapter: tiny_adapter
env: {size: 64}
protocol: {max_steps: 10, trials: 4}
tasks:
  - {name: press, tags: {family: general}}
  - stack
"""


def test_a_manifest_survives_the_disk(tmp_path: Path) -> None:
    made = manifest(
        suites=[plan(tags={"press": {"family": "general"}})], hashes={"model": "ab"}, config={"a": [1, None]}
    )
    made.write(tmp_path)
    assert read(tmp_path) == made
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]


def test_a_manifest_from_before_assets_were_written_down_is_read(tmp_path: Path) -> None:
    manifest().write(tmp_path)
    data = json.loads((tmp_path / "manifest.json").read_text())
    del data["assets"]
    for suite in data["suites"]:
        del suite["not_covered"], suite["fewer"]
    (tmp_path / "manifest.json").write_text(json.dumps({**data, "schema": 1}))
    assert read(tmp_path) == manifest()


def test_other_assets_refuse_to_carry_a_run_on_and_new_ones_do_not() -> None:
    def having(**files: str) -> Manifest:
        return manifest(assets={"mikasa": {"files": files, "stand_ins": {}}})

    refuse_resume(manifest(), having(mug="ab"))
    refuse_resume(having(mug="ab"), having(mug="ab", lamp="cd"))
    with pytest.raises(ManifestError, match=r"assets mikasa: mug: was 'ab', is 'cd'"):
        refuse_resume(having(mug="ab"), having(mug="cd"))


def test_tuples_and_lists_are_the_same_manifest(tmp_path: Path) -> None:
    made = manifest(policy_config={"cameras": ("front", "wrist")})
    made.write(tmp_path)
    refuse_resume(read(tmp_path), manifest(policy_config={"cameras": ("front", "wrist")}))


def test_the_plan_of_a_suite_is_the_suite_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    (tmp_path / "tiny_adapter.py").write_text("from envs.runtime import Runtime\nRUNTIME = Runtime(name='tiny-env')\n")
    monkeypatch.setenv("MEMVLA_SUITES", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    suite = load_suite("tiny")
    made = plan_of(suite, ["press"], 7, {"chunk": 8})
    assert (made.name, made.version, made.runtime, made.trials, made.planned) == ("tiny", 3, "tiny-env", 7, 7)
    assert made.fingerprint == suite.fingerprint()
    assert made.protocol["max_steps"] == 10
    assert made.tags == {"press": {"family": "general"}}
    assert made.policy == {"chunk": 8}


def test_versions_and_the_host_are_written_down() -> None:
    made = manifest()
    assert made.packages["numpy"] == metadata.version("numpy")
    assert made.packages["memvla-bench"] == metadata.version("memvla-bench")
    assert made.host["cpus"] == os.cpu_count()
    assert made.host["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_git_revision_is_that_of_our_own_checkout_only(tmp_path: Path) -> None:
    from reports.manifest import _git

    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], capture_output=True, text=True, check=True
        ).stdout

    git("init", "-q")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.txt").write_text("a")
    git("add", "-A")
    git("commit", "-qm", "first")
    assert _git(tmp_path.resolve()) == {"revision": git("rev-parse", "HEAD").strip(), "dirty": False}
    (tmp_path / "inner" / "a.txt").write_text("b")
    assert _git(tmp_path.resolve())["dirty"] is True
    assert _git((tmp_path / "inner").resolve()) == {}  # installed inside somebody else's checkout


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ManifestError, match="JSON"):
        manifest(config={"path": object()})
    with pytest.raises(ManifestError, match="JSON"):
        manifest(config={"gate": float("nan")})


@pytest.mark.parametrize("suites", [[plan(trials=0)], [plan(tasks=())], [plan(), plan()]])
def test_a_plan_without_scenes_or_with_a_suite_twice_is_refused(suites: list[Any]) -> None:
    with pytest.raises(ManifestError, match="each once and with scenes"):
        manifest(suites=suites)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "is not JSON"),
        ("[]", "not a mapping"),
        ("{}", "schema None"),
        ('{"schema": 999}', "schema 999.*upgrade"),
        ('{"schema": 1}', "suites"),
        ('{"schema": 1, "suites": [{"name": "a"}]}', "missing benchmark"),
        ('{"schema": 1, "suites": [], "colour": 1}', "unknown colour"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_by_name(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ManifestError, match=rf"manifest\.json.*{found}"):
        read(tmp_path)


def test_a_missing_manifest_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no manifest here"):
        read(tmp_path)
    with pytest.raises(ManifestError, match=r"nowhere.*check that the folder exists"):
        manifest().write(tmp_path / "nowhere")


WRITE = """
import sys; sys.path.insert(0, sys.argv[2])
from tests.reports.making import manifest
for seed in range(100_000):
    manifest(seed=seed, config={"long": "x" * 200_000}).write(sys.argv[1])
    print(seed, flush=True)
"""


def test_a_kill_while_writing_leaves_a_whole_manifest() -> None:
    root = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory() as folder:
        with subprocess.Popen([sys.executable, "-c", WRITE, folder, root], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(5):
                writer.stdout.readline()
            os.kill(writer.pid, signal.SIGKILL)
            done = 4 + len(writer.stdout.readlines())
        assert read(folder).seed in (done, done + 1)


# ---------------------------------------------------------------------- resuming


def test_the_same_command_resumes_and_more_scenes_are_welcome() -> None:
    old = manifest(suites=[plan(trials=3)])
    refuse_resume(old, manifest(suites=[plan(trials=3)], command=("memvla", "run", "again")))
    refuse_resume(old, manifest(suites=[plan(trials=9, tasks=("press", "stack")), plan("other")]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed: was 0, is 1"),
        ({"policy": "cogact"}, "policy: was 'expert', is 'cogact'"),
        ({"policy_config": {"options": {"memory": False}}}, r"policy_config\.options\.memory: was True, is False"),
        ({"privileged": True}, "privileged"),
        ({"hashes": {"checkpoint": "other"}}, r"hashes\.checkpoint: was 'ab', is 'other'"),
        ({"suites": [plan(trials=3, fingerprint="new")]}, "protocol fingerprint: was 'lab-0123456789', is 'new'"),
        ({"suites": [plan(trials=3, policy={"chunk": 4})]}, r"policy\.chunk"),
        ({"suites": [plan(trials=2)]}, "3 trials planned before, only 2 now"),
        ({"suites": [plan("other")]}, "suite lab: planned before, left out now"),
        ({"suites": [plan(trials=3, tasks=("stack",))]}, "'press' among them"),
    ],
)
def test_another_run_is_refused_with_what_differs(changes: dict[str, Any], said: str) -> None:
    same: dict[str, Any] = {"suites": [plan(trials=3)], "hashes": {"checkpoint": "ab"}}
    with pytest.raises(ManifestError, match=rf"cannot be resumed[\s\S]*{said}[\s\S]*another results folder"):
        refuse_resume(manifest(**same), manifest(**(same | changes)))


def test_a_changed_protocol_is_named_rule_by_rule() -> None:
    old = plan()
    new = replace(old, fingerprint="new", protocol=old.protocol | {"max_steps": 60})
    with pytest.raises(ManifestError, match=r"protocol\.max_steps: was 120, is 60"):
        refuse_resume(manifest(suites=[old]), manifest(suites=[new]))


def test_a_package_that_can_change_scores_must_stay_the_same_and_others_may_move() -> None:
    old = manifest()
    refuse_resume(old, replace(old, packages=old.packages | {"pandas": "0.0"}))
    with pytest.raises(ManifestError, match=r"package mujoco: was .*, is '0\.0'"):
        refuse_resume(old, replace(old, packages=old.packages | {"mujoco": "0.0"}))


def test_workers_of_one_suite_must_have_one_simulator() -> None:
    made = manifest().with_simulator("lab", {"mujoco": "4.0.0", "renderer": "rays"})
    assert made.with_simulator("lab", {"renderer": "rays", "mujoco": "4.0.0"}) == made
    with pytest.raises(ManifestError, match=r"workers disagree: simulator of lab\.renderer: was 'rays', is 'gl'"):
        made.with_simulator("lab", {"mujoco": "4.0.0", "renderer": "gl"})


def test_differences_are_readable_and_leave_out_when_and_how() -> None:
    old = manifest(suites=[plan(trials=3)])
    new = replace(old, started_at="2030-01-01", command=("other",), suites=(plan(trials=4),), seed=7)
    assert differences(old, old) == []
    assert differences(old, new) == ["seed: was 0, is 7", "suites.lab.trials: was 3, is 4"]
    assert differences(old, replace(old, hashes={"a": "b"})) == ["hashes.a: was absent, is 'b'"]


# ---------------------------------------------------------------------- finding


def test_runs_are_found_here_one_level_down_and_two(tmp_path: Path) -> None:
    made: Manifest = manifest()
    places = [tmp_path / "b", tmp_path / "a" / "night"]
    for place in places:
        run_folder(place, made, [record()])
    assert find_runs(tmp_path / "b") == [tmp_path / "b"]
    assert find_runs(tmp_path) == sorted(places)


def test_no_run_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no run here"):
        find_runs(tmp_path)
    with pytest.raises(ManifestError, match="no such folder"):
        find_runs(tmp_path / "nowhere")


def test_the_file_is_json_for_other_programs(tmp_path: Path) -> None:
    data = json.loads(manifest().write(tmp_path).read_text())
    assert data["policy"] == "expert"
    assert data["suites"][0]["tasks"] == ["press"]
