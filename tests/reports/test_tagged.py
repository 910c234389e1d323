"""A report sorts the tasks of a suite by the tags that make few groups of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.report import build
from reports.summary import load
from reports.tagged import by_tag, sorting
from tests.reports.making import manifest, plan, record, run_folder
from tests.reports.test_page import Page

DIMENSIONS = ("camera", "light", "noise", "robot", "layout", "language", "background")


def plus(folder: Path, name: str = "memoryvla", void: int = 0) -> Path:
    """Seven dimensions of 1, 2 ... 7 and once more 1 to 7 tasks; of dimension k the first k tasks are solved."""
    tags = {
        f"task_{dimension}_{i}": {"dimension": dimension, "again": dimension.upper(), "one": "same", "base": str(i % 3)}
        for k, dimension in enumerate(DIMENSIONS)
        for i in range(2 * (k + 1))
    }
    records = []
    for number, task in enumerate(tags):
        solved = int(task.rpartition("_")[2]) < DIMENSIONS.index(tags[task]["dimension"]) + 1
        outcome = "void" if number < void else "success" if solved else "failure"
        records.append(record(outcome, suite="plus", task=task))
    return run_folder(folder / name, manifest(name, [plan("plus", tags, 1, tags=tags)]), records)


def test_tags_that_say_nothing_and_those_that_say_the_same_again_are_left_out(tmp_path: Path) -> None:
    assert sorting(load([plus(tmp_path)]), "plus") == ["dimension", "base"]


def test_a_dimension_counts_every_scene_of_its_tasks(tmp_path: Path) -> None:
    plus(tmp_path, "a")
    plus(tmp_path, "b", void=2)
    table = by_tag(load([tmp_path]), "plus", "dimension")
    assert [column.title for column in table.columns][:5] == ["Dimension", "Policy", "Coverage", "Successes", "Rate"]
    found = {(row[0], row[1]): (row[3], row[4]) for row in table.rows}
    assert len(found) == 14
    assert found["camera", "a"] == ("1/2", "50.0 %")
    assert found["background", "a"] == found["background", "b"] == ("7/14", "50.0 %")
    assert found["camera", "b"] == ("–", "–")  # both scenes are void: no rate, and not zero
    marks = {(row[0], row[1]): table.mark(i) for i, row in enumerate(table.rows)}
    assert (marks["camera", "a"], marks["camera", "b"]) == ("", "incomplete")


def test_a_tag_is_shown_in_every_form(tmp_path: Path) -> None:
    report = build([plus(tmp_path)])
    page = Page(report.html(tmp_path))
    titles = [text for text in page.texts if text.startswith("Table of plus by")]
    assert titles == ["Table of plus by dimension", "Table of plus by base"]
    for text in (report.markdown(), report.latex()):
        assert "plus by dimension" in text


@pytest.mark.parametrize("tags", [{}, {"press": {"family": "a"}}, {"press": {"family": "a"}, "stack": {"family": "b"}}])
def test_a_suite_of_few_tasks_has_its_tasks_alone(tmp_path: Path, tags: dict[str, dict[str, str]]) -> None:
    made = plan(tasks=("press", "stack"), tags=tags)
    assert sorting(load([run_folder(tmp_path / "run", manifest(suites=[made]), [record()])]), "lab") == []
