from __future__ import annotations

from pathlib import Path

import pytest

from reports import tables
from reports.statistics import Interval, Mean, Rate
from reports.summary import load
from reports.tables import MINUS, NOTHING, Table
from tests.reports.making import manifest, plan, record, run_folder


def column(table: Table, title: str) -> list[str]:
    place = [c.title for c in table.columns].index(title)
    return [row[place] for row in table.rows]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, NOTHING), (0.0, "0.0 %"), (1.0, "100.0 %"), (0.99999, "99.9 %"), (0.00001, "0.1 %"), (2 / 3, "66.7 %")],
)
def test_only_all_reads_100_percent_and_only_none_reads_0(value: float | None, text: str) -> None:
    assert tables.percent(value) == text


def test_numbers_that_do_not_exist_are_dashes() -> None:
    empty = Rate(0, 0, None, None)
    assert tables.counted(empty) == NOTHING
    assert tables.percent_interval(empty.interval) == NOTHING
    assert tables.mean_cells(Mean(0, None, None), 1, 0) == (NOTHING, NOTHING)
    assert tables.p_text(None) == NOTHING


def test_a_mean_over_some_episodes_says_over_how_many() -> None:
    assert tables.mean_cells(Mean(3, 0.5, Interval(0.25, 0.75)), 2, 8) == ("0.50 of 3", "0.25 – 0.75")
    assert tables.mean_cells(Mean(8, 0.5, None), 2, 8) == ("0.50", NOTHING)


def test_differences_carry_their_sign() -> None:
    assert tables.points(0.125) == "+12.5"
    assert tables.points(-0.05) == f"{MINUS}5.0"


def test_a_tiny_p_value_is_not_zero() -> None:
    assert tables.p_text(1e-12) == "< 0.0001"
    assert tables.p_text(0.0312) == "0.031"


def test_the_overall_table_has_a_row_for_each_suite_and_policy(tmp_path: Path) -> None:
    suites = [plan("one"), plan("two", trials=2)]
    for name in ("a", "b"):
        records = [record(suite="one"), record("failure", suite="two"), record("void", suite="two", trial=1)]
        run_folder(tmp_path / name, manifest(name, suites), records)
    table = tables.overall(load([tmp_path]))
    assert column(table, "Suite") == ["one", "one", "two", "two"]
    assert column(table, "Policy") == ["a", "b", "a", "b"]
    assert column(table, "Coverage") == ["100 %", "100 %", "1/2 (50.0 %)", "1/2 (50.0 %)"]
    assert column(table, "Successes") == ["1/1", "1/1", "0/1", "0/1"]
    assert column(table, "Voids") == ["0", "0", "1", "1"]
    assert table.marks == ("", "", "incomplete", "incomplete")


def test_columns_nobody_fills_are_left_out(tmp_path: Path) -> None:
    path = run_folder(tmp_path / "run", manifest(), [record(score=None)])
    titles = [c.title for c in tables.overall(load([path])).columns]
    assert "Score" not in titles
    assert "Right / wrong" not in titles


def test_choices_are_shown_where_present(tmp_path: Path) -> None:
    suites = [plan(tasks=("press", "stack"))]
    records = [record(metrics={"right_choices": 3.0, "wrong_choices": 1.0}), record(task="stack")]
    runs = load([run_folder(tmp_path / "run", manifest(suites=suites), records)])
    assert column(tables.overall(runs), "Right / wrong") == ["3 / 1"]
    assert column(tables.per_task(runs, "lab"), "Right / wrong") == ["3 / 1", NOTHING]


def test_tasks_stand_in_the_order_of_the_plan_policies_side_by_side(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_folder(tmp_path / name, manifest(name, [plan(tasks=("z", "a"))]), [record(task="a"), record(task="z")])
    table = tables.per_task(load([tmp_path]), "lab")
    assert [row[:2] for row in table.rows] == [("z", "a"), ("z", "b"), ("a", "a"), ("a", "b")]


def test_every_void_attempt_is_listed_with_its_cause_and_its_end(tmp_path: Path) -> None:
    records = [
        record("void", cause="worker died"),
        record("failure", attempt=2),
        record("void", trial=1, cause="host lost"),
    ]
    table = tables.voids(load([run_folder(tmp_path / "run", manifest(suites=[plan(trials=2)]), records)]))
    assert table is not None
    assert column(table, "Cause") == ["worker died", "host lost"]
    assert column(table, "What became of it") == ["failure at attempt 2", "never scored"]


def test_no_voids_no_times_and_no_pairs_are_no_tables(tmp_path: Path) -> None:
    runs = load([run_folder(tmp_path / "run", manifest(), [record(seconds={})])])
    assert tables.voids(runs) is None
    assert tables.seconds(runs) is None
    assert tables.paired(runs) is None


def test_protocols_that_differ_are_marked_row_by_row(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", manifest("a", [plan(), plan("two")]), [record()])
    run_folder(tmp_path / "b", manifest("b", [plan(fingerprint="other"), plan("two")]), [record()])
    table = tables.protocols(load([tmp_path]))
    assert column(table, "Among these runs") == ["DIFFERS", "DIFFERS", "same", "same"]
    assert table.marks == ("warning", "warning", "", "")
    assert tables.overall(load([tmp_path])).marks == ("warning", "warning", "incomplete", "incomplete")


def test_long_names_are_broken_and_never_lose_a_letter() -> None:
    name = "pick_up_the_black_bowl_between_the_plate_and_the_ramekin/x" + "y" * 50
    for width in (8, 13, 30, 200):
        lines = tables.wrapped(name, width).split("\n")
        assert "".join(lines) == name
        assert max(map(len, lines)) <= width
    assert tables.wrapped(name, 20, 2).endswith("…")
