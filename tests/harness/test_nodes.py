"""A cluster of two nodes on this machine, real Ray processes each: one node leaves and another joins."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.config import ConfigError, compose_run
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


@pytest.mark.timeout(600)
def test_simulators_draw_on_the_gpu_that_is_reserved_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four workers at half a GPU each on a node that says it has two: two on each, and each renderer is told which."""
    from ray.cluster_utils import Cluster

    from envs.runtime import Runtime
    from harness.cluster import ClusterError, RayCluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    for variable in ("CUDA_VISIBLE_DEVICES", "MUJOCO_EGL_DEVICE_ID", "EGL_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    node = {"num_cpus": 5, "num_gpus": 2, "object_store_memory": 128 * 2**20, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=node)
    cluster = RayCluster(address=nodes.address, gpus_per_host=0.0, gpus_per_worker=0.5)
    try:
        cluster.require_gpus(1, 4, limit_s=0.0)
        with pytest.raises(ClusterError, match=r"2\.5 GPUs are asked for, and Ray finds 2.*reserve less"):
            cluster.require_gpus(1, 5, limit_s=0.0)
        told = []
        for worker in [cluster.worker(Runtime()) for _ in range(4)]:
            asked = worker.actor.__ray_call__.remote(gpus_of)
            told.append(cluster._ray.get(asked, timeout=500))
        assert sorted(told) == [("0", "0", "0"), ("0", "0", "0"), ("1", "1", "1"), ("1", "1", "1")]
    finally:
        cluster.stop()
        nodes.shutdown()


def gpus_of(_: Any) -> tuple[str, ...]:
    names = ("CUDA_VISIBLE_DEVICES", "MUJOCO_EGL_DEVICE_ID", "EGL_VISIBLE_DEVICES")
    return tuple(os.environ.get(name, "") for name in names)


@pytest.mark.parametrize("word", ["cluster.gpus_per_worker=-1", "cluster.gpus_per_host=1.5"])
def test_a_share_of_gpus_that_nobody_can_have_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="must be a whole number or a fraction of one GPU"):
        compose_run(["suite=point", "policy=random", word])
