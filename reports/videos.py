"""The videos of a report's episodes: which are shown, and whether inside the page or beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from reports.records import EpisodeRecord
from reports.summary import Run

EMBED_BYTES = 24_000_000
"""Video bytes put inside the page in total; the rest is linked."""

MOST_VIDEOS = 240
"""Videos shown in total; those beyond stay in the run folders."""

TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".ogv": "video/ogg"}


@dataclass(frozen=True)
class Clip:
    """One video on the page. address: a data URI or a relative link; empty when the file is missing."""

    label: str
    record: EpisodeRecord
    address: str
    kind: str
    embedded: bool


@dataclass(frozen=True)
class Clips:
    """The videos of one suite. left_out: those that exist and are not shown."""

    suite: str
    shown: tuple[Clip, ...]
    left_out: int


def gather(runs: Sequence[Run], base: Path, *, embed_bytes: int = EMBED_BYTES) -> list[Clips]:
    """The videos of all final attempts, by suite, those of the same scene side by side.

    base: the folder in which the page will lie. Every policy and task gets its turn
    before any gets its second video.
    """
    found = [(run, record) for run in runs for record in run.episodes if record.video]
    order = {plan.name: i for run in reversed(runs) for i, plan in enumerate(run.manifest.suites)}
    tasks = {(p.name, task): i for run in runs for p in run.manifest.suites for i, task in enumerate(p.tasks)}
    turn: dict[tuple[str, str, str], int] = {}
    rows = []
    for run, record in found:
        key = (run.label, record.suite, record.task)
        turn[key] = turn.get(key, -1) + 1
        rows.append((turn[key], record.trial, order[record.suite], tasks[record.suite, record.task], run, record))
    rows.sort(key=lambda row: (*row[:4], row[4].label))
    chosen = addresses([(run, record) for *_, run, record in rows[:MOST_VIDEOS]], base, embed_bytes)
    suites = sorted({record.suite for _, record in found}, key=lambda name: order[name])
    shown = {suite: [clip for clip in chosen if clip.record.suite == suite] for suite in suites}
    total = {suite: sum(record.suite == suite for _, record in found) for suite in suites}
    for clips in shown.values():
        clips.sort(key=lambda c: (tasks[c.record.suite, c.record.task], c.record.trial, c.label))
    return [Clips(suite, tuple(shown[suite]), total[suite] - len(shown[suite])) for suite in suites]


def addresses(chosen: Sequence[tuple[Run, EpisodeRecord]], base: Path, embed_bytes: int) -> list[Clip]:
    """The clips of these episodes, in this order: inside the page while `embed_bytes` last, else linked from `base`."""
    clips = []
    left = embed_bytes
    for run, record in chosen:
        path = run.folder / record.video
        kind = TYPES.get(path.suffix.lower(), "video/mp4")
        if not path.is_file() or not path.resolve().is_relative_to(run.folder.resolve()):
            clips.append(Clip(run.label, record, "", kind, False))
        elif path.stat().st_size <= left:
            left -= path.stat().st_size
            data = base64.b64encode(path.read_bytes()).decode()
            clips.append(Clip(run.label, record, f"data:{kind};base64,{data}", kind, True))
        else:
            clips.append(Clip(run.label, record, quote(os.path.relpath(path, base)), kind, False))
    return clips
