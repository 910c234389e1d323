"""`memvla table`: a table of a paper, ours beside it, and what to make of the differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from reports import beside, plots, tables, verdicts
from reports.beside import Ours
from reports.document import Document, Figure, Section
from reports.pairing import CHAIN
from reports.statistics import Interval
from reports.summary import Note, ReportError, Run, headline, load, notes
from reports.tables import NOTHING, Column, Table, p_text
from reports.verdicts import Verdict
from suites.protocol import SuiteError, load_suite
from suites.published import Cell, PaperTable, Published, paper_table

METHODS = {
    "memoryvla_pp": "MemoryVLA++",
    "memoryvla_plus": "MemoryVLA+",
    "memoryvla": "MemoryVLA",
    "cogact": "CogACT",
}
"""The method in the papers that a policy of ours implements."""


def build(
    name: str, paths: Iterable[Path | str] = (), *, method: str | None = None, margin: float = verdicts.MARGIN
) -> Document:
    """The table of that name with the runs at or below these paths beside it.

    method: the published row to compare with (default: the one the policy implements, else the paper's own); margin:
    the largest difference of rates that still counts as agreement. Raises SuiteError for an unknown table, ReportError
    for a method that is not in it.
    """
    table = paper_table(name)
    listed = list(paths)
    runs = load(listed) if listed else ()
    rows = table.rows()
    if method is not None and method not in rows:
        raise ReportError(f"table {name} has no row {method!r}; there are: {', '.join(rows)}")
    if not 0 < margin < 1:
        raise ReportError(f"the margin is a difference of rates between 0 and 1, was {margin}; 0.05 is 5 points")
    against = {run.label: method or _method(run, table, rows) for run in runs}
    judged = [
        (run, cell, _judge(run, table, cell, rows[against[run.label]], margin)) for run in runs for cell in _own(table)
    ]
    found = [(run, cell, each) for run, cell, each in judged if each is not None]
    sections = [Section(table.title, (_layout(table, rows, runs),))]
    if found:
        drawn = _figures(table, rows, against, found)
        sections.append(Section("Verdicts", (_verdicts(table, rows, against, found, margin),), drawn))
    remarks = (*table.footnotes, *beside.inconsistencies(table))
    if remarks:
        sections.append(Section("Footnotes to the published numbers", text=remarks))
    return Document(
        kind="table",
        title=table.title,
        headline=headline(runs) if runs else Note("remark", "Published numbers only: no run was given."),
        notes=(*notes(runs), *_warnings(table, runs)),
        findings=_findings(found),
        sections=tuple(sections),
        rows=tuple(_data(table, rows, against, found)),
    )


Judged = tuple[Ours, Verdict | None]


def _own(table: PaperTable) -> list[Cell]:
    """The columns beside which something of ours can stand."""
    return [cell for cell in table.cells if cell.parts or cell.measure != "none"]


def _judge(run: Run, table: PaperTable, cell: Cell, row: Mapping[str, Published], margin: float) -> Judged | None:
    value = beside.ours(run, table, cell)
    return None if value is None else (value, beside.verdict(run, table, cell, row, margin))


def _method(run: Run, table: PaperTable, rows: Mapping[str, Any]) -> str:
    """The published row of the method that this policy implements (`CogACT (re-trained)` for `cogact`)."""
    wanted = METHODS.get(run.manifest.policy, table.method)
    fitting = [row for row in rows if row == wanted or row.startswith(f"{wanted} (")]
    return fitting[0] if fitting else table.method


# ---------------------------------------------------------------------- in words


def _warnings(table: PaperTable, runs: Sequence[Run]) -> list[Note]:
    """What stands between our numbers and the paper's: suites that are not in it, protocols that were changed."""
    wanted = sorted({cell.suite for cell in table.cells if cell.suite})
    made = []
    for run in runs:
        plans = [plan for plan in run.manifest.suites if any(fnmatchcase(plan.name, name) for name in wanted)]
        if not plans:
            has = ", ".join(plan.name for plan in run.manifest.suites)
            text = f"{run.label}: none of its suites ({has}) stands in this table, which needs {', '.join(wanted)}."
            made.append(Note("warning", text))
        for plan in plans:
            try:
                shipped = load_suite(plan.name, like=plan.env).fingerprint()
            except SuiteError:
                continue
            if shipped != plan.fingerprint:
                text = (
                    f"{run.label}: {plan.name} ran under protocol {plan.fingerprint}, the suite's own is {shipped}: "
                    f"not the protocol of the paper."
                )
                made.append(Note("warning", text))
    return made


def _findings(found: Sequence[tuple[Run, Cell, Judged]]) -> tuple[str, ...]:
    made = []
    for label in dict.fromkeys(run.label for run, *_ in found):
        words = [each.word for run, _, (_, each) in found if run.label == label and each is not None]
        if words:
            counts = ", ".join(f"{word}: {words.count(word)}" for word in dict.fromkeys(words))
            made.append(f"{label}: of {len(words)} numbers that can be compared, {counts}.")
    return tuple(made)


# ---------------------------------------------------------------------- tables


def _layout(table: PaperTable, rows: Mapping[str, Mapping[str, Published]], runs: Sequence[Run]) -> Table:
    """The paper's own layout, our rows below its rows."""
    columns = (Column("Method"), *(Column(cell.title, True) for cell in table.cells))
    cells = [
        (method, *(row[cell.title].text if cell.title in row else NOTHING for cell in table.cells))
        for method, row in rows.items()
    ]
    for run in runs:
        values = [beside.ours(run, table, cell) for cell in table.cells]
        beyond = [beside.not_covered(run, table, cell) for cell in table.cells]
        shown = [_value(v, c) for v, c in zip(values, table.cells, strict=True)]
        for k, cell in enumerate(table.cells):
            if values[k] is None and beyond[k] and not cell.parts:
                shown[k] = "not covered"
        cells.append((f"{run.label}, ours", *shown))
        cells.append(("95 % interval", *(_span(v, c) for v, c in zip(values, table.cells, strict=True))))
        cells.append(("episodes", *(_count(v) for v in values)))
        if any(beyond):
            cells.append(("scenes not covered", *map(str, beyond)))
    note = "Published numbers as printed. Ours: Wilson's intervals, squared and added for means of rates."
    return Table(table.title, columns, tuple(cells), note=note if runs else "Published numbers as printed.")


def _digits(cell: Cell) -> int:
    return {CHAIN: 2, "latency": 4}.get(cell.measure, 1)


def _value(value: Ours | None, cell: Cell) -> str:
    return NOTHING if value is None else f"{value.value:.{_digits(cell)}f}"


def _span(value: Ours | None, cell: Cell) -> str:
    if value is None or value.interval is None:
        return NOTHING
    return f"{value.interval.low:.{_digits(cell)}f} – {value.interval.high:.{_digits(cell)}f}"


def _count(value: Ours | None) -> str:
    if value is None:
        return NOTHING
    return str(value.n) if value.successes is None else f"{value.successes}/{value.n}"


def _verdicts(
    table: PaperTable,
    rows: Mapping[str, Mapping[str, Published]],
    against: Mapping[str, str],
    found: Sequence[tuple[Run, Cell, Judged]],
    margin: float,
) -> Table:
    cells = []
    for run, cell, (value, each) in found:
        published = rows[against[run.label]].get(cell.title)
        if published is None or each is None:
            continue
        scale = 1.0 if cell.measure == CHAIN else 100.0
        trials = NOTHING if published.trials is None else str(published.trials)
        numbers = [_value(value, cell), _count(value), f"{published.text}", trials]
        numbers += [_signed(scale * each.difference, cell), _scaled(each.interval, scale, cell), p_text(each.p_value)]
        cells.append((cell.title, run.label, *numbers, each.word, _more(each)))
    columns = [Column("Column"), Column("Policy"), Column("Ours", True), Column("Episodes", True)]
    columns += [Column("Published", True), Column("Trials", True, 2), Column("Difference", True)]
    columns += [Column("95 % interval", True), Column("p", True), Column("Verdict"), Column("More episodes", True, 1)]
    names = ", ".join(dict.fromkeys(against.values()))
    note = (
        f"Against the row of {names}. differs: p below 0.05 (Fisher's exact test; where the published trials are "
        f"unknown the exact binomial test against the printed value), not corrected for the number of columns. agrees: "
        f"the 90 % interval of the difference lies within {100 * margin:g} points ({beside.LENGTH * margin:g} "
        f"subtasks). More episodes: how many would decide an undecided one if our rate stayed as it is; {NOTHING} "
        f"where none would, since the published number rests on too few trials."
    )
    return Table("Verdicts", tuple(columns), tuple(cells), note=note)


def _figures(
    table: PaperTable,
    rows: Mapping[str, Mapping[str, Published]],
    against: Mapping[str, str],
    found: Sequence[tuple[Run, Cell, Judged]],
) -> tuple[Figure, ...]:
    """The rates of the table (for chains: how many reach each subtask) beside those published."""
    cells = [cell for cell in _own(table) if cell.measure not in (CHAIN, "latency")]
    cells = [cell for cell in cells if any(known is cell for _, known, _ in found)]
    if not cells:
        return ()
    series: list[tuple[str, list[plots.Placed]]] = []
    for method in dict.fromkeys(against.values()):
        row = rows[method]
        series.append((f"{method}, published", [(row[c.title].value, None) if c.title in row else None for c in cells]))
    for label in against:
        mine = {cell.title: value for run, cell, (value, _) in found if run.label == label}
        placed = [mine.get(cell.title) for cell in cells]
        series.append((f"{label}, ours", [None if v is None else (v.value, v.interval) for v in placed]))
    series = [(label, values) for label, values in series if any(values)]
    drawn = plots.beside_plot([cell.title for cell in cells], series, "percent")
    return (Figure(drawn, "Ours with 95 % intervals beside the published numbers."),)


def _signed(value: float, cell: Cell) -> str:
    return f"{value:+.{_digits(cell)}f}".replace("-", tables.MINUS)


def _scaled(interval: Interval | None, scale: float, cell: Cell) -> str:
    if interval is None:
        return NOTHING
    return f"{_signed(scale * interval.low, cell)} to {_signed(scale * interval.high, cell)}"


def _more(each: Verdict) -> str:
    return NOTHING if each.more is None else str(each.more)


def _data(
    table: PaperTable,
    rows: Mapping[str, Mapping[str, Published]],
    against: Mapping[str, str],
    found: Sequence[tuple[Run, Cell, Judged]],
) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"row": "published", "method": method, "column": title, "value": each.value, "unit": each.unit,
         "trials": each.trials, "source": each.source}
        for method, row in rows.items() for title, each in row.items()
    ]  # fmt: skip
    for run, cell, (value, each) in found:
        row: dict[str, Any] = {"row": "ours", "method": run.label, "column": cell.title, "value": value.value}
        row |= {"trials": value.n, "low": value.interval and value.interval.low}
        row |= {"high": value.interval and value.interval.high, "against": against[run.label]}
        if each is not None:
            row |= {"difference": each.difference, "difference_low": each.interval and each.interval.low}
            row |= {"difference_high": each.interval and each.interval.high, "p": each.p_value}
            row |= {"verdict": each.word, "more_episodes": each.more}
        made.append(row)
    return made
