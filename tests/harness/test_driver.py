"""The driver: void attempts are repeated and never scored, runs resume exactly, and mistakes are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from harness import run as running
from harness.config import compose_run
from harness.driver import Queue
from harness.plan import EpisodeSpec
from reports.manifest import ManifestError, read
from reports.records import EpisodeRecord, RecordStore


def run(folder: Path, *words: str, cluster: str = "inline") -> running.Ended:
    command = [f"run.dir={folder}", f"cluster={cluster}", "run.videos=0", *words]
    return running.run(compose_run(command), Console(quiet=True), ["memvla", "run", *command])


def records(folder: Path, policy: str) -> list[EpisodeRecord]:
    with RecordStore(folder / policy / "episodes.sqlite") as store:
        return store.attempts()


def digests(folder: Path, policy: str) -> dict[int, tuple[str, str, str]]:
    found = [record for record in records(folder, policy) if record.scored]
    return {record.trial: (record.outcome, record.scene_hash, record.action_digest) for record in found}


def test_a_void_attempt_is_repeated_and_its_repetition_is_the_undisturbed_episode(tmp_path: Path) -> None:
    assert run(tmp_path / "a", "suite=point", "policy=remembering").exit_code == 0
    assert run(tmp_path / "b", "suite=point", "policy=faulty", "policy.how=raise").exit_code == 0
    attempts = [
        (record.trial, record.attempt, record.outcome == "void") for record in records(tmp_path / "b", "faulty")
    ]
    assert sorted(attempts) == [(0, 1, False), (1, 1, True), (1, 2, False), *((n, 1, False) for n in range(2, 6))]
    assert digests(tmp_path / "b", "faulty") == digests(tmp_path / "a", "remembering")
    assert list((tmp_path / "b" / "faulty" / "logs").iterdir()), "the traceback of a void attempt is kept"


def test_a_scene_that_stays_void_is_given_up_and_said_in_the_exit_code(tmp_path: Path) -> None:
    ended = run(tmp_path, "suite=point", "policy=faulty", "policy.how=not_a_number", "policy.times=9", "run.attempts=2")
    assert ended.exit_code == running.NOT_COVERED
    void = [record for record in records(tmp_path, "faulty") if record.outcome == "void"]
    assert [(record.trial, record.attempt) for record in void] == [(1, 1), (1, 2)]
    assert sorted(digests(tmp_path, "faulty")) == [0, 2, 3, 4, 5]


def test_a_run_whose_attempts_are_mostly_void_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    ended = run(tmp_path, "suite=point", "policy=broken_everywhere", "run.trials=40")
    assert ended.exit_code == running.NOT_COVERED
    assert len(records(tmp_path, "broken_everywhere")) == 10


@pytest.fixture(autouse=True)
def broken_everywhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy file of the user's own whose `start` always fails, beside those of the extras."""
    folder = tmp_path_factory.mktemp("policies")
    (folder / "broken_everywhere.yaml").write_text("target: user_policy:Broken\n")
    (folder / "user_policy.py").write_text(
        "from extra_policies import Remembering\n"
        "class Broken(Remembering):\n"
        "    def start(self, episodes):\n"
        "        raise RuntimeError('no weights')\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("MEMVLA_POLICIES", os.pathsep.join([os.environ["MEMVLA_POLICIES"], str(folder)]))


def test_resuming_runs_exactly_the_missing_episodes(tmp_path: Path) -> None:
    run(tmp_path, "suite=point", "policy=remembering", "run.trials=2")
    before = records(tmp_path, "remembering")
    run(tmp_path, "suite=point", "policy=remembering", "run.trials=5")
    after = records(tmp_path, "remembering")
    assert after[:2] == before
    assert [record.trial for record in after] == [0, 1, 2, 3, 4]
    assert run(tmp_path, "suite=point", "policy=remembering", "run.trials=5").exit_code == 0
    assert records(tmp_path, "remembering") == after


@pytest.mark.parametrize("change", ["protocol.max_steps=30", "run.seed=1", "run.trials=1", "policy.chunk=2"])
def test_a_run_made_under_other_rules_is_not_resumed(tmp_path: Path, change: str) -> None:
    run(tmp_path, "suite=point", "policy=remembering", "run.trials=2", "policy.chunk=4")
    before = (tmp_path / "remembering" / "manifest.json").read_bytes(), records(tmp_path, "remembering")
    words = ["suite=point", "policy=remembering", "run.trials=2", "policy.chunk=4"]
    changed = [word for word in words if word.partition("=")[0] != change.partition("=")[0]]
    with pytest.raises(ManifestError, match="cannot be resumed"):
        run(tmp_path, *changed, change)
    assert ((tmp_path / "remembering" / "manifest.json").read_bytes(), records(tmp_path, "remembering")) == before


def test_a_checkpoint_that_was_trained_on_is_another_policy(tmp_path: Path) -> None:
    """The weights' digest is in the manifest: a run is not filled up with episodes of other weights of that name."""
    from policies.base import PolicyContext
    from policies.cogact.policy import cogact
    from policies.vla.checkpoint import save_checkpoint
    from suites.protocol import load_suite

    suite = load_suite("lab_smoke")
    policy = cogact(PolicyContext(suite.name, suite.env_spec), cameras=["front"], threads=1)
    weights = tmp_path / "weights"

    def save() -> None:
        save_checkpoint(
            weights,
            policy.network,
            policy.loaded.config,
            statistics={"lab": {"action": {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 6 + [False]}}},
            tokenizer=policy.loaded.prompter.tokenizer,
            action=policy.spec.action,
            cameras=policy.spec.cameras,
        )

    save()
    words = ["suite=lab_smoke", "run.tasks=[press_by_colour]", "policy=cogact", f"policy.checkpoint={weights}"]
    assert run(tmp_path, *words, "run.trials=1").exit_code == 0
    assert len(read(tmp_path / "cogact").hashes["checkpoint"]) == 64
    policy.network.action_model.net.final_layer.linear.bias.data += 0.1
    save()
    with pytest.raises(ManifestError, match="hashes"):
        run(tmp_path, *words, "run.trials=2")


def test_a_driver_killed_at_any_moment_resumes_to_the_undisturbed_run(tmp_path: Path) -> None:
    """kill -9 in the middle, several times over; the same command again runs what is missing and nothing else."""
    run(tmp_path / "whole", "suite=point", "policy=remembering", "run.trials=12")
    notes = tmp_path / "notes"
    words = ["suite=point", "policy=slow", f"policy.notes={notes}", f"run.dir={tmp_path / 'cut'}", "run.trials=12"]
    command = [sys.executable, "-m", "harness.cli", "run", *words, "cluster=inline", "run.videos=0", "--no-report"]
    for calls in (25, 70):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and (not notes.exists() or notes.stat().st_size < 5 * calls):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert 0 < len(records(tmp_path / "cut", "slow")) < 12
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert len(records(tmp_path / "cut", "slow")) == 12
    assert digests(tmp_path / "cut", "slow") == digests(tmp_path / "whole", "remembering")


def test_control_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    words = ["suite=point", "policy=slow", f"policy.notes={notes}", f"run.dir={tmp_path / 'cut'}", "run.trials=12"]
    command = [sys.executable, "-m", "harness.cli", "run", *words, "cluster=inline", "--no-report"]
    # A parent that runs in the background may ignore the signal, and its children would inherit that.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed)
    while not notes.exists() or notes.stat().st_size < 5 * 30:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == running.INTERRUPTED
    assert "Resume with" in said
    assert f"run.dir={tmp_path / 'cut'}" in said
    assert 0 < len(records(tmp_path / "cut", "slow")) < 12


def test_one_command_gives_each_policy_a_run_of_its_own(tmp_path: Path) -> None:
    ended = run(tmp_path, "suite=point,point_chain", "policy=expert,remembering", "run.trials=2")
    assert [folder.name for folder in ended.folders] == ["expert", "remembering"]
    for policy in ("expert", "remembering"):
        assert [record.suite for record in records(tmp_path, policy)] == ["point"] * 2 + ["point_chain"] * 2
    assert all(record.privileged for record in records(tmp_path, "expert"))
    assert not any(record.privileged for record in records(tmp_path, "remembering"))


def test_a_worker_keeps_to_its_task_and_idle_ones_take_the_longest() -> None:
    from envs.spec import EpisodeId

    def spec(task: str, trial: int) -> EpisodeSpec:
        return EpisodeSpec(EpisodeId("s", task, trial), 0, 0, 10, 1, "once", True, "episode")

    queue = Queue.of([spec("a", n) for n in range(3)] + [spec("b", n) for n in range(2)])
    assert queue.pop("", []).episode.task == "a"
    assert queue.pop("", ["a"]).episode.task == "b"
    assert queue.pop("a", ["b"]).episode.trial == 1
    queue.push(spec("a", 0).again())
    assert queue.pop("a", []).episode == EpisodeId("s", "a", 0, 2)
    assert [queue.pop("a", ["a"]).episode.task for _ in range(2)] == ["a", "b"]
    assert len(queue) == 0
