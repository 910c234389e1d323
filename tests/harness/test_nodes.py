"""A cluster of two nodes on this machine, real Ray processes each: one node leaves and another joins."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.records import EpisodeRecord, RecordStore


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    small = {"num_cpus": 1, "object_store_memory": 128 * 2**20}
    found = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    yield found, small
    found.shutdown()


def records(folder: Path, policy: str) -> list[EpisodeRecord]:
    with RecordStore(folder / policy / "episodes.sqlite") as store:
        return store.attempts()


def digests(folder: Path, policy: str) -> dict[int, tuple[str, str, str]]:
    found = [record for record in records(folder, policy) if record.scored]
    assert len({record.trial for record in found}) == len(found)
    return {record.trial: (record.outcome, record.scene_hash, record.action_digest) for record in found}


def memvla(*words: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "run", "suite=point", "run.videos=0", "--no-report", *words]


def scored(folder: Path) -> int:
    path = folder / "slow" / "episodes.sqlite"
    return len(digests(folder, "slow")) if path.exists() else 0


@pytest.mark.timeout(600)
def test_a_node_leaves_and_another_joins_and_the_run_goes_on(tmp_path: Path, cluster: Any) -> None:
    """Policy calls go over encrypted TCP here; the node that leaves takes a worker with it, and perhaps the host."""
    nodes, small = cluster
    leaving = nodes.add_node(**small)
    trials = "run.trials=60"
    subprocess.run(memvla("policy=remembering", f"run.dir={tmp_path / 'whole'}", trials, "cluster=inline"), check=True)
    slow = ["policy=slow", f"policy.notes={tmp_path / 'notes'}", "policy.sleep=0.1", trials]
    where = [f"cluster.address={nodes.address}", "cluster.workers=2", "run.attempts=9", "run.max_void=0.9"]
    process = subprocess.Popen(
        memvla(*slow, *where, f"run.dir={tmp_path / 'cut'}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def until(condition: Any) -> None:
        while not condition():
            if process.poll() is not None:
                pytest.fail(f"the run ended: {process.communicate()[0][-2000:]}")
            time.sleep(0.1)

    until(lambda: scored(tmp_path / "cut") >= 4)
    nodes.remove_node(leaving, allow_graceful=False)
    until(lambda: any(record.outcome == "void" for record in records(tmp_path / "cut", "slow")))
    nodes.add_node(**small)
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said[-2000:]
    assert digests(tmp_path / "cut", "slow") == digests(tmp_path / "whole", "remembering")
