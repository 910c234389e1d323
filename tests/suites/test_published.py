from __future__ import annotations

import pytest

from suites.protocol import SuiteError
from suites.published import paper_table, paper_tables, published


def test_no_value_stands_twice() -> None:
    keys = [(p.benchmark, p.suite, p.task, p.method, p.metric, p.source) for p in published()]
    assert len(set(keys)) == len(keys) > 1000


def test_every_value_has_a_source_and_percentages_are_percent() -> None:
    for each in published():
        assert each.source
        if each.unit == "%":
            assert 0 <= each.value <= 100, each


def test_every_table_has_the_papers_own_row_and_no_column_that_does_not_exist() -> None:
    known = {(p.benchmark, p.suite, p.task, p.metric) for p in published()}
    for table in paper_tables().values():
        assert table.method in table.rows(), table.name
        for cell in table.cells:
            assert cell.published in known, (table.name, cell.title)


def test_the_headline_numbers_are_in_their_tables() -> None:
    rows = paper_table("memoryvla_pp/libero").rows()
    assert [rows["MemoryVLA++"][title].text for title in ("Spatial", "Long-90", "Average of 5")] == [
        "99.8",
        "97.8",
        "98.4",
    ]
    assert rows["MemoryVLA++"]["Long-90"].trials == 4500
    assert paper_table("memoryvla_pp/calvin").rows()["MemoryVLA"]["Average length"].value == 4.09


def test_an_unknown_table_suggests_the_nearest() -> None:
    with pytest.raises(SuiteError, match="did you mean memoryvla_pp/libero"):
        paper_table("memoryvla_pp/liber")
