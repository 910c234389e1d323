"""Two processes over gloo: the same curve as one, sharded weights, whole states."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from extra_teams import of_a_pair
from rich.console import Console
from safetensors.torch import load_file
from torch.multiprocessing.spawn import spawn

from harness.training import train_command
from policies.training.state import last_state
from tests.policies.training.conftest import ended, losses, started, table, until_row, weights

WORDS = ("train.ema=0.9", "train.weight_decay=0.1", "train.clip=0.5", "train.updates=8", "train.state_every=4")
pytestmark = pytest.mark.timeout(900)  # Ray and two processes that import torch: minutes on a busy machine


def alone(folder: Path, *words: str, recipe: str = "finder") -> None:
    assert train_command([f"recipe={recipe}", f"train.dir={folder}", *words], Console(quiet=True)) == 0


def pair(folder: Path, *words: str, recipe: str = "finder") -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(of_a_pair, args=(port, [f"recipe={recipe}", f"train.dir={folder}", *words]), nprocs=2)


def same(folder: Path, other: Path) -> None:
    for one, two in zip(table(folder), table(other), strict=True):
        assert {k: float(v) for k, v in one.items()} == pytest.approx({k: float(v) for k, v in two.items()}, abs=1e-5)
    found, expected = weights(folder), weights(other)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        # Adam makes whole steps of 0.003 out of gradients that are only rounding (the biases of attention's keys).
        assert (tensor - expected[name]).abs().max() < 3e-4


def test_two_processes_have_the_curve_of_one_and_each_goes_on_with_the_others_state(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    alone(one, *WORDS)
    pair(two, *WORDS, "train.accumulate=2")
    same(two, one)
    more = ("train.updates=12", "train.activations=language")
    pair(one, *WORDS, *more, "train.shard_over=1", "train.processes=2")
    alone(two, *WORDS, *more)
    same(two, one)


@pytest.mark.parametrize(("precision", "off"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_a_policy_network_is_sharded_with_the_curve_of_one_process(tmp_path: Path, precision: str, off: float) -> None:
    """Language model layer by layer, memory and action expert at the root; pieces of different lengths."""
    words = ("train.ema=0.9", f"train.precision={precision}", "train.activations=language")
    alone(tmp_path / "one", *words, recipe="made_up")
    pair(tmp_path / "two", *words, recipe="made_up")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=off)
    assert len(set(losses(tmp_path / "one"))) == 4
    found, expected = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("two", "one"))
    assert found.keys() == expected.keys()
    assert {name: t.shape for name, t in found.items()} == {name: t.shape for name, t in expected.items()}


def test_ray_train_starts_the_processes(tmp_path: Path) -> None:
    alone(tmp_path / "one", *WORDS)
    done = ended(tmp_path / "two", *WORDS, "train.processes=2")
    assert done.returncode == 0, done.stderr
    assert "2 processes on cpu" in done.stdout
    assert "8/8, loss" in done.stdout
    same(tmp_path / "two", tmp_path / "one")
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["checkpoint", "log.csv", "state"]


def test_a_team_stops_at_a_signal_with_its_state_written(tmp_path: Path) -> None:
    words = ("train.processes=2", "train.updates=100000", "train.state_every=0")
    with started(tmp_path, *words) as process:
        until_row(tmp_path, 2)
        process.send_signal(signal.SIGTERM)
        said, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    kept = last_state(tmp_path)
    assert kept is not None
    assert kept.update == len(losses(tmp_path)) < 100000
    assert f"stopped after update {kept.update}" in said


def test_a_mistake_in_a_process_reaches_the_user_as_one_message(tmp_path: Path) -> None:
    done = ended(tmp_path, "train.processes=2", "broken_at=2")
    assert done.returncode == 1
    assert "the loss of update 3 is nan" in done.stderr
    assert "Traceback" not in done.stderr
