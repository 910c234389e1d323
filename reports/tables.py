"""The tables of a report, as text cells that the terminal, Markdown and the page all show alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reports.statistics import CONFIDENCE, Interval, Mean, Rate
from reports.summary import Group, Run, comparisons, floor_percent, groups_on, suites_of

NOTHING = "–"
"""Stands where there is no number. Never a zero."""

MOST_ROWS = 2000
"""Rows of one table on a page, in Markdown or in LaTeX; the .csv has all."""

MINUS = "\N{MINUS SIGN}"
VOIDS = "Void attempts"
CHOICES = ("right_choices", "wrong_choices")
MARKS = {"": "", "incomplete": "incomplete", "warning": "not comparable"}


@dataclass(frozen=True)
class Column:
    """A column's title; number: it is set right; minor: a terminal too narrow for the table leaves out the columns of
    the highest number first, and never those of 0; link: on a page its cells lead to the row's place."""

    title: str
    number: bool = False
    minor: int = 0
    link: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text. marks: one word of `MARKS` for each row, said in words wherever the table is shown; places: for
    each row the id of what is shown of it elsewhere on the page, empty where nothing is."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...] = ()
    note: str = ""
    places: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """The place of a row on the page, empty where it has none."""
        return self.places[row] if self.places else ""

    def mark(self, row: int) -> str:
        """The mark of a row, empty for most."""
        return self.marks[row] if self.marks else ""


# ---------------------------------------------------------------------- numbers as text


def percent(value: float | None) -> str:
    """A share as `93.5 %`; one that is not exactly none or all never reads 0.0 or 100.0."""
    if value is None:
        return NOTHING
    shown = round(100 * value, 1)
    if 0 < value < 1:
        shown = min(max(shown, 0.1), 99.9)
    return f"{shown:.1f} %"


def percent_interval(interval: Interval | None) -> str:
    """Both ends of an interval of shares, `88.1 – 96.6 %`."""
    return NOTHING if interval is None else f"{100 * interval.low:.1f} – {100 * interval.high:.1f} %"


def points(value: float | None) -> str:
    """A difference of rates in percentage points, with its sign."""
    return NOTHING if value is None else f"{100 * value:+.1f}".replace("-", MINUS)


def counted(rate: Rate) -> str:
    """`14/20`, and a dash when nothing was scored."""
    return f"{rate.successes}/{rate.n}" if rate.n else NOTHING


def coverage(group: Group) -> str:
    """`100 %`, or what is there of how much."""
    if len(group.scored) == group.planned:
        return "100 %"
    return f"{len(group.scored)}/{group.planned} ({floor_percent(len(group.scored), group.planned)})"


def mean_cells(found: Mean, digits: int, of: int) -> tuple[str, str]:
    """A mean (and over how many episodes, where not over all `of` them), and its interval."""
    if found.value is None:
        return NOTHING, NOTHING
    text = f"{found.value:.{digits}f}" if found.n == of else f"{found.value:.{digits}f} of {found.n}"
    if found.interval is None:
        return text, NOTHING
    return text, f"{found.interval.low:.{digits}f} – {found.interval.high:.{digits}f}"


def p_text(value: float | None) -> str:
    """A p value to two significant digits."""
    if value is None:
        return NOTHING
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def wrapped(name: str, width: int, most: int | None = None) -> str:
    """A long name on several lines, broken after `_`, `-`, `/` or a space; beyond `most` lines it is cut with `…`."""
    lines = [""]
    for part in re.findall(rf"[^_\-/ ]{{1,{max(1, width - 1)}}}[_\-/ ]?|[_\-/ ]", name):
        if len(lines[-1]) + len(part.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += part
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][: width - 1]}…"]
    return "\n".join(line.rstrip() for line in lines)


# ---------------------------------------------------------------------- tables


