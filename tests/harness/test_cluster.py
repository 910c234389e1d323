"""The same run on Ray: workers and hosts as actors, policy calls over ZeroMQ; and what happens when they die."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from harness import run as running
from harness.cluster import ClusterError, InlineCluster
from harness.config import compose_run
from harness.plan import PlanError
from reports.records import EpisodeRecord, RecordStore
from suites.protocol import load_suite


def run(folder: Path, *words: str) -> running.Ended:
    command = [f"run.dir={folder}", *words]
    return running.run(compose_run(command), Console(quiet=True), ["memvla", "run", *command])


def records(folder: Path) -> list[EpisodeRecord]:
    with RecordStore(folder / "episodes.sqlite") as store:
        return store.attempts()


def digests(folder: Path) -> dict[object, tuple[str, str, str, str]]:
    return {
        record.scene: (record.outcome, record.scene_hash, record.first_frame_hash, record.action_digest)
        for record in records(folder)
        if record.scored
    }


@pytest.fixture
def suite_with_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a suite file whose simulator goes wrong once, in trial 2."""

    def make(how: str) -> str:
        flag = tmp_path / "flag"
        flag.touch()
        folder = tmp_path / "suites"
        folder.mkdir()
        text = (Path(os.environ["MEMVLA_SUITES"]) / "point.yaml").read_text()
        text = text.replace("name: point", f"name: point_{how}")
        text = text.replace("env: {}", f"env: {{how: {how}, trial: 2, flag: {flag}}}")
        (folder / f"point_{how}.yaml").write_text(text)
        monkeypatch.setenv("MEMVLA_SUITES", os.pathsep.join([os.environ["MEMVLA_SUITES"], str(folder)]))
        return f"point_{how}"

    return make


def test_workers_order_and_batching_change_no_action_and_no_outcome(tmp_path: Path) -> None:
    """Inline against Ray with two workers and batches, on the lab's real physics and pictures."""
    words = ["suite=lab_general", "policy=remembering,random", "run.trials=4", "run.tasks=[press_by_colour,stack]"]
    assert run(tmp_path / "inline", *words, "cluster=inline").exit_code == 0
    assert run(tmp_path / "ray", *words, "cluster.workers=2").exit_code == 0
    for policy in ("remembering", "random"):
        alone, together = digests(tmp_path / "inline" / policy), digests(tmp_path / "ray" / policy)
        assert len(alone) == 8
        assert together == alone
    assert {record.worker for record in records(tmp_path / "ray" / "random")} == {"worker-1", "worker-2"}
    assert (tmp_path / "ray" / "random" / "videos").is_dir()
    assert [child.name() for child in psutil.Process().children(recursive=True) if "ray" in child.name()] == []


def test_a_policy_host_killed_in_a_call_voids_what_was_alive_and_the_run_goes_on(tmp_path: Path) -> None:
    assert run(tmp_path / "inline", "suite=point", "policy=remembering", "cluster=inline").exit_code == 0
    words = ["suite=point", "policy=faulty", "policy.how=kill", "policy.trial=2", "cluster.workers=2"]
    assert run(tmp_path / "ray", *words).exit_code == 0
    void = [record for record in records(tmp_path / "ray" / "faulty") if record.outcome == "void"]
    assert 2 in {record.trial for record in void}
    assert all("connection to the policy host was lost" in record.cause for record in void)
    assert digests(tmp_path / "ray" / "faulty") == digests(tmp_path / "inline" / "remembering")


def test_a_simulator_that_aborts_voids_its_attempt_alone(tmp_path: Path, suite_with_fault) -> None:
    suite = suite_with_fault("abort")
    assert run(tmp_path / "ray", f"suite={suite}", "policy=remembering", "cluster.workers=2").exit_code == 0
    (void,) = [record for record in records(tmp_path / "ray" / "remembering") if record.outcome == "void"]
    assert (void.trial, void.attempt) == (2, 1)
    assert "worker process died" in void.cause
    run(tmp_path / "undisturbed", f"suite={suite}", "policy=remembering", "cluster=inline")
    assert digests(tmp_path / "ray" / "remembering") == digests(tmp_path / "undisturbed" / "remembering")


