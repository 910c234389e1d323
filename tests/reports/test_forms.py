from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet
import pytest

from reports import comparison, explain, nights, papers, report
from reports.forms import Formed, csv_rows, parquet_rows, write_forms
from tests.reports.making import manifest, plan, record, run_folder
from tests.reports.test_nights import ALPHA, MATRIX, Nights

SUITE = "libero_spatial"


def two_runs(folder: Path) -> list[Path]:
    """A run that solves most scenes, and one of which half is missing, one void among it."""
    made = plan(SUITE, ("press", "stack"), 6)
    scenes = [(task, trial) for task in made.tasks for trial in range(made.trials)]
    found = []
    for name, signs in (("cogact", "xxxxxx.xxxxx"), ("memoryvla", "x..xv.x")):
        records = [
            record(
                {"x": "success", ".": "failure", "v": "void"}[sign], suite=SUITE, task=task, trial=trial,
                steps=30 + trial,
            )
            for sign, (task, trial) in zip(signs, scenes, strict=False)
        ]  # fmt: skip
        found.append(run_folder(folder / name, manifest(name, [made]), records))
    return found


def night(folder: Path) -> Formed:
    """The third night of a history."""
    made = Nights(folder)
    for solved in ("x" * 40, "x" * 39 + ".", "x" * 20 + "." * 20):
        made.add(solved)
    order = made.history.nights()
    return nights.document(order[-1], order, made.judged([*MATRIX, ("absent", "lab")]), ALPHA)


MAKE: dict[str, Callable[[Path], Formed]] = {
    "report": lambda folder: report.build(two_runs(folder)),
    "compare": lambda folder: comparison.build(two_runs(folder)),
    "table": lambda folder: papers.build("memoryvla_pp/libero", two_runs(folder)),
    "explain": lambda folder: explain.build(*two_runs(folder), f"{SUITE}/press/1"),
    "nightly": night,
}


@pytest.mark.parametrize("verb", MAKE)
def test_the_parquet_holds_the_values_of_the_csv_with_their_types(verb: str, tmp_path: Path) -> None:
    made = MAKE[verb](tmp_path / "runs")
    files = {file.suffix: file for file in write_forms(tmp_path / "out", "made", made, "it")}
    with files[".csv"].open(newline="") as file:
        texts = list(csv.DictReader(file))
    table = parquet.read_table(files[".parquet"])
    assert len(texts) == table.num_rows > 0
    assert list(texts[0]) == table.column_names
    for name, cells in table.to_pydict().items():
        assert cells == [row.get(name) for row in made.rows]
        assert ["" if cell is None else str(cell) for cell in cells] == [row[name] for row in texts]
        found = {type(cell) for cell in cells if cell is not None}
        assert len(found) <= 1, (name, found)  # a column has one type: no number became text


@pytest.mark.parametrize("verb", ["report", "compare", "table", "nightly"])
def test_pandas_reads_the_same_numbers_from_both(verb: str, tmp_path: Path) -> None:
    made = MAKE[verb](tmp_path / "runs")
    files = {file.suffix: file for file in write_forms(tmp_path / "out", "made", made, "it")}
    first = pd.read_csv(files[".csv"])
    second = pd.read_parquet(files[".parquet"])
    numbers = list(second.select_dtypes("number").columns)
    assert len(numbers) > 3
    pd.testing.assert_frame_equal(first[numbers], second[numbers], check_dtype=False, check_exact=True)


def test_what_a_row_lacks_is_null_and_whole_numbers_stay_whole() -> None:
    rows = [{"n": 3, "rate": 1, "name": "a"}, {"n": None, "rate": 0.1, "name": "", "more": True}]
    table = parquet.read_table(io.BytesIO(parquet_rows(rows)))
    assert {field.name: str(field.type) for field in table.schema} == {
        "n": "int64", "rate": "double", "name": "string", "more": "bool",
    }  # fmt: skip
    assert table.to_pylist()[1] == {"n": None, "rate": 0.1, "name": "", "more": True}
    assert table.to_pylist()[0]["more"] is None


def test_no_rows_are_an_empty_table() -> None:
    assert parquet.read_table(io.BytesIO(parquet_rows([]))).num_rows == 0
    assert csv_rows([]).strip() == ""
