"""Tasks sorted by a tag: the dimensions of LIBERO-Plus, the families of MIKASA-Robo, the scenes of LIBERO."""

from __future__ import annotations

from collections.abc import Sequence

from reports import tables
from reports.summary import Group, Run, groups_on
from reports.tables import Table

MOST_VALUES = 40
LEAST_TASKS = 3
"""Values of a tag that a table takes, and tasks a value must have on average: else the tasks' own table says it all."""


def sorting(runs: Sequence[Run], suite: str) -> list[str]:
    """The tags that sort the tasks of a suite into groups; of those that sort them alike the first."""
    tags: dict[str, dict[str, str]] = {}
    for _, group in groups_on(runs, suite):
        tags |= {task: group.suite.tags.get(task, {}) for task in group.suite.tasks}
    found: dict[tuple[int, ...], str] = {}
    for key in dict.fromkeys(key for each in tags.values() for key in each):
        values = [each.get(key) for each in tags.values()]
        names = list(dict.fromkeys(values))
        if None not in names and 2 <= len(names) <= min(MOST_VALUES, len(values) / LEAST_TASKS):
            found.setdefault(tuple(names.index(value) for value in values), key)
    return list(found.values())


def groups(run: Run, suite: str, key: str) -> list[Group]:
    """What a run did on the tasks of each value of a tag, values in the order of the tasks."""
    parts: dict[str, list[Group]] = {}
    for group in run.task_groups[suite]:
        parts.setdefault(group.suite.tags[group.task or ""][key], []).append(group)
    return [
        Group(
            label=run.label,
            suite=each[0].suite,
            task=value,
            planned=sum(group.planned for group in each),
            scored=tuple(record for group in each for record in group.scored),
            void_scenes=sum(group.void_scenes for group in each),
            void_attempts=tuple(record for group in each for record in group.void_attempts),
        )
        for value, each in parts.items()
    ]


def by_tag(runs: Sequence[Run], suite: str, key: str) -> Table:
    """Value of a tag by policy in one suite."""
    by_value: dict[str, list[Group]] = {}
    for run, _ in groups_on(runs, suite):
        for group in groups(run, suite, key):
            by_value.setdefault(group.task or "", []).append(group)
    rows = [group for each in by_value.values() for group in each]
    note = "Rate: over all scored episodes of these tasks, so that each task weighs as much as it has scenes."
    return tables.results(title(suite, key), key.capitalize(), [g.task or "" for g in rows], rows, runs, note=note)


def title(suite: str, key: str) -> str:
    """How such a table is called."""
    return f"{suite} by {key}"