def overall(runs: Sequence[Run]) -> Table:
    """Policy by suite: coverage, successes, rate with Wilson's interval, mean over tasks, steps, score, voids."""
    rows = [(run, group) for suite in suites_of(runs) for run, group in groups_on(runs, suite)]
    means = [percent(run.task_mean(group.suite.name)) for run, group in rows]
    groups = [group for _, group in rows]
    note = (
        f"Rate: successes over scored episodes, with Wilson's {100 * CONFIDENCE:.0f} % interval. Task mean: the mean "
        f"of the tasks' success rates, as papers average; {NOTHING} while a task has no scored episode. Steps count "
        f"failures too; the intervals of steps and score are bootstrapped (BCa). Voids: attempts that came out void."
    )
    return results("Results", "Suite", [g.suite.name for g in groups], groups, runs, means, note)


def per_task(runs: Sequence[Run], suite: str) -> Table:
    """Task by policy in one suite, tasks in the order of the plan."""
    by_task: dict[str, list[Group]] = {}
    for run, _ in groups_on(runs, suite):
        for group in run.task_groups[suite]:
            by_task.setdefault(group.task or "", []).append(group)
    rows = [group for groups in by_task.values() for group in groups]
    return results(f"Tasks of {suite}", "Task", [g.task or "" for g in rows], rows, runs)


def results(
    title: str,
    first: str,
    names: Sequence[str],
    groups: Sequence[Group],
    runs: Sequence[Run],
    means: Sequence[str] = (),
    note: str = "",
) -> Table:
    """One row a group; columns that would be empty are left out. means: the task means, if they are to be shown."""
    whole = bool(means)
    score = any(g.score.n for g in groups)
    choices = any(g.choices(kind) is not None for g in groups for kind in CHOICES)
    columns = [Column(first), Column("Policy"), Column("Coverage", True), Column("Successes", True)]
    columns += [Column("Rate", True), Column("95 % interval", True)] + [Column("Task mean", True, 3)] * whole
    columns += [Column("Steps", True, 6)] + [Column("Steps, 95 %", True, 9)] * whole
    columns += [Column("Score", True, 4)] * score + [Column("Score, 95 %", True, 8)] * (score and whole)
    columns += [Column("Right / wrong", True, 5)] * choices + [Column("Voids", True, 7)]
    cells = []
    for i, group in enumerate(groups):
        line = [names[i], group.label, coverage(group), counted(group.rate), percent(group.rate.value)]
        line += [percent_interval(group.rate.interval), *means[i : i + 1]]
        line += mean_cells(group.steps, 1, group.rate.n)[: 1 + whole]
        line += mean_cells(group.score, 3, group.rate.n)[: 1 + whole] if score else ()
        line += [_choices(group)] * choices + [str(len(group.void_attempts))]
        cells.append(line)
    filled = [i for i, c in enumerate(columns) if c.minor < 8 or any(line[i] != NOTHING for line in cells)]
    rows = tuple(tuple(line[i] for i in filled) for line in cells)
    return Table(title, tuple(columns[i] for i in filled), rows, _marks(runs, groups), note)


def paired(runs: Sequence[Run]) -> Table | None:
    """Every two policies on the scenes both have scored; None when there are no such scenes."""
    found = comparisons(runs)
    if not found:
        return None
    titles = {"Same scenes": 0, "Both": 2, "Only A": 1, "Only B": 1, "Neither": 2, "A less B, points": 0}
    columns = [
        Column("Suite"),
        Column("A"),
        Column("B"),
        *(Column(name, True, minor) for name, minor in titles.items()),
    ]
    columns += [Column("95 % interval", True), Column("p", True)]
    cells, marks = [], []
    for suite, a, b, c in found:
        span = NOTHING if c.interval is None else f"{points(c.interval.low)} to {points(c.interval.high)}"
        counts = [str(number) for number in (c.n, c.both, c.only_a, c.only_b, c.neither)]
        cells.append((suite, a, b, *counts, points(c.difference), span, p_text(c.p_value)))
        marks.append("warning" if c.unmatched else "")
    dropped = sum(c.unmatched for *_, c in found)
    note = (
        "Only scenes that both policies scored, with equal scene hashes. p: exact McNemar test, not corrected for the "
        "number of comparisons. Interval: Tango's, for rates on the same scenes."
    )
    note += f" {dropped} pairs were left out, since their scene hashes differ." if dropped else ""
    return Table("Paired comparison", tuple(columns), tuple(cells), tuple(marks), note)


