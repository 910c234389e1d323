"""What of our records stands beside a column of a paper's table, and the verdict on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reports import verdicts
from reports.pairing import CHAIN
from reports.records import EpisodeRecord
from reports.statistics import Interval, mean, success_rate
from reports.summary import Group, Run
from reports.verdicts import Part, Verdict
from suites.published import Cell, PaperTable, Published

LENGTH = 5
"""Subtasks of a full chain: margins of rates are multiplied by it for lengths."""


@dataclass(frozen=True)
class Ours:
    """Our number for one column, in the paper's unit (percent, subtasks, seconds). n: episodes behind it."""

    value: float
    interval: Interval | None
    n: int
    successes: int | None = None


def flat(table: PaperTable, cell: Cell) -> list[tuple[Cell, float]]:
    """The columns of single rates that a column is made of, with their weights (sum 1)."""
    if not cell.parts:
        return [(cell, 1.0)]
    weights = cell.weights or (1.0,) * len(cell.parts)
    total = sum(weights)
    return [
        (leaf, share * weight / total)
        for title, weight in zip(cell.parts, weights, strict=True)
        for leaf, share in flat(table, table.cell(title))
    ]


def groups(run: Run, cell: Cell) -> list[Group]:
    """The tasks of a run that belong to a column of single rates."""
    found: list[Group] = []
    for plan in run.manifest.suites:
        if not cell.suite or not fnmatchcase(plan.name, cell.suite):
            continue
        for group in run.task_groups[plan.name]:
            tags = plan.tags.get(group.task or "", {})
            named = not cell.task or cell.task in (group.task, tags.get("published"))
            if named and all(tags.get(key) == value for key, value in cell.tags.items()):
                found.append(group)
    return found


def episodes(run: Run, cell: Cell) -> list[EpisodeRecord]:
    """The scored episodes of a run that belong to a column."""
    return [record for group in groups(run, cell) for record in group.scored]


def not_covered(run: Run, table: PaperTable, cell: Cell) -> int:
    """Planned scenes of a column that could not be tried, since the machine lacked something that they need."""
    return sum(group.not_covered for leaf, _ in flat(table, cell) for group in groups(run, leaf))


def ours(run: Run, table: PaperTable, cell: Cell) -> Ours | None:
    """Our number for a column; None where we have nothing, or not all of its parts."""
    if cell.parts:
        return _mean_of_parts(run, table, cell)
    records = episodes(run, cell)
    if not records:
        return None
    if (hits := _hits(records, cell.measure)) is not None:
        rate = success_rate(hits)
        assert rate.value is not None
        assert rate.interval is not None
        span = Interval(100 * rate.interval.low, 100 * rate.interval.high)
        return Ours(100 * rate.value, span, rate.n, rate.successes)
    numbers = _numbers(records, cell.measure)
    found = mean(numbers)
    return None if found.value is None else Ours(found.value, found.interval, found.n)


def _hits(records: Sequence[EpisodeRecord], measure: str) -> list[bool] | None:
    """Success by episode where the measure is a rate; None where it is not, or the records do not hold it."""
    if measure == "success":
        return [r.outcome == "success" for r in records]
    if measure.startswith("chain_") and measure != CHAIN and all(CHAIN in r.metrics for r in records):
        return [r.metrics[CHAIN] >= int(measure.removeprefix("chain_")) for r in records]
    return None


def _numbers(records: Sequence[EpisodeRecord], measure: str) -> list[float]:
    if measure == CHAIN:
        return [r.metrics[CHAIN] for r in records if CHAIN in r.metrics]
    if measure == "score":
        return [100 * r.score for r in records if r.score is not None]
    if measure == "latency":
        return [r.seconds["policy"] / r.calls for r in records if r.calls and "policy" in r.seconds]
    return []


def _mean_of_parts(run: Run, table: PaperTable, cell: Cell) -> Ours | None:
    parts = _our_parts(run, table, cell)
    if parts is None:
        return None
    n = sum(part.n for part in parts)
    found = verdicts.mean_of(parts)
    value = sum(part.weight * part.successes / part.n for part in parts)
    return Ours(100 * value, Interval(100 * found.low, 100 * found.high), n)


