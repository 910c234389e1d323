"""Against the real vla-eval and openpi-client, installed from the package index into environments of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from envs.conversions import converter
from envs.runtime import Runtime
from envs.spec import EpisodeId, Floats, Observation
from harness.cluster import PolicyConfig
from harness.config import load_policy_file, policy_files
from harness.plan import context_of
from harness.serving.app import build_app
from harness.serving.background import running
from harness.serving.settings import ServeSettings
from policies.base import ActRequest, EpisodeStart, Policy, PolicyError
from policies.remote.policy import remote
from suites.protocol import load_suite
from tests.peers.environments import OPENPI, PEERS, VLA_EVAL, python_with

sys.path.insert(0, str(PEERS))
from pictures import answer, picture

SUITE = load_suite("lab_smoke")
TEXT = "push the button"


def surroundings() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PEERS), "OMP_NUM_THREADS": "1"}


@contextmanager
def peer(runtime: Runtime, *words: str) -> Iterator[int]:
    """A server of theirs on a free port; the port is the last word."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([python_with(runtime), *words, str(port)], env=surroundings())
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, "it ended early"
            assert time.monotonic() < deadline, "it did not start"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


def make(name: str) -> Policy:
    data = load_policy_file(policy_files()[name])
    options = {key: value for key, value in data.items() if key not in ("name", "title", "target")}
    return PolicyConfig(name, data["target"], options).build(context_of(SUITE))


def in_process(policy: Policy, episode: EpisodeId, trial: int, steps: int, execute: int) -> list[Floats]:
    """Every chunk the policy gives in trial `trial` of the made-up world, in the suite's own convention."""
    convert = converter(policy.spec.action, SUITE.env_spec.action)
    policy.start([EpisodeStart(episode, 0, TEXT)])
    chunks, last = [], np.zeros(7)
    for call, step in enumerate(range(0, steps, execute)):
        seen = Observation({"front": picture(trial, step, last)}, None, TEXT, step)
        chunks.append(convert(policy.act([ActRequest(episode, call, seen)])[0].actions))
        last = chunks[-1][execute - 1]
    policy.end([episode])
    return chunks


@pytest.mark.timeout(600)
def test_the_real_vla_eval_gets_our_policies_actions_bit_for_bit(tmp_path: Path) -> None:
    python, policy = python_with(VLA_EVAL), make("memoryvla")
    entry = {
        "benchmark": "vla_eval_world:Pictures",
        "episodes_per_task": 2,
        "max_steps": 10,
        "params": {"to": str(tmp_path / "actions")},
    }
    config = tmp_path / "eval.yaml"
    config.write_text(yaml.safe_dump({"benchmarks": [entry], "output_dir": str(tmp_path / "results")}))
    app = build_app(make("memoryvla"), SUITE, ServeSettings(root_socket="vla_eval"))
    with running(app) as url:
        command = [str(Path(python).parent / "vla-eval"), "run", "--no-docker", "--config", str(config)]
        done = subprocess.run(
            [*command, "--server-url", url.replace("http", "ws")],
            env=surroundings(),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Spec mismatch" not in done.stdout + done.stderr
    got = np.frombuffer((tmp_path / "actions").read_bytes(), "<f4").reshape(2, 10, 7)
    for trial in (0, 1):
        chunks = in_process(policy, EpisodeId("lab_smoke", "made_up", trial), trial, 10, policy.spec.execute)
        expected = np.concatenate([chunk[: policy.spec.execute] for chunk in chunks])[:10]
        np.testing.assert_array_equal(got[trial], expected)


@pytest.mark.timeout(600)
def test_a_real_vla_eval_server_is_driven_with_its_episodes_kept_apart() -> None:
    with peer(VLA_EVAL, str(PEERS / "vla_eval_world.py")) as port:
        policy = remote(context_of(SUITE), protocol="vla_eval", url=f"ws://127.0.0.1:{port}")
        assert (policy.spec.chunk, policy.spec.slots) == (1, None)
        names = [EpisodeId("lab_smoke", "made_up", trial) for trial in (0, 1)]
        policy.start([EpisodeStart(name, 0, TEXT) for name in names])
        seen: dict[EpisodeId, list[np.ndarray]] = {name: [] for name in names}
        for step in range(9):
            images = {name: picture(name.trial, step, np.zeros(7)) for name in names}
            if step % 4 == 0:
                for name in names:
                    seen[name].append(images[name])
            replies = policy.act(
                [ActRequest(name, step, Observation({"front": images[name]}, None, TEXT, step)) for name in names]
            )
            for name, reply in zip(names, replies, strict=True):
                np.testing.assert_array_equal(reply.actions, answer(seen[name])[step % 4][None])
        policy.end(names[:1])
    with pytest.raises(PolicyError, match="memory of this episode"):
        policy.act([ActRequest(names[1], 9, Observation({"front": images[names[1]]}, None, TEXT, 9))])
    policy.close()


@pytest.mark.timeout(600)
def test_the_real_openpi_client_gets_our_policies_actions_bit_for_bit() -> None:
    python, policy = python_with(OPENPI), make("memoryvla")
    app = build_app(make("memoryvla"), SUITE, ServeSettings(connection_is_episode=True))
    with running(app) as url:
        done = subprocess.run(
            [python, str(PEERS / "openpi_world.py"), "drive", url.replace("http", "ws")],
            env=surroundings(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    got = [np.frombuffer(bytes.fromhex(line), "<f4").reshape(-1, 7) for line in done.stdout.split()]
    name = EpisodeId("lab_smoke", "live", 0)
    expected = [chunk for trial in (0, 1) for chunk in in_process(policy, name, trial, 12, 4)]
    assert len(got) == len(expected) == 6
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.timeout(600)
def test_a_server_with_openpis_own_codec_is_driven() -> None:
    with peer(OPENPI, str(PEERS / "openpi_world.py"), "host") as port:
        options: dict[str, Any] = {"protocol": "openpi", "url": f"ws://127.0.0.1:{port}", "chunk": 4}
        policy = remote(context_of(SUITE), **options)
        assert "knows no episodes" in policy.spec.note
        name = EpisodeId("lab_smoke", "made_up", 0)
        policy.start([EpisodeStart(name, 0, TEXT)])
        for call in range(3):
            image = picture(0, call, np.zeros(7))
            reply = policy.act([ActRequest(name, call, Observation({"front": image}, None, TEXT, 4 * call))])[0]
            np.testing.assert_array_equal(reply.actions, answer([image]))
        policy.close()
