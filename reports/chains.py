"""Chains of subtasks in a report: how many of them reach each length, and how often each subtask is done."""

from __future__ import annotations

from collections.abc import Sequence

from reports.beside import LENGTH
from reports.pairing import CHAIN
from reports.statistics import Mean, Rate, mean, success_rate
from reports.summary import Group, Run, groups_on, suites_of
from reports.tables import Column, Table, counted, mean_cells, percent, percent_interval

SUBTASK = "task/"
"""Before a subtask's name in the metrics of an episode: 1 done, 0 begun and not done."""


def chained(runs: Sequence[Run]) -> list[Group]:
    """The groups whose scored episodes are all chains."""
    groups = [group for suite in suites_of(runs) for _, group in groups_on(runs, suite)]
    return [group for group in groups if group.scored and all(CHAIN in record.metrics for record in group.scored)]


def average_length(group: Group) -> Mean:
    """Mean subtasks done in a row, with its bootstrap interval; empty where the episodes are no chains."""
    return mean(record.metrics[CHAIN] for record in group.scored if CHAIN in record.metrics)


def reaching(group: Group, full: int) -> list[Rate]:
    """The share of chains with at least 1 ... `full` subtasks done in a row."""
    lengths = [record.metrics[CHAIN] for record in group.scored]
    return [success_rate(length >= reached for length in lengths) for reached in range(1, full + 1)]


def chain_table(runs: Sequence[Run]) -> Table | None:
    """Share of chains with at least 1 ... 5 subtasks done in a row, and the average length; None without chains."""
    groups = chained(runs)
    if not groups:
        return None
    full = full_length(groups)
    columns = [Column("Suite"), Column("Policy"), Column("Chains", True)]
    for reached in range(1, full + 1):
        columns += [Column(f"{reached}/{full}", True), Column(f"{reached}/{full}, 95 %", True, 8 + full - reached)]
    columns += [Column("Average length", True), Column("95 % interval", True, 8)]
    rows = []
    for group in groups:
        line = [group.suite.name, group.label, str(len(group.scored))]
        for rate in reaching(group, full):
            line += [percent(rate.value), percent_interval(rate.interval)]
        rows.append((*line, *mean_cells(average_length(group), 2, len(group.scored))))
    note = (
        f"k/{full}: chains in which the first k subtasks were done in a row, with Wilson's interval. Average length: "
        "the mean number of subtasks done in a row, with a bootstrap interval (BCa)."
    )
    marks = tuple("incomplete" if len(group.scored) < group.planned else "" for group in groups)
    return Table("Chains", tuple(columns), tuple(rows), marks, note)


def subtask_table(runs: Sequence[Run]) -> Table | None:
    """How often each subtask was done of the times it was begun; None without chains."""
    rows = []
    for group in chained(runs):
        done: dict[str, list[bool]] = {}
        for record in group.scored:
            for name, value in record.metrics.items():
                if name.startswith(SUBTASK):
                    done.setdefault(name.removeprefix(SUBTASK), []).append(value == 1)
        for name in sorted(done):
            rate = success_rate(done[name])
            numbers = (counted(rate), percent(rate.value), percent_interval(rate.interval))
            rows.append((group.suite.name, name, group.label, *numbers))
    if not rows:
        return None
    columns = [Column("Suite"), Column("Subtask"), Column("Policy"), Column("Done of begun", True)]
    columns += [Column("Rate", True), Column("95 % interval", True)]
    note = "A subtask is begun only where those before it were done, so its rate is of the chains that came so far."
    return Table("Subtasks", tuple(columns), tuple(rows), note=note)


def full_length(groups: Sequence[Group]) -> int:
    """Subtasks of a whole chain: an episode's score is its chain length over it."""
    scored = [record for group in groups for record in group.scored]
    return max((round(r.metrics[CHAIN] / r.score) for r in scored if r.score and r.metrics[CHAIN]), default=LENGTH)
