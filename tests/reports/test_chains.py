"""Chains in a report: k/5 and average length are those of the records, in every form; nothing where there are none."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from reports.chains import chain_table, reaching, subtask_table
from reports.report import build
from reports.statistics import mean
from reports.summary import load
from tests.reports.making import manifest, plan, record, run_folder
from tests.reports.test_page import Page

LENGTHS = [5, 5, 3, 0, 1, 5, 2, 5, 4, 5]
NAMES = ("open_drawer", "turn_on_led", "push_red", "lift_red", "place")


@pytest.fixture
def chains(tmp_path: Path) -> Path:
    made = plan("long", ("chain",), len(LENGTHS) + 1)
    records = [
        record(
            "success" if length == 5 else "failure",
            suite="long",
            task="chain",
            trial=trial,
            score=length / 5,
            metrics={
                "chain_length": float(length),
                **{f"task/{name}": float(k < length) for k, name in enumerate(NAMES[: length + 1])},
            },
        )
        for trial, length in enumerate(LENGTHS)
    ]
    voided = record("void", suite="long", task="chain", trial=len(LENGTHS))
    return run_folder(tmp_path / "run", manifest("mine", [made]), [*records, voided])


def test_shares_and_average_length_are_counted_from_the_scored_chains(chains: Path) -> None:
    table = chain_table(load([chains]))
    assert table is not None
    row = dict(zip([column.title for column in table.columns], table.rows[0], strict=True))
    assert [row[f"{k}/5"] for k in range(1, 6)] == ["90.0 %", "80.0 %", "70.0 %", "60.0 %", "50.0 %"]
    found = mean(map(float, LENGTHS))
    assert found.interval is not None
    last = table.rows[0][-2:]
    assert last == ("3.50", f"{found.interval.low:.2f} – {found.interval.high:.2f}")
    assert row["Chains"] == "10"
    assert table.mark(0) == "incomplete", "the void chain is in no share and is said"


def test_a_subtask_counts_only_where_it_was_begun(chains: Path) -> None:
    table = subtask_table(load([chains]))
    assert table is not None
    done = {row[1]: row[3] for row in table.rows}
    assert done == {"open_drawer": "9/10", "turn_on_led": "8/9", "push_red": "7/8", "lift_red": "6/7", "place": "5/6"}


def test_the_block_stands_in_every_form_of_the_report(chains: Path) -> None:
    report = build([chains])
    for text in (report.markdown(), report.html(chains)):
        assert "Average length" in text
        assert "3.50" in text
        assert "turn_on_led" in text.replace("\\", "").replace("<wbr>", "")
    (row,) = csv.DictReader(io.StringIO(report.csv()))
    assert float(row["mean_chain_length"]) == pytest.approx(3.5)
    assert float(row["chain_length_low"]) < 3.5 < float(row["chain_length_high"])


def test_other_suites_have_no_such_block(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", manifest("mine"), [record("failure")])
    assert chain_table(load([folder])) is None
    assert "Average length" not in build([folder]).html(folder)


def test_the_survival_of_chains_is_drawn_with_a_point_for_each_length(chains: Path) -> None:
    page = Page(build([chains]).html(chains))
    assert any("subtasks done in a row, at least" in text for text in page.texts)
    rates = reaching(load([chains])[0].groups[0], 5)
    assert [rate.successes for rate in rates] == [sum(length >= k for length in LENGTHS) for k in range(1, 6)]
    assert {rate.n for rate in rates} == {len(LENGTHS)}  # a void chain is no chain
