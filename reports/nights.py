"""The morning report: a night as a document, as a chat message, and as JUnit XML for CI."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports import plots
from reports.document import Document, Figure, Section
from reports.forms import markdown_note, markdown_text, write_files
from reports.regression import FINE, NOT_COVERED, REGRESSION, Stream, bound
from reports.statistics import Comparison, Rate, success_rate
from reports.summary import Note
from reports.tables import NOTHING, Column, Table, p_text, percent, percent_interval, points

WORDS = {FINE: "fine", REGRESSION: "REGRESSION", NOT_COVERED: "not covered"}
MOST_NIGHTS = 60
"""Nights in a trend plot, the latest."""


def document(night: str, nights: Sequence[str], streams: Sequence[Stream], alpha: float) -> Document:
    """The page of a night. nights: all of them up to this one, in order."""
    sections = [Section("Tonight", (_tonight(streams), _evidence(streams, alpha)))]
    sections.append(Section("Trends", figures=tuple(_trends(list(nights), streams))))
    worse = [stream for stream in streams if stream.alarm or (stream.evidence and stream.evidence.wealth[-1] >= 1)]
    tables = tuple(_worse(stream) for stream in worse if stream.tasks)
    if tables:
        sections.append(Section("What got worse, or may have", tables))
    missing = [stream for stream in streams if stream.problem]
    if missing:
        cells = tuple((s.label, s.suite, s.problem) for s in missing)
        columns = (Column("Policy"), Column("Suite"), Column("Why"))
        sections.append(Section("Not covered", (Table("Not covered", columns, cells),)))
    sections.append(Section("Time and throughput", (_time(streams),)))
    return Document(
        kind="nightly",
        title=f"Night {night}",
        headline=headline(streams),
        notes=tuple(_notes(streams)),
        findings=tuple(finding(stream) for stream in streams if stream.code != FINE),
        sections=tuple(sections),
        rows=tuple(_row(night, stream) for stream in streams),
    )


def headline(streams: Sequence[Stream]) -> Note:
    """The one sentence of the morning."""
    worse, missing = (sum(s.code == code for s in streams) for code in (REGRESSION, NOT_COVERED))
    also = f" {missing} could not be judged." if missing else ""
    if worse:
        return Note("regression", f"REGRESSION: {worse} of {len(streams)} got worse.{also}")
    if missing:
        return Note("incomplete", f"INCOMPLETE: {missing} of {len(streams)} could not be judged; the others are fine.")
    return Note("complete", f"Fine: none of {len(streams)} got worse, all planned scenes were scored.")


def finding(stream: Stream) -> str:
    """What is wrong with one policy on one suite."""
    name = f"{stream.label} on {stream.suite}"
    if not stream.alarm:
        return f"{name}: {stream.problem}."
    found = stream.against_baseline
    gap = "" if found is None or found.difference is None else f"; tonight {points(found.difference)} points"
    missing = f" Also: {stream.problem}." if stream.problem else ""
    return f"{name}: worse since night {stream.alarm}, against the nights from {stream.baseline} on{gap}.{missing}"


def _notes(streams: Sequence[Stream]) -> list[Note]:
    made = []
    for stream in streams:
        found = stream.against_baseline
        if found is not None and found.unmatched:
            text = f"{stream.label} on {stream.suite}: {found.unmatched} scenes have another hash than in the baseline."
            made.append(Note("warning", text))
        if stream.tonight is not None and stream.baseline is None and not stream.problem:
            text = f"{stream.label} on {stream.suite}: this night is the baseline, there is nothing to compare it with."
            made.append(Note("remark", text))
    return made


# ---------------------------------------------------------------------- tables


def _tonight(streams: Sequence[Stream]) -> Table:
    cells, marks = [], []
    for stream in streams:
        rate, tonight = _rate(stream), stream.tonight
        scored = NOTHING if tonight is None else f"{tonight.scored}/{tonight.planned}"
        shown = (scored, percent(rate.value), percent_interval(rate.interval))
        gaps = (*_gap(stream.against_baseline, stream.baseline), *_gap(stream.against_last, stream.last_good))
        cells.append((stream.label, stream.suite, *shown, *gaps, WORDS[stream.code]))
        marks.append("incomplete" if stream.problem else "")
    columns = [Column("Policy"), Column("Suite"), Column("Scored", True), Column("Rate", True)]
    columns += [Column("95 % interval", True, 9), Column("Less baseline, points", True)]
    columns += [Column("Baseline interval", True, 8), Column("Less last good night", True, 2)]
    columns += [Column("Last night's interval", True, 8), Column("Verdict")]
    note = (
        "Differences are over scenes with equal hashes, with Tango's 95 % intervals; they are to look at. The verdict "
        "comes from the evidence below, which may be looked at every night."
    )
    return Table("Tonight", tuple(columns), tuple(cells), tuple(marks), note)


def _gap(found: Comparison | None, night: str | None) -> tuple[str, str]:
    if found is None or found.difference is None:
        return NOTHING, NOTHING
    span = NOTHING if found.interval is None else f"{points(found.interval.low)} to {points(found.interval.high)}"
    return f"{points(found.difference)} ({night})", span


def _evidence(streams: Sequence[Stream], alpha: float) -> Table:
    cells = []
    for stream in streams:
        found = stream.evidence
        if found is None:
            cells.append((stream.label, stream.suite, *[NOTHING] * 5))
            continue
        numbers = [str(len(found.wealth)), str(found.scenes[-1]), p_text(found.p_values[-1])]
        numbers += [f"{found.wealth[-1]:.3g}", f"{max(found.wealth):.3g}"]
        cells.append((stream.label, stream.suite, *numbers))
    columns = [Column("Policy"), Column("Suite"), Column("Nights", True), Column("Scenes that vary", True, 2)]
    columns += [Column("p of tonight", True, 1), Column("Evidence", True), Column("Most so far", True)]
    note = (
        f"Evidence: a test supermartingale of exchangeability since the baseline (Vovk, Nouretdinov, Gammerman 2003), "
        f"an alarm at {bound(len(streams), alpha):g}. If nothing changes, the chance of any alarm on any night, over "
        f"all rows, is at most {100 * alpha:g} %. An alarm stays until a new baseline is pinned."
    )
    return Table("Evidence of getting worse", tuple(columns), tuple(cells), note=note)


def _worse(stream: Stream) -> Table:
    cells = []
    for task, found in stream.tasks:
        counts = [str(n) for n in (found.n, found.only_b, found.only_a)]
        cells.append((task, *counts, *_gap(found, stream.baseline)))
    columns = [Column("Task"), Column("Scenes", True), Column("Lost", True), Column("Won", True)]
    columns += [Column("Less baseline, points", True), Column("95 % interval", True)]
    note = "Tonight against the baseline, the largest losses first; a task's own row is no test."
    return Table(f"{stream.label} on {stream.suite}", tuple(columns), tuple(cells), note=note)


def _time(streams: Sequence[Stream]) -> Table:
    cells = []
    for stream in streams:
        tonight = stream.tonight
        if tonight is None or not tonight.seconds:
            cells.append((stream.label, stream.suite, *[NOTHING] * 4))
            continue
        speed = (f"{60 * tonight.scored / tonight.seconds:.1f}", f"{tonight.steps / tonight.seconds:.0f}")
        numbers = (f"{tonight.seconds / 60:.1f}", *speed, str(tonight.void_attempts))
        cells.append((stream.label, stream.suite, *numbers))
    columns = [Column("Policy"), Column("Suite"), Column("Worker minutes", True), Column("Episodes a minute", True)]
    columns += [Column("Steps a second", True), Column("Void attempts", True)]
    note = "Over the time of all attempts together, void ones included: throughput of one worker."
    return Table("Time and throughput", tuple(columns), tuple(cells), note=note)


def _trends(nights: Sequence[str], streams: Sequence[Stream]) -> list[Figure]:
    shown = nights[-MOST_NIGHTS:]
    made = []
    for suite in dict.fromkeys(stream.suite for stream in streams):
        lines: list[tuple[str, list[Rate | None]]] = []
        for stream in streams:
            if stream.suite == suite:
                by_night = {r.night: _counted(r.successes, r.scored) for r in stream.history}
                lines.append((stream.label, [by_night.get(night) for night in shown]))
        drawn = plots.trend_plot(suite, shown, lines)
        made.append(Figure(drawn, f"{suite}: success rate of the scored episodes, with Wilson's 95 % intervals."))
    return made


def _rate(stream: Stream) -> Rate:
    return _counted(0, 0) if stream.tonight is None else _counted(stream.tonight.successes, stream.tonight.scored)


def _counted(successes: int, n: int) -> Rate:
    return success_rate(i < successes for i in range(n))


def _row(night: str, stream: Stream) -> dict[str, Any]:
    tonight, found, rate = stream.tonight, stream.against_baseline, _rate(stream)
    return {
        "night": night, "policy": stream.policy, "suite": stream.suite, "verdict": WORDS[stream.code],
        "problem": stream.problem, "alarm_since": stream.alarm, "planned": tonight and tonight.planned,
        "scored": tonight and tonight.scored, "successes": rate.successes, "success_rate": rate.value,
        "baseline": stream.baseline, "difference": found and found.difference, "last_good": stream.last_good,
        "difference_last_good": stream.against_last and stream.against_last.difference,
        "p_tonight": stream.evidence and stream.evidence.p_values[-1],
        "evidence": stream.evidence and stream.evidence.wealth[-1],
        "seconds": tonight and tonight.seconds, "void_attempts": tonight and tonight.void_attempts,
    }  # fmt: skip


# ---------------------------------------------------------------------- other forms


def message(night: str, streams: Sequence[Stream]) -> str:
    """A few lines of Markdown for a chat: the headline, what is wrong, one line for each row."""
    lines = [f"**Night {markdown_text(night)}**: {markdown_note(headline(streams))}", ""]
    lines += [f"- {markdown_text(finding(stream))}" for stream in streams if stream.code != FINE]
    for stream in streams:
        if stream.code == FINE:
            gap, _ = _gap(stream.against_baseline, stream.baseline)
            text = f"{stream.label} on {stream.suite}: {percent(_rate(stream).value)}, less baseline {gap}"
            lines.append(f"- {markdown_text(text)}")
    return "\n".join(lines) + "\n"


def junit(night: str, streams: Sequence[Stream]) -> str:
    """JUnit XML: a test case for each policy and suite; a regression is a failure, what is not covered an error."""
    codes = [stream.code for stream in streams]
    suite = ElementTree.Element("testsuite", name=f"memvla nightly {night}", tests=str(len(streams)))
    suite.set("failures", str(codes.count(REGRESSION)))
    suite.set("errors", str(codes.count(NOT_COVERED)))
    for stream in streams:
        seconds = stream.tonight.seconds if stream.tonight else 0.0
        case = ElementTree.SubElement(suite, "testcase", classname=stream.suite, name=stream.policy)
        case.set("time", f"{seconds:.3f}")
        if stream.code != FINE:
            kind = "failure" if stream.code == REGRESSION else "error"
            ElementTree.SubElement(case, kind, message=finding(stream), type=WORDS[stream.code])
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def write(folder: Path, night: str, nights: Sequence[str], streams: Sequence[Stream], alpha: float) -> list[Path]:
    """Write index.html, .md, .tex, .csv and .parquet, message.md and junit.xml. Raises ReportError."""
    files = document(night, nights, streams, alpha).write(folder, "index")
    texts = {"message.md": message(night, streams), "junit.xml": junit(night, streams)}
    return [*files, *write_files(folder, texts, "the nightly report")]
