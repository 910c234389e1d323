"""Whether two scene seeds give different scenes, tried out on the simulator itself."""

from __future__ import annotations

from dataclasses import replace

from harness.cluster import Answer, Cluster, ClusterError, PolicyConfig, Worker
from harness.config import ConfigError
from harness.plan import context_of, episodes, match, scenes
from harness.worker import Ready, Result
from suites.protocol import Suite, load_suite

STILL = PolicyConfig("probe", "policies.baselines:RandomPolicy", {"chunk": 1, "scale": 0.0})


def refuse_evaluation_scenes(suite: Suite, cluster: Cluster, *, timeout_s: float) -> None:
    """Play one step of the suite's first scene, under evaluation's scene seed and under this suite's own.

    Raises ConfigError when the scenes are the same, ClusterError when one of them could not be played.
    """
    used = load_suite(suite.name).protocol.scene_seed
    host = cluster.host(STILL, context_of(suite), max_batch=1, timeout_s=timeout_s)
    worker = cluster.worker(suite.runtime)
    try:
        cluster.prepare(worker, match(host.spec, suite), host.link)
        ready = _answer(cluster, worker)
        if not isinstance(ready, Ready):
            raise ClusterError(f"{worker.name} could not be started: {ready}")
        first = scenes(suite, 1)[:1]
        spec = replace(episodes(first, suite, host.spec, seed=0)[0], max_steps=1, execute=1)
        hashes = []
        for number, seed in enumerate((used, suite.protocol.scene_seed)):
            again = replace(spec.episode, attempt=number + 1)
            cluster.submit(worker, replace(spec, episode=again, scene_seed=seed))
            result = _answer(cluster, worker)
            if not isinstance(result, Result) or not result.record.scene_hash:
                cause = result.record.cause if isinstance(result, Result) else result
                raise ClusterError(f"{first[0]} could not be set up: {cause}")
            hashes.append(result.record.scene_hash)
    finally:
        cluster.kill(worker, host)
        cluster.release(host)
    if hashes[0] == hashes[1]:
        raise ConfigError(
            f"the scenes of {suite.name} do not depend on the scene seed: demonstrations would be of the very scenes "
            "that it is evaluated on. Record another suite, or say collect.evaluation_scenes=true"
        )


def _answer(cluster: Cluster, worker: Worker) -> Answer:
    """What comes of the thing the worker was told to do last."""
    while not (found := cluster.finished([worker], timeout_s=1.0)):
        pass
    worker.episode = None
    return found[0][1]
