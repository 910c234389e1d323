"""Published numbers as data: `published.csv`, one value a row, each with its source; and the layouts of paper tables.

`papers/tables.yaml` says which values make up a table of a paper and what of ours stands beside each.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

from suites.protocol import HERE, SuiteError

MEASURES = (
    "success",
    "score",
    "chain_1",
    "chain_2",
    "chain_3",
    "chain_4",
    "chain_5",
    "chain_length",
    "latency",
    "none",
)


@dataclass(frozen=True)
class Published:
    """One published value. text: as printed, in `unit` (`%`: percent); trials: episodes behind it, None if unknown."""

    benchmark: str
    suite: str
    task: str
    method: str
    metric: str
    text: str
    unit: str
    trials: int | None
    source: str

    @property
    def value(self) -> float:
        """The number as printed: 98.4 for 98.4 %."""
        return float(self.text)

    @property
    def rounding(self) -> float:
        """Half a unit of the last printed digit: how far the exact value may lie from the printed one."""
        return 0.5 * 10.0 ** -len(self.text.partition(".")[2])


@dataclass(frozen=True)
class Cell:
    """One column of a paper table.

    published: (benchmark, suite, task, metric) of its values; measure: what of our records stands beside it, one of
    MEASURES; suite, task, tags: which of our episodes (a task by its name or by its tag `published`); parts: titles of
    the columns this one is the mean of; weights: their weights where they are not equal.
    """

    title: str
    published: tuple[str, str, str, str]
    measure: str = "none"
    suite: str = ""
    task: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper. sources: beginnings of the `source` of its rows; method: the paper's own row; footnotes:
    what is known to be wrong with it."""

    name: str
    title: str
    sources: tuple[str, ...]
    method: str
    cells: tuple[Cell, ...]
    footnotes: tuple[str, ...] = ()

    def cell(self, title: str) -> Cell:
        """The column of that title."""
        return next(cell for cell in self.cells if cell.title == title)

    def rows(self) -> dict[str, dict[str, Published]]:
        """Method -> column title -> published value, in the order of the file."""
        places = {cell.published: cell.title for cell in self.cells}
        found: dict[str, dict[str, Published]] = {}
        for each in published():
            title = places.get((each.benchmark, each.suite, each.task, each.metric))
            if title is not None and each.source.startswith(self.sources):
                found.setdefault(each.method, {}).setdefault(title, each)
        return found


@lru_cache(maxsize=1)
def published() -> tuple[Published, ...]:
    """Every published value. Raises SuiteError for a row that cannot be read."""
    path = HERE / "published.csv"
    found = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                text, trials = row.pop("value"), row.pop("trials")
                found.append(Published(text=text, trials=int(trials) if trials else None, **row))
                float(text)
            except (TypeError, ValueError, KeyError) as error:
                raise SuiteError(f"{path}, line {number}: {error}") from error
    return tuple(found)


def paper_tables() -> dict[str, PaperTable]:
    """Name (`PAPER/TABLE`) -> table. Raises SuiteError for an entry that does not hold together."""
    data = yaml.safe_load((HERE / "papers" / "tables.yaml").read_text(encoding="utf-8"))
    return {name: _table(name, entry) for name, entry in data.items()}


def paper_table(name: str) -> PaperTable:
    """The table of that name. Raises SuiteError suggesting the nearest."""
    known = paper_tables()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
        raise SuiteError(f"unknown paper table {name!r}; {hint}")
    return known[name]


def _table(name: str, entry: Mapping[str, Any]) -> PaperTable:
    try:
        cells = tuple(_cell(each) for each in entry["columns"])
        table = PaperTable(
            name, entry["title"], tuple(entry["sources"]), entry["method"], cells, tuple(entry.get("footnotes", ()))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SuiteError(f"papers/tables.yaml, table {name}: {error}") from error
    titles = [cell.title for cell in cells]
    for cell in cells:
        if set(cell.parts) - set(titles) or (cell.weights and len(cell.weights) != len(cell.parts)):
            raise SuiteError(
                f"papers/tables.yaml, table {name}: column {cell.title!r} has parts or weights that do not fit"
            )
        if cell.measure not in MEASURES:
            raise SuiteError(
                f"papers/tables.yaml, table {name}: measure {cell.measure!r} is none of {', '.join(MEASURES)}"
            )
    return table


def _cell(entry: Mapping[str, Any]) -> Cell:
    values = dict(entry)
    benchmark, suite, task, metric = values.pop("published").split("/")
    for name in ("parts", "weights"):
        values[name] = tuple(values.get(name, ()))
    return Cell(published=(benchmark, suite, task, metric), **values)
