"""The trained policies that are shipped: small enough, whole, and doing what their cards say they do."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from harness import run as running
from harness.config import compose_run, load_policy_file, policy_files
from policies.base import PolicyContext, PolicyError
from policies.cogact.policy import cogact
from policies.memoryvla.policy import memoryvla, memoryvla_pp
from policies.training.policy_stage import policy_stage
from policies.training.starts import GROUNDING
from policies.vla.checkpoint import of_suite
from reports.records import EpisodeRecord, RecordStore
from suites.protocol import load_suite

BUILD = {"cogact_lab": cogact, "memoryvla_lab": memoryvla, "memoryvla_pp_lab": memoryvla_pp}
WEIGHTS = {name: Path(str(load_policy_file(policy_files()[name])["checkpoint"])) for name in BUILD}
SHIPPED = [
    (name, folder.name) for name, path in WEIGHTS.items() for folder in sorted(path.iterdir()) if folder.is_dir()
]


@pytest.mark.parametrize(("name", "suite"), SHIPPED)
def test_a_shipped_policy_is_small_and_ready_for_its_suite(name: str, suite: str) -> None:
    folder = of_suite(WEIGHTS[name], suite)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10e6
    about = load_suite(suite)
    context = PolicyContext(suite, about.env_spec, gives_state=about.protocol.gives_state)
    assert BUILD[name](context, checkpoint=str(WEIGHTS[name]), threads=1).spec.cameras == ("front", "wrist")
    assert (WEIGHTS[name] / "README.md").is_file()


def test_a_suite_without_a_shipped_checkpoint_says_which_there_are() -> None:
    with pytest.raises(PolicyError, match="has nothing for suite lab_smoke; it has weights for lab_"):
        of_suite(WEIGHTS["memoryvla_lab"], "lab_smoke")


def played(folder: Path, policy: str, *words: str) -> list[EpisodeRecord]:
    command = [f"policy={policy}", "run.trials=12", "run.videos=0", "cluster=inline", f"run.dir={folder}", *words]
    assert running.run(compose_run(command), Console(quiet=True), ["memvla", "run", *command]).exit_code == 0
    with RecordStore(folder / policy / "episodes.sqlite") as store:
        return store.attempts()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("task", ["remember_colour_3", "remember_colour_5", "press_order_marked"])
def test_memory_tells_which_buttons_were_named(tmp_path: Path, task: str) -> None:
    """200, 194 and 196 of 200 on the card: 8 or fewer of 12 would come three times in ten thousand, or less often."""
    records = played(tmp_path, "memoryvla_lab", "suite=lab_memory", f"run.tasks=[{task}]")
    assert sum(record.success_once for record in records) > 8


@pytest.mark.timeout(600)
def test_memory_follows_what_it_cannot_see(tmp_path: Path) -> None:
    """190 of 200 in docs/lab_training.md: 21 or fewer of 30 would come once in ninety thousand; a guess has ten."""
    taken = WEIGHTS["memoryvla_lab"].parent / "starts" / "taken_memoryvla"
    words = ("suite=lab_memory", "run.tasks=[shell_game]", "run.trials=30", f"policy.checkpoint={taken}")
    assert sum(record.success_once for record in played(tmp_path, "memoryvla", *words)) > 21


@pytest.mark.timeout(600)
def test_nothing_to_remember_and_a_real_grasp(tmp_path: Path) -> None:
    """194 of 200 on the card: 8 or fewer of 12 would come three times in ten thousand."""
    words = ("suite=lab_general", "run.tasks=[pick_place_by_colour]")
    assert sum(record.success_once for record in played(tmp_path, "cogact_lab", *words)) > 8


@pytest.mark.timeout(600)
def test_imagination_tells_where_the_puck_will_land(tmp_path: Path) -> None:
    """162 of 200 on the card: 15 or fewer of 30 would come once in eight thousand."""
    words = ("suite=lab_imagination", "run.tasks=[catch_puck]", "run.trials=30")
    assert sum(record.success_once for record in played(tmp_path, "memoryvla_pp_lab", *words)) > 15


def test_training_goes_on_from_what_is_shipped() -> None:
    starts = WEIGHTS["memoryvla_lab"].parent / "starts"
    with pytest.raises(Exception, match="no RLDS dataset"):  # all else is in order before the data are read
        policy_stage(family="memoryvla_pp", data=["nowhere"], world=str(starts / "world"))
    names = ("grounding", "grounding_memory", "grounding_order", "recall", "recall_taken", "foresight")
    assert all((starts / name / GROUNDING).is_file() for name in names)