def test_a_simulator_that_hangs_is_ended_and_its_attempt_repeated(
    tmp_path: Path, suite_with_fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.driver.WATCH_AFTER_S", 2.0)
    monkeypatch.setattr("harness.driver.WATCH_EVERY_S", 0.5)
    suite = suite_with_fault("hang")
    assert run(tmp_path, f"suite={suite}", "policy=remembering", "limits.step=3", "cluster.workers=1").exit_code == 0
    (void,) = [record for record in records(tmp_path / "remembering") if record.outcome == "void"]
    assert (void.trial, void.attempt) == (2, 1)
    assert "hung" in void.cause
    assert len(digests(tmp_path / "remembering")) == 6


def test_a_policy_that_cannot_be_built_is_one_clear_error_and_nothing_is_recorded(tmp_path: Path) -> None:
    words = ["suite=lab_smoke", "policy=expert", "policy.target=policies.nowhere:Nothing"]
    with pytest.raises(ClusterError, match=r"policy expert could not be started: .*policies.nowhere"):
        run(tmp_path, *words)
    assert records(tmp_path / "expert") == []


def test_a_policy_that_does_not_fit_the_suite_is_refused_before_a_simulator_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InlineCluster, "worker", lambda *_: pytest.fail("a simulator was started"))
    with pytest.raises(PlanError, match="proprioception"):
        run(tmp_path, "suite=point", "policy=remembering", "protocol.gives_state=false", "cluster=inline")
    with pytest.raises(PlanError, match="actions are to be executed per call"):
        run(tmp_path / "b", "suite=point", "policy=remembering", "protocol.execute=5", "cluster=inline")


def test_a_simulator_with_its_own_python_does_not_run_inline() -> None:
    with pytest.raises(ClusterError, match="use cluster=local"):
        InlineCluster().worker(load_suite("libero_object").runtime)


def test_more_workers_than_memory_slots_wait_and_none_is_evicted(tmp_path: Path) -> None:
    """A policy of one slot under two workers: one episode at a time, all of them scored, none void."""
    words = ["suite=lab_smoke", "policy=cogact", "policy.slots=1", "run.trials=2", "protocol.max_steps=32"]
    assert run(tmp_path, *words, "cluster.workers=2", "run.videos=0").exit_code == 0
    found = records(tmp_path / "cogact")
    assert [record.outcome for record in found] == ["failure"] * 4
    begun = sorted((record.started_at, record.seconds["total"]) for record in found)
    assert len({record.worker for record in found}) == 1
    assert len(begun) == 4


def test_several_hosts_share_the_episodes_and_change_no_action(tmp_path: Path) -> None:
    """Two hosts, one killed in a call: its episode is void and repeated, and every action is as from one policy."""
    assert run(tmp_path / "inline", "suite=point", "policy=remembering", "cluster=inline").exit_code == 0
    words = ["suite=point", "policy=faulty", "policy.how=kill", "policy.trial=2", "cluster.workers=2"]
    assert run(tmp_path / "ray", *words, "cluster.hosts=2").exit_code == 0
    found = records(tmp_path / "ray" / "faulty")
    assert [record.trial for record in found if record.outcome == "void"] == [2]
    assert digests(tmp_path / "ray" / "faulty") == digests(tmp_path / "inline" / "remembering")


def test_untrained_memoryvla_acts_alike_on_any_number_of_workers_and_batch_limits(tmp_path: Path) -> None:
    """The exact mode through the real harness: bit for bit the same executed actions."""
    words = ["suite=lab_smoke", "policy=memoryvla", "run.trials=3", "protocol.max_steps=40", "run.videos=0"]
    assert run(tmp_path / "inline", *words, "cluster=inline").exit_code == 0
    assert run(tmp_path / "ray", *words, "cluster.workers=2", "cluster.max_batch=8").exit_code == 0
    alone = digests(tmp_path / "inline" / "memoryvla")
    assert len({digest for *_, digest in alone.values()}) == 6, "all alike would show nothing"
    assert digests(tmp_path / "ray" / "memoryvla") == alone
