"""LIBERO-Plus end to end: variants of several dimensions through Ray, and those beyond LIBERO's assets not covered."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from harness import run as running
from harness.check import check_suite
from harness.config import compose_run
from reports import papers
from reports.manifest import read
from reports.records import RecordStore
from reports.report import build
from reports.summary import load
from suites.protocol import load_suite
from tests.docs.running import documented

SOUP = "pick_up_the_alphabet_soup_and_place_it_in_the_basket"
ROBOT = f"{SOUP}_view_0_0_100_0_0_initstate_11"
NOISE = f"{SOUP}_view_0_0_100_0_0_initstate_0_noise_13"
BACKGROUND = f"{SOUP}_table_1"


@pytest.mark.timeout(1800)
def test_the_expert_plays_two_dimensions_and_a_third_is_not_covered_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMVLA_LIBERO_PLUS_ASSETS", raising=False)
    tasks = f"run.tasks=[{ROBOT},{NOISE},{BACKGROUND}]"
    command = [f"run.dir={tmp_path}", "suite=libero_plus_object", "policy=expert", tasks, "cluster.workers=1"]
    ended = running.run(compose_run([*command, "run.film_every=60"]), Console(), ["memvla", "run", *command])
    assert ended.exit_code == running.NOT_COVERED
    with RecordStore(ended.folders[0] / "episodes.sqlite") as store:
        found = {record.task: record for record in store.attempts()}
    assert set(found) == {ROBOT, NOISE}
    assert all(record.outcome != "void" for record in found.values())
    assert any(record.outcome == "success" for record in found.values())
    (plan,) = read(ended.folders[0]).suites
    assert list(plan.not_covered.values()) == [[BACKGROUND]]
    assert plan.tags[NOISE]["dimension"] == "sensor_noise"
    (run,) = load([tmp_path])
    assert run.groups[0].not_covered == 1
    assert run.groups[0].not_run == 0
    table = papers.build("libero_plus/zero_shot", [tmp_path])
    ours = {row["column"]: row["trials"] for row in table.rows if row["row"] == "ours"}
    assert ours == {"Robot": 1, "Noise": 1}
    text = next(path for path in build([tmp_path]).write(tmp_path) if path.suffix == ".md").read_text()
    assert "1 are not covered here" in text


@pytest.mark.timeout(1800)
def test_every_gate_of_the_suite_passes() -> None:
    gates = list(check_suite(load_suite("libero_plus_goal")))
    assert [gate for gate in gates if gate.passed is False] == []
    assert len(gates) == 10


@pytest.mark.timeout(1800)
def test_the_documented_commands_run(tmp_path: Path) -> None:
    documented("libero_plus", tmp_path)
