"""`memvla compare`: two runs or more on the same scenes, as a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reports import manifest as manifests
from reports import plots, tables
from reports.document import Document, Figure, Section, Shown
from reports.pairing import ALPHA, Best, Pair, best_of, pairs, require_comparable
from reports.records import EpisodeRecord
from reports.statistics import Comparison, Interval, Mean
from reports.summary import Note, Run, headline, load, notes, suites_of
from reports.tables import NOTHING, Column, Table, p_text, percent, points

MOST_SIDE_BY_SIDE = 40
"""Flipped scenes whose videos are on the page; the table lists all of them."""

UNPAIRED = "Only scenes that both scored, under one scene hash. "


def build(paths: Iterable[Path | str], *, allow_different_protocols: bool = False) -> Document:
    """The comparison of the runs at or below these paths.

    Raises ReportError for fewer than two runs, no common suite, or protocols that differ and are not allowed to;
    ManifestError and RecordError as reading the runs does.
    """
    runs = load(paths)
    require_comparable(runs, allow_different_protocols=allow_different_protocols)
    found = pairs(runs)
    best = [one for suite in suites_of(runs) if (one := best_of(runs, suite)) is not None]
    sections = [_suites(found), *([_best(best)] if best else [])]
    sections += [section for section in (_lengths(found), *(_tasks(p, found) for p in found)) if section is not None]
    sections += [section for i in range(len(found)) if (section := _flipped(i, found)) is not None]
    sections += [_manifests(runs), Section("Protocols", (tables.protocols(runs),))]
    return Document(
        kind="comparison",
        title=" against ".join(run.label for run in runs),
        headline=headline(runs),
        notes=(*notes(runs), *_pairing_notes(found)),
        findings=(*map(_finding, found), *map(_best_finding, best)),
        sections=tuple(sections),
        rows=tuple(row for pair in found for row in _rows(pair)),
    )


# ---------------------------------------------------------------------- in words


def _pairing_notes(found: Sequence[Pair]) -> list[Note]:
    made = []
    for pair in found:
        if pair.alone:
            were = "1 scene was" if pair.alone == 1 else f"{pair.alone} scenes were"
            left = f"{were} scored by one of the two only and left out"
            text = f"{_name(pair, found)}: {left}; {len(pair.matched)} are compared."
            made.append(Note("warning", text))
    return made


def _finding(pair: Pair) -> str:
    result = pair.result
    if result.difference is None:
        return f"{pair.suite}: {pair.a.label} and {pair.b.label} have no scene in common; nothing is compared."
    numbers = f"{points(result.difference)} points, 95 % interval {_span(result.interval)} (A less B)"
    numbers += f", {_p(pair.corrected)} after Holm, {result.n} scenes"
    if not pair.told_apart:
        return f"{pair.suite}: {pair.a.label} (A) and {pair.b.label} (B) cannot be told apart: {numbers}."
    more, less = ("A", "B") if result.difference > 0 else ("B", "A")
    names = {"A": pair.a.label, "B": pair.b.label}
    return f"{pair.suite}: {names[more]} ({more}) succeeds more often than {names[less]} ({less}): {numbers}."


def _p(value: float | None) -> str:
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _best_finding(best: Best) -> str:
    first, *others = best.kept
    text = f"{best.suite}: {first} has the highest rate of {len(best.successes)} policies"
    if not others:
        return f"{text}, and each of the others is told apart from it."
    return f"{text}; not told apart from it: {', '.join(others)}."


def _name(pair: Pair, found: Sequence[Pair]) -> str:
    """The suite, and the policies where there are more than two."""
    return pair.suite if _one_couple(found) else f"{pair.suite}, {pair.a.label} and {pair.b.label}"


def _one_couple(found: Sequence[Pair]) -> bool:
    return len({(pair.a.label, pair.b.label) for pair in found}) == 1


def _span(interval: Interval | None) -> str:
    return NOTHING if interval is None else f"{points(interval.low)} to {points(interval.high)}"


def _counts(result: Comparison) -> list[str]:
    return [str(n) for n in (result.n, result.both, result.only_a, result.only_b, result.neither)]


_COUNTS = (
    Column("Scenes", True), Column("Both", True, 2), Column("Only A", True), Column("Only B", True),
    Column("Neither", True, 2), Column("A less B, points", True), Column("95 % interval", True), Column("p", True, 1),
    Column("p, Holm", True),
)  # fmt: skip


# ---------------------------------------------------------------------- sections


def _couple(pair: Pair, found: Sequence[Pair]) -> tuple[str, ...]:
    """The cells that name the policies, where a table needs them."""
    return () if _one_couple(found) else (pair.a.label, pair.b.label)


def _couple_columns(found: Sequence[Pair]) -> tuple[Column, ...]:
    return () if _one_couple(found) else (Column("A"), Column("B"))


def _suites(found: Sequence[Pair]) -> Section:
    cells, marks = [], []
    for pair in found:
        r = pair.result
        evidence = (points(r.difference), _span(r.interval), p_text(r.p_value), p_text(pair.corrected))
        cells.append((pair.suite, *_couple(pair, found), *_counts(r), *evidence))
        marks.append("" if pair.same_protocol and not r.unmatched else "warning")
    dropped = sum(pair.result.unmatched for pair in found)
    note = UNPAIRED + "p: exact McNemar test; Holm's correction is over all rows. Interval: Tango's score interval."
    note += f" {dropped} pairs were left out, since their scene hashes differ." if dropped else ""
    note += f" A: {found[0].a.label}, B: {found[0].b.label}." if _one_couple(found) else ""
    table = Table("Success", (Column("Suite"), *_couple_columns(found), *_COUNTS), tuple(cells), tuple(marks), note)
    names = [p.suite if _one_couple(found) else f"{p.suite}: {p.a.label} less {p.b.label}" for p in found]
    drawn = plots.difference_plot(
        [(name, p.result.difference, p.result.interval) for name, p in zip(names, found, strict=True)],
        "difference of success rates in points; filled: the 95 % interval leaves out zero",
    )
    caption = "Differences of success rates on the same scenes, with Tango's 95 % intervals."
    return Section("Success", (table,), (Figure(drawn, caption),) if drawn else ())


def _best(found: Sequence[Best]) -> Section:
    cells = []
    for best in found:
        for label in sorted(best.successes, key=lambda name: -best.successes[name]):
            place = "best" if label == best.kept[0] else "not told apart" if label in best.kept else "told apart"
            wins = best.successes[label]
            cells.append((best.suite, label, f"{wins}/{best.n}", percent(wins / best.n), place))
    columns = (Column("Suite"), Column("Policy"), Column("Successes", True), Column("Rate", True), Column("From best"))
    note = (
        f"On the scenes that all policies of the suite scored. Every pair is tested (exact McNemar, Holm over all "
        f"pairs, {100 * ALPHA:.0f} %), so that choosing the best by its own score is paid for."
    )
    title = "Who cannot be told apart from the best"
    return Section(title, (Table(title, columns, tuple(cells), note=note),))


def _lengths(found: Sequence[Pair]) -> Section | None:
    cells = []
    for pair in found:
        for what, mean in (("steps where both succeed", pair.steps), ("subtasks in a row", pair.chains)):
            if mean.value is not None:
                cells.append((pair.suite, *_couple(pair, found), what, str(mean.n), *_mean(mean)))
    if not cells:
        return None
    columns = [Column("Suite"), *_couple_columns(found), Column("Length"), Column("Scenes", True)]
    columns += [Column("A less B", True), Column("95 % interval", True)]
    note = f"{UNPAIRED}Mean of the paired differences, bootstrapped over scenes (BCa)."
    return Section("Lengths", (Table("Lengths", tuple(columns), tuple(cells), note=note),))


def _mean(mean: Mean) -> tuple[str, str]:
    def signed(value: float) -> str:
        return f"{value:+.2f}".replace("-", tables.MINUS)

    value = NOTHING if mean.value is None else signed(mean.value)
    span = mean.interval
    return value, NOTHING if span is None else f"{signed(span.low)} to {signed(span.high)}"


def _tasks(pair: Pair, found: Sequence[Pair]) -> Section | None:
    if len(pair.tasks) < 2:
        return None
    cells = []
    for task, r, corrected in pair.tasks:
        evidence = (points(r.difference), _span(r.interval), p_text(r.p_value), p_text(corrected))
        cells.append((task, *_counts(r), *evidence))
    title = f"Tasks of {_name(pair, found)}"
    note = f"The strongest evidence first. A: {pair.a.label}, B: {pair.b.label}. Holm's correction is over these tasks."
    marks = ("" if pair.same_protocol else "warning",) * len(cells)
    return Section(title, (Table(title, (Column("Task"), *_COUNTS), tuple(cells), marks, note),))


def _flipped(number: int, found: Sequence[Pair]) -> Section | None:
    pair = found[number]
    if not pair.flipped:
        return None
    cells = [
        (a.task, str(a.trial), *(text for r in (a, b) for text in (r.outcome, str(r.steps), r.video or NOTHING)))
        for a, b in pair.flipped
    ]
    columns = [Column("Task"), Column("Trial", True)]
    for name in ("A", "B"):
        columns += [Column(name), Column(f"Steps {name}", True, 2), Column(f"Video {name}", minor=4, link=True)]
    title = f"Flipped scenes of {_name(pair, found)}"
    note = f"A: {pair.a.label}, B: {pair.b.label}. {len(cells)} of {pair.result.n} scenes."
    filmed = [row for row, (a, b) in enumerate(pair.flipped) if a.video and b.video][:MOST_SIDE_BY_SIDE]
    shown: list[tuple[Shown, ...]] = [
        ((pair.run_a, pair.flipped[row][0]), (pair.run_b, pair.flipped[row][1])) for row in filmed
    ]
    places = {row: f"flipped-{number}-{row}" for row in filmed}
    table = Table(
        title, tuple(columns), tuple(cells), note=note, places=tuple(places.get(row, "") for row in range(len(cells)))
    )
    return Section(title, (table,), (), tuple(shown), tuple(places.values()), folded=True)


def _manifests(runs: Sequence[Run]) -> Section:
    first = runs[0]
    found = []
    for run in runs[1:]:
        cells = tuple(manifests.differing(first.manifest, run.manifest))
        columns = (Column("Key"), Column(first.label), Column(run.label))
        title = f"Manifests of {first.label} and {run.label}"
        found.append(Table(title, columns, cells or (("nothing", NOTHING, NOTHING),)))
    return Section("What differs in the manifests", tuple(found), folded=True)


# ---------------------------------------------------------------------- data


def _rows(pair: Pair) -> list[Mapping[str, Any]]:
    """The suite, its tasks, then the flipped scenes of one pair."""
    head: dict[str, Any] = {"suite": pair.suite, "a": pair.a.label, "b": pair.b.label}
    head["same_protocol"] = pair.same_protocol
    rows: list[Mapping[str, Any]] = [{"row": "suite", **head, **_numbers(pair.result, pair.corrected)}]
    for what, found in (("steps", pair.steps), ("chain", pair.chains)):
        span = found.interval
        rows[0] = {**rows[0], f"{what}_difference": found.value, f"{what}_n": found.n}
        rows[0] = {**rows[0], f"{what}_low": span and span.low, f"{what}_high": span and span.high}
    rows += [{"row": "task", **head, "task": task, **_numbers(r, p)} for task, r, p in pair.tasks]
    for a, b in pair.flipped:
        each = {f"{k}_{n}": v for n, r in (("a", a), ("b", b)) for k, v in _episode(r).items()}
        rows.append({"row": "flipped", **head, "task": a.task, "trial": a.trial, **each})
    return rows


def _numbers(r: Comparison, corrected: float | None) -> dict[str, Any]:
    return {
        "scenes": r.n, "both": r.both, "only_a": r.only_a, "only_b": r.only_b, "neither": r.neither,
        "unmatched": r.unmatched, "difference": r.difference, "tango_low": r.interval and r.interval.low,
        "tango_high": r.interval and r.interval.high, "mcnemar_p": r.p_value, "holm_p": corrected,
    }  # fmt: skip


def _episode(record: EpisodeRecord) -> dict[str, Any]:
    return {"outcome": record.outcome, "steps": record.steps, "video": record.video}
