"""`memvla train` as its users meet it."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from harness.cli import is_mistake
from harness.training import evaluated, family_of, train_command
from policies.base import PolicyError
from policies.training.demos import DemoError
from policies.training.options import EvaluateOptions, TrainingError

EXTRAS = Path(__file__).parents[1] / "extras"


def memvla(*words: object) -> subprocess.CompletedProcess[str]:
    surroundings = {
        **os.environ,
        "MEMVLA_RECIPES": str(EXTRAS / "recipe_files"),
        "PYTHONPATH": str(EXTRAS),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "harness.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=surroundings)


def test_help_teaches_every_option_of_the_loop() -> None:
    from policies.training.options import TrainOptions

    done = memvla("train", "--help")
    assert done.returncode == 0
    for name in vars(TrainOptions()):
        assert name in done.stdout, name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["recipe=findr", "train.dir={}"], "unknown recipe 'findr'; did you mean finder?"),
        (["recipe=finder", "stage=polcy", "train.dir={}"], "unknown stage 'polcy'"),
        (["recipe=finder"], "train.dir=DIR"),
        (["recipe=finder", "train.dir={}", "train.updats=3"], "unknown train key 'updats'; did you mean updates"),
        (["recipe=finder", "train.dir={}", "train.evaluate.overrides=[a=b]"], "quoted, key=['name=value']"),
        pytest.param(
            ["recipe=finder", "train.dir={}", "train.device=cuda"],
            "train.device=cuda, but no GPU",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (["recipe=lab", "stage=memory_cogact", "train.dir={}", "data=[{}/nowhere]"], "nowhere is no RLDS dataset"),
        (["recipe=finder", "train.dir=/proc/none"], "/proc/none"),
    ],
)
def test_a_mistake_is_one_clear_message(
    tmp_path: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMVLA_RECIPES", str(EXTRAS / "recipe_files"))
    with pytest.raises((PolicyError, DemoError)) as raised:
        train_command([word.format(tmp_path) for word in words], Console(quiet=True))
    assert is_mistake(raised.value)
    assert says in " ".join(str(raised.value).split())


@pytest.mark.timeout(900)
def test_the_harness_evaluates_on_the_way_and_its_rates_are_logged(tmp_path: Path) -> None:
    evaluate = ("every=2", "suite=lab_smoke", "trials=1", "overrides=['cluster=inline','protocol.max_steps=8']")
    words = [f"train.evaluate.{word}" for word in evaluate]
    done = memvla("train", "recipe=shrink", f"train.dir={tmp_path}", *words)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["update"] for row in rows] == ["2", "4"]
    tasks = {"lab_smoke", "lab_smoke/press_by_colour", "lab_smoke/remember_colour_3"}
    assert tasks == set(rows[0]) - {"update"}
    assert {float(row["lab_smoke"]) for row in rows} == {0.0}
    assert "update 4: lab_smoke 0.0 %" in done.stdout
    assert (tmp_path / "checkpoints" / "update-00000002" / "model.safetensors").exists()
    assert list((tmp_path / "evaluations" / "update-00000004").rglob("manifest.json"))


def test_an_evaluation_that_fails_names_its_output(tmp_path: Path) -> None:
    asked = EvaluateOptions(every=1, suite="lab_smok", policy="memoryvla")
    with pytest.raises(TrainingError, match=r"exit code 1.*unknown suite.*output\.txt"):
        evaluated(asked, tmp_path / "checkpoint", tmp_path / "run")


def test_a_checkpoint_that_is_no_policys_asks_for_a_policy(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"train\.evaluate\.policy=NAME"):
        family_of(tmp_path)
