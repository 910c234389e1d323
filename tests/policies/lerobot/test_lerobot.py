"""Policies of LeRobot, under the Python that MEMVLA_LEROBOT_PYTHON names, else one built for the tests."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.spec import EpisodeId, Observation
from harness.config import compose_run
from harness.plan import context_of
from harness.policy_gates import PolicyGates
from policies.base import ActRequest, EpisodeStart, PolicyContext, PolicyError
from policies.lerobot.policy import VARIABLE, LeRobotPolicy, lerobot
from reports.records import RecordStore
from suites.protocol import load_suite
from tests.harness.test_cli import memvla
from tests.peers.environments import LEROBOT, python_with

SAVING = Path(__file__).with_name("saving.py")
NAMED = os.environ.get(VARIABLE, "")


def context() -> PolicyContext:
    return context_of(load_suite("lab_smoke"))


@pytest.fixture(scope="session")
def python() -> str:
    """A Python with LeRobot; building one takes a minute or two, once."""
    return NAMED or python_with(LEROBOT)


@pytest.fixture(scope="session")
def saved(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ACT, randomly initialised and saved by LeRobot itself."""
    folder = tmp_path_factory.mktemp("lerobot") / "act"
    own(python, "save", folder)
    return folder


@pytest.fixture
def named(python: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As a user names it: in the variable, for this process and those it starts."""
    monkeypatch.setenv(VARIABLE, python)
    return python


def own(python: str, *words: object) -> str:
    """What LeRobot's Python prints."""
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command = [python, str(SAVING), *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=600)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip().splitlines()[-1] if ended.stdout.strip() else ""


# ---------------------------------------------------------------------- with LeRobot


@pytest.mark.timeout(900)
def test_actions_are_those_of_lerobots_own_loop(named: str, saved: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    front = chance.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    state = chance.standard_normal((9, 8)).astype(np.float32)
    np.savez(tmp_path / "seen.npz", front=front, state=state)
    theirs = np.array(json.loads(own(named, "answer", saved, tmp_path / "seen.npz")), dtype=np.float32)
    policy = lerobot(context(), path=str(saved))
    assert isinstance(policy, LeRobotPolicy)
    episode = EpisodeId("lab_smoke", "press_by_colour", 0)
    policy.start([EpisodeStart(episode, 0, "press")])
    ours = []
    for call, step in enumerate(range(0, 9, policy.spec.chunk)):
        seen = Observation({"front": front[step]}, state[step], "press", step)
        ours.append(policy.act([ActRequest(episode, call, seen)])[0].actions)
    policy.close()
    assert policy.spec.chunk == 4
    assert np.array_equal(np.concatenate(ours)[:9], theirs)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("named")
def test_it_passes_every_gate(saved: Path) -> None:
    suite = load_suite("lab_smoke")
    env = importlib.import_module(suite.adapter).make(**suite.env)
    first = lerobot(context_of(suite), path=str(saved))
    assert isinstance(first, LeRobotPolicy)
    # Every policy the gates ask for talks to the same process: what leaks between episodes there would show.
    gates = list(PolicyGates(lambda: LeRobotPolicy(first.spec, first.peer, first.views), env, suite).run())
    assert len(gates) == 13
    assert [gate for gate in gates if gate.passed is not True] == []


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("named")
def test_it_is_evaluated_like_any_other(saved: Path, tmp_path: Path) -> None:
    """Whole runs of the command line: in one process, and on Ray with two workers, with the same actions."""
    digests = []
    for folder, cluster in ((tmp_path / "inline", "cluster=inline"), (tmp_path / "ray", "cluster.workers=2")):
        words = ["suite=lab_smoke", "policy=lerobot", f"policy.path={saved}", "run.trials=2", "run.videos=0"]
        done = memvla("run", *words, cluster, f"run.dir={folder}")
        assert done.returncode == 0, done.stdout + done.stderr
        with RecordStore(folder / "lerobot" / "episodes.sqlite") as store:
            records = store.episodes()
        assert [(record.outcome != "void", record.steps > 0) for record in records] == [(True, True)] * 4
        digests.append({record.scene: record.action_digest for record in records})
    assert digests[0] == digests[1]
    assert len(set(digests[0].values())) == 4, "every scene has actions of its own"


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("named")
def test_what_lerobot_cannot_load_is_one_clear_error(saved: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text((saved / "config.json").read_text())
    with pytest.raises(PolicyError, match=r"LeRobot: .*model\.safetensors"):
        lerobot(context(), path=str(broken))


# ---------------------------------------------------------------------- before LeRobot is asked

ACT: dict[str, Any] = {
    "type": "act",
    "n_obs_steps": 1,
    "n_action_steps": 4,
    "input_features": {
        "observation.images.front": {"type": "VISUAL", "shape": [3, 64, 64]},
        "observation.state": {"type": "STATE", "shape": [8]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [7]}},
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**ACT, **parts}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"a": 1}, "names no `type`"),
        (changed(output_features={"action": {"type": "ACTION", "shape": [14]}}), "its actions have 14 numbers"),
        (changed(input_features={"observation.images.front": {"type": "VISUAL", "shape": [3, 96, 96]}}), r"96.*64"),
        (
            changed(input_features={f"observation.images.{n}": {"type": "VISUAL", "shape": [3, 64, 64]} for n in "ab"}),
            "say which is which with policy.cameras",
        ),
        (changed(input_features={"observation.state": {"type": "STATE", "shape": [14]}}), "wants 14 numbers"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_before_anything_starts(tmp_path: Path, config: Any, says: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PolicyError, match=says):
        lerobot(context(), path=str(tmp_path))


def test_no_path_is_one_clear_error() -> None:
    with pytest.raises(PolicyError, match=r"policy\.path=DIR"):
        lerobot(context())


def test_a_python_without_lerobot_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "config.json").write_text(json.dumps(ACT))
    with pytest.raises(PolicyError, match="No module named 'lerobot'"):
        lerobot(context(), path=str(tmp_path))


def test_options_of_the_command_line_reach_it() -> None:
    config = compose_run(["suite=lab_smoke", "policy=lerobot", "policy.path=DIR", "policy.cameras={front: image}"])
    assert config.policies[0].options["cameras"] == {"front": "image"}
    with pytest.raises(PolicyError, match="DIR holds no LeRobot policy"):
        config.policies[0].build(context())