def voids(runs: Sequence[Run]) -> Table | None:
    """Every void attempt with its cause, and what became of its scene; None when there is none."""
    cells, marks = [], []
    for run in runs:
        final = {record.scene: record for record in run.episodes}
        for record in run.voids:
            last = final[record.scene]
            came = f"{last.outcome} at attempt {last.attempt}" if last.scored else "never scored"
            scene = f"{record.suite}/{record.task}/{record.trial}"
            cells.append((run.label, scene, str(record.attempt), record.cause, record.worker or NOTHING, came))
            marks.append("" if last.scored else "incomplete")
    if not cells:
        return None
    columns = [Column("Policy"), Column("Scene"), Column("Attempt", True, 2), Column("Cause")]
    columns += [Column("Worker", minor=3), Column("What became of it")]
    note = "A void attempt is a fault of the infrastructure. It is never scored; its scene is run again from the start."
    return Table(VOIDS, tuple(columns), tuple(cells), tuple(marks), note)


def seconds(runs: Sequence[Run]) -> Table | None:
    """Mean seconds per scored episode by phase; None when nothing was timed."""
    groups = [group for suite in suites_of(runs) for _, group in groups_on(runs, suite) if group.seconds]
    if not groups:
        return None
    phases = phase_names(groups)
    columns = [Column("Suite"), Column("Policy"), *(Column(phase, True) for phase in phases)]
    columns += [Column("Sum", True), Column("Lost in void attempts", True, 1)]
    cells = []
    for group in groups:
        line = [f"{group.seconds[phase]:.3f}" if phase in group.seconds else NOTHING for phase in phases]
        lost = sum(r.seconds.get("total", 0.0) for r in group.void_attempts)
        cells.append((group.suite.name, group.label, *line, f"{sum(group.seconds.values()):.3f}", f"{lost:.1f}"))
    note = "Mean wall-clock seconds of a scored episode by phase; the last column is the sum over all void attempts."
    return Table("Where the time went", tuple(columns), tuple(cells), note=note)


def protocols(runs: Sequence[Run]) -> Table:
    """What fixed the scores, by suite and policy."""
    cells, marks = [], []
    for suite in suites_of(runs):
        groups = [group for _, group in groups_on(runs, suite)]
        differ = len({group.suite.fingerprint for group in groups}) > 1
        for group in groups:
            plan = group.suite
            same = "DIFFERS" if differ else "same" if len(groups) > 1 else NOTHING
            rules = "; ".join(f"{k} {v}" for k, v in plan.protocol.items() if k != "trials" and v is not None)
            cells.append((suite, group.label, f"v{plan.version}", plan.fingerprint, same, str(plan.trials), rules))
            marks.append("warning" if differ else "")
    titles = ("Suite", "Policy", "Version", "Fingerprint", "Among these runs")
    columns = (*map(Column, titles), Column("Trials", True), Column("Rules"))
    return Table("Protocols", columns, tuple(cells), tuple(marks))


def shortened(table: Table) -> Table:
    """The first `MOST_ROWS` rows of a table, and a note that says so."""
    if len(table.rows) <= MOST_ROWS:
        return table
    note = f"The first {MOST_ROWS} of {len(table.rows)} rows; the .csv has all. {table.note}".strip()
    return replace(table, rows=table.rows[:MOST_ROWS], marks=table.marks[:MOST_ROWS], note=note)


def phase_names(groups: Iterable[Group]) -> list[str]:
    """Phases of all groups in the order of an episode, `other` last."""
    names = list(dict.fromkeys(phase for group in groups for phase in group.seconds))
    return sorted(names, key=lambda name: name == "other")


def _choices(group: Group) -> str:
    found = [group.choices(kind) for kind in CHOICES]
    return NOTHING if found == [None, None] else " / ".join(NOTHING if n is None else str(n) for n in found)


def _marks(runs: Sequence[Run], groups: Sequence[Group]) -> tuple[str, ...]:
    prints: dict[str, set[str]] = {}
    for run in runs:
        for plan in run.manifest.suites:
            prints.setdefault(plan.name, set()).add(plan.fingerprint)
    return tuple(
        "warning" if len(prints[group.suite.name]) > 1 else "incomplete" if len(group.scored) < group.planned else ""
        for group in groups
    )
