"""The verbs that read runs, through the real command line; a night, through real runs of the lab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.cli import app
from harness.config import ConfigError, compose_run
from harness.nightly import Night, NightlyConfig, read, run
from harness.run import run as run_policies
from reports.regression import FINE, NOT_COVERED, REGRESSION

CONSOLE = Console(quiet=True)
COMMON = ("run.trials=16", "run.videos=0", "cluster=inline")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The expert with its memory and without it, on the smoke suite."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["suite=lab_smoke", "policy=expert,expert_memoryless", f"run.dir={folder}", *COMMON]
    assert run_policies(compose_run(words), CONSOLE, ["memvla", "run"]).exit_code == 0
    return folder


def invoke(*words: str) -> str:
    found = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_compare_finds_that_memory_matters(runs: Path, tmp_path: Path) -> None:
    invoke("compare", str(runs / "expert"), str(runs / "expert_memoryless"), "--to", str(tmp_path))
    text = (tmp_path / "comparison.md").read_text()
    assert "(A) succeeds more often than" in text
    assert {file.suffix for file in tmp_path.iterdir()} == {".html", ".md", ".tex", ".csv", ".parquet"}


def test_explain_finds_the_actions_behind_a_flipped_scene(runs: Path, tmp_path: Path) -> None:
    scenes = [line.split(",") for line in _flipped(runs, tmp_path)]
    scene = f"lab_smoke/{scenes[0][0]}/{scenes[0][1]}"
    invoke("explain", str(runs / "expert"), str(runs / "expert_memoryless"), scene, "--to", str(tmp_path))
    text = (tmp_path / "explanation.md").read_text()
    assert "The first thing that differs: actions (step " in text
    assert "| scene hash |" in text


def _flipped(runs: Path, folder: Path) -> list[str]:
    import pandas as pd

    invoke("compare", str(runs / "expert"), str(runs / "expert_memoryless"), "--to", str(folder))
    table = pd.read_csv(folder / "comparison.csv")
    flipped = table[table["row"] == "flipped"]
    return [f"{task},{int(trial)}" for task, trial in zip(flipped["task"], flipped["trial"], strict=True)]


def test_table_lists_tables_and_shows_published_ones() -> None:
    assert "memoryvla_pp/calvin" in invoke("table")
    assert "4.29" in invoke("table", "memoryvla_pp/calvin")


# ---------------------------------------------------------------------- nights


def night(folder: Path, name: str, *, memory: bool = True, **changes: object) -> Night:
    options = {"expert": (f"policy.memory={str(memory).lower()}",)}
    values = {"policies": ("expert",), "suites": ("lab_smoke",), "overrides": COMMON, "options": options}
    clock = changes.pop("clock", None)
    config = NightlyConfig(dir=str(folder), **(values | changes))  # type: ignore[arg-type]
    return run(config, CONSOLE, night=name, **({"clock": clock} if clock else {}))  # type: ignore[arg-type]


def test_a_policy_that_loses_its_memory_is_a_regression_in_the_first_night(tmp_path: Path) -> None:
    assert [night(tmp_path, name).exit_code for name in ("one", "two")] == [FINE, FINE]
    found = night(tmp_path, "three", memory=False)
    assert found.exit_code == REGRESSION
    assert found.streams[0].alarm == "three"
    losses = [result.difference or 0.0 for _, result in found.streams[0].tasks]
    assert losses == sorted(losses)  # the task that needs memory stands first, and the other lost nothing
    assert losses[0] < -0.4
    assert losses[-1] == 0.0
    assert (tmp_path / "index.html").exists()


def test_a_night_that_is_given_again_runs_nothing_twice(tmp_path: Path) -> None:
    night(tmp_path, "one")
    records = tmp_path / "nights" / "one" / "lab_smoke" / "expert" / "episodes.sqlite"
    before = records.read_bytes()
    assert night(tmp_path, "one").exit_code == FINE
    assert records.read_bytes() == before


def test_what_the_budget_leaves_out_is_said_and_comes_first_the_next_night(tmp_path: Path) -> None:
    ticks = iter([0.0, 0.0, 120.0])
    both = {"policies": ("expert", "random"), "budget_minutes": 1.0}
    found = night(tmp_path, "one", clock=lambda: next(ticks), **both)
    assert found.exit_code == NOT_COVERED
    assert [stream.problem for stream in found.streams] == ["", "not run"]
    ticks = iter([0.0, 0.0, 120.0])
    found = night(tmp_path, "two", clock=lambda: next(ticks), **both)
    assert [stream.problem for stream in found.streams] == ["not run", ""]


def test_one_broken_policy_does_not_take_the_night_from_the_others(tmp_path: Path) -> None:
    broken = {"policies": ("expert", "random"), "options": {"random": ("policy.chunk=0",)}}
    found = night(tmp_path, "one", **broken)
    assert found.exit_code == NOT_COVERED
    assert [stream.problem == "" for stream in found.streams] == [True, False]


def test_every_night_has_a_seed_of_its_own(tmp_path: Path) -> None:
    from reports.manifest import read as read_manifest

    for name in ("one", "two"):
        night(tmp_path, name, seed=40)
    folders = [tmp_path / "nights" / name / "lab_smoke" / "expert" for name in ("one", "two")]
    assert [read_manifest(folder).seed for folder in folders] == [40, 41]


def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "nightly.yaml"
        path.write_text(text)
        return path

    return write


def test_a_configuration_is_read_with_the_overrides_of_single_policies(tmp_path: Path) -> None:
    text = "dir: d\npolicies: [expert, {random: [policy.chunk=4]}]\nsuites: [lab_smoke]\noverrides: [run.trials=1]\n"
    found = read(config(tmp_path)(text))
    assert found.matrix == [("expert", "lab_smoke"), ("random", "lab_smoke")]
    assert found.options == {"random": ("policy.chunk=4",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dir: d\npolicies: [expert]\n", "needs dir, policies and suites"),
        ("dir: d\npolicies: [expert]\nsuites: [lab_smoke]\nnights: 3\n", "found dir, policies, suites, nights"),
        ("dir: d\npolicies: [expert]\nsuites: [lab_smoke]\noverrides: [run.seed=1]\n", "run.seed is nightly's own"),
        ("dir: d\npolicies: [expert]\nsuites: [lab_smoke]\noverrides: run.trials=1\n", "overrides must be a list"),
        ("dir: d\npolicies: [expert, expert]\nsuites: [lab_smoke]\n", "each once"),
        ("dir: d\npolicies: [expert]\nsuites: [lab_smoke]\nalpha: 2\n", "alpha must lie between 0 and 1"),
        ("dir: d\npolicies: [expert]\nsuites: [lab_smoke]\nalpha: much\n", "wrong kind"),
        ("dir: [", "is not YAML"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(config(tmp_path)(text))


def test_a_mistake_is_never_the_exit_code_of_a_regression(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["nightly", str(tmp_path / "absent.yaml")])
    assert found.exit_code == NOT_COVERED


def test_an_unknown_policy_or_suite_is_found_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown policy 'expertt'"):
        night(tmp_path, "one", policies=("expert", "expertt"))
    assert not (tmp_path / "nights").exists()
