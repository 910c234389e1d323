"""Policies of LeRobot. What needs LeRobot itself runs where MEMVLA_LEROBOT_PYTHON names a Python that has it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from envs.spec import EpisodeId, Observation
from harness.config import compose_run
from harness.plan import context_of
from harness.policy_gates import PolicyGates
from harness.run import run
from policies.base import ActRequest, EpisodeStart, PolicyContext, PolicyError
from policies.lerobot.policy import VARIABLE, LeRobotPolicy, lerobot
from reports.records import RecordStore
from suites.protocol import load_suite

SAVING = Path(__file__).with_name("saving.py")
PYTHON = os.environ.get(VARIABLE, "")
needs_lerobot = pytest.mark.skipif(not PYTHON, reason=f"{VARIABLE} names no Python with lerobot")


def context() -> PolicyContext:
    return context_of(load_suite("lab_smoke"))


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ACT, randomly initialised and saved by LeRobot itself."""
    folder = tmp_path_factory.mktemp("lerobot") / "act"
    own(["save", str(folder)])
    return folder


def own(words: list[str]) -> str:
    """What LeRobot's Python prints."""
    surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    ended = subprocess.run([PYTHON, str(SAVING), *words], capture_output=True, text=True, env=surroundings)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip().splitlines()[-1] if ended.stdout.strip() else ""


# ---------------------------------------------------------------------- with LeRobot


@needs_lerobot
@pytest.mark.timeout(900)
def test_actions_are_those_of_lerobots_own_loop(saved: Path, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    front = chance.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    state = chance.standard_normal((9, 8)).astype(np.float32)
    np.savez(tmp_path / "seen.npz", front=front, state=state)
    theirs = np.array(json.loads(own(["answer", str(saved), str(tmp_path / "seen.npz")])), dtype=np.float32)
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


@needs_lerobot
@pytest.mark.timeout(900)
def test_it_passes_every_gate(saved: Path) -> None:
    suite = load_suite("lab_smoke")
    env = importlib.import_module(suite.adapter).make(**suite.env)
    first = lerobot(context_of(suite), path=str(saved))
    assert isinstance(first, LeRobotPolicy)
    # Every policy the gates ask for talks to the same process: what leaks between episodes there would show.
    gates = list(PolicyGates(lambda: LeRobotPolicy(first.spec, first.peer, first.views), env, suite).run())
    assert len(gates) == 13
    assert [gate for gate in gates if gate.passed is not True] == []


@needs_lerobot
@pytest.mark.timeout(900)
def test_it_is_evaluated_like_any_other(saved: Path, tmp_path: Path) -> None:
    words = ["suite=lab_smoke", "policy=lerobot", f"policy.path={saved}", "run.trials=1", "cluster=inline"]
    ended = run(compose_run([*words, f"run.dir={tmp_path}"]), Console(quiet=True), ["memvla"])
    assert ended.exit_code == 0
    records = RecordStore(tmp_path / "lerobot" / "episodes.sqlite").episodes()
    assert [(record.outcome != "void", record.steps > 0) for record in records] == [(True, True)] * 2


@needs_lerobot
@pytest.mark.timeout(900)
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