def _our_parts(run: Run, table: PaperTable, cell: Cell) -> list[Part] | None:
    parts = []
    for leaf, weight in flat(table, cell):
        records = episodes(run, leaf)
        hits = _hits(records, leaf.measure)
        if not records or hits is None:
            return None
        parts.append(Part(sum(hits), len(hits), weight))
    return parts


def verdict(run: Run, table: PaperTable, cell: Cell, row: Mapping[str, Published], margin: float) -> Verdict | None:
    """Our number against the published one of this row; None where there is no number of ours, none of theirs, or
    no test: scores and latencies are shown, not judged."""
    published = row.get(cell.title)
    if published is None:
        return None
    if cell.parts:
        parts = _our_parts(run, table, cell)
        if parts is None:
            return None
        return verdicts.against_mean(parts, _their_parts(table, cell, row), published.value / 100, margin)
    records = episodes(run, cell)
    hits = _hits(records, cell.measure)
    if records and hits is not None:
        return verdicts.against_rate(sum(hits), len(hits), published.value / 100, published.trials, margin)
    lengths = _numbers(records, cell.measure) if cell.measure == CHAIN else []
    if not lengths:
        return None
    return verdicts.against_length(lengths, published.value, _their_chains(table, row), LENGTH * margin)


def _their_parts(table: PaperTable, cell: Cell, row: Mapping[str, Published]) -> list[Part]:
    """The published parts of a mean, or none where one of them or its trials are unknown."""
    parts = []
    for leaf, weight in flat(table, cell):
        known = row.get(leaf.title)
        if known is None or known.trials is None:
            return []
        parts.append(Part(round(known.value / 100 * known.trials), known.trials, weight))
    return parts


def _their_chains(table: PaperTable, row: Mapping[str, Published]) -> list[float] | None:
    cells = [cell for cell in table.cells if cell.measure.startswith("chain_") and cell.measure != CHAIN]
    rates = [row.get(cell.title) for cell in cells]
    known = [each for each in rates if each is not None and each.trials is not None]
    if len(known) < LENGTH or known[0].trials is None:
        return None
    return verdicts.chain_lengths([each.value / 100 for each in known], known[0].trials)


def inconsistencies(table: PaperTable) -> list[str]:
    """Published means that are not the mean of their parts, and rates that are no share of their trials."""
    found = []
    for method, row in table.rows().items():
        for cell in table.cells:
            value = row.get(cell.title)
            if value is None:
                continue
            if (text := _wrong_mean(table, cell, row, value)) or (text := _impossible(value)):
                found.append(f"{method}, {cell.title}: {text}")
    return found


def _wrong_mean(table: PaperTable, cell: Cell, row: Mapping[str, Published], value: Published) -> str:
    chains = [row.get(c.title) for c in table.cells if c.measure.startswith("chain_") and c.measure != CHAIN]
    if cell.parts:
        leaves = [(row.get(leaf.title), weight) for leaf, weight in flat(table, cell)]
        what = "the weighted mean" if cell.weights else "the mean"
    elif cell.measure == CHAIN:
        leaves, what = [(each, 0.01) for each in chains], "the sum"
    else:
        return ""
    known = [(part, weight) for part, weight in leaves if part is not None]
    if not known or len(known) < len(leaves):
        return ""
    again = sum(part.value * weight for part, weight in known)
    slack = value.rounding + sum(part.rounding * weight for part, weight in known) + 1e-9
    if abs(again - value.value) <= slack:
        return ""
    return f"published {value.text}, but {what} of the numbers printed beside it is {again:.2f}."


def _impossible(value: Published) -> str:
    """Whether no count of successes gives the printed percentage."""
    if value.trials is None or value.unit != "%" or value.task == "average":
        return ""
    exact = value.value / 100 * value.trials
    shares = [100 * k / value.trials for k in (math.floor(exact), math.ceil(exact))]
    rounded = any(abs(share - value.value) <= value.rounding + 1e-9 for share in shares)
    cut_off = any(-1e-9 <= share - value.value < 2 * value.rounding for share in shares)
    if rounded or cut_off:
        return ""
    near = min(shares, key=lambda share: abs(share - value.value))
    return f"{value.text} % is no share of {value.trials} trials (the nearest is {near:.2f} %)."
