"""The page: one self-contained HTML file. Templates and styles are in `pages/`; nothing is fetched, no script runs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reports import chains, plots, tables, tagged, videos
from reports.document import Document
from reports.summary import Group, Note, Run, groups_on, suites_of
from reports.tables import shortened

PAGES = Path(__file__).parent / "pages"
MOST_TASKS_LISTED = 60
WHOLE = 24
"""Characters of a name that is never broken into lines."""
_PARTS = re.compile(r"[^_/]*[_/]|[^_/]+")


def render(
    runs: Sequence[Run], headline: Note, notes: Sequence[Note], base: Path, embed_bytes: int | None = None
) -> str:
    """The whole page as text. base: the folder it will lie in."""
    suites, voids = suites_of(runs), tables.voids(runs)
    limit = videos.EMBED_BYTES if embed_bytes is None else embed_bytes
    context: dict[str, Any] = {
        "title": _title(runs),
        "started": _started(runs),
        "headline": headline,
        "notes": notes,
        "groups": [group for suite in suites for _, group in groups_on(runs, suite)],
        "overall": tables.overall(runs),
        "chains": chains.chain_table(runs),
        "subtasks": chains.subtask_table(runs),
        "intervals": _svg(plots.interval_plot(runs)),
        "chain_curves": _svg(plots.chain_curves(runs)),
        "suites": [
            (suite, _svg(plots.task_bars(runs, suite)), _tagged(runs, suite), shortened(tables.per_task(runs, suite)))
            for suite in suites
        ],
        "most_tasks": plots.MOST_TASKS,
        "curves": _svg(plots.success_curves(runs)),
        "undrawn": plots.undrawn_curves(runs),
        "paired": tables.paired(runs),
        "voids": voids and shortened(voids),
        "videos": videos.gather(runs, base, embed_bytes=limit),
        "time": _svg(plots.time_bars(runs)),
        "seconds": tables.seconds(runs),
        "protocols": tables.protocols(runs),
        "manifests": [(run, _manifest(run)) for run in runs],
    }
    return _environment().get_template("report.html.j2").render(context)


def render_document(document: Document, base: Path, embed_bytes: int | None = None) -> str:
    """The page of a document. base: the folder it will lie in."""
    left = videos.EMBED_BYTES if embed_bytes is None else embed_bytes
    sections = []
    for number, section in enumerate(document.sections):
        flat = [shown for row in section.side_by_side for shown in row]
        clips = iter(videos.addresses(flat, base, left))
        rows = [[next(clips) for _ in row] for row in section.side_by_side]
        left -= sum(len(clip.address) * 3 // 4 for row in rows for clip in row if clip.embedded)
        sections.append(
            {
                "anchor": f"part-{number}",
                "part": section,
                "tables": [shortened(table) for table in section.tables],
                "figures": [(_svg(figure.svg), figure.caption) for figure in section.figures],
                "clips": list(zip_longest(section.places, rows, fillvalue="")),
            }
        )
    return _environment().get_template("document.html.j2").render(document=document, sections=sections)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(PAGES),
        autoescape=True,  # a task called <script> is text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = Markup((PAGES / "style.css").read_text(encoding="utf-8"))
    environment.globals["WHOLE"] = WHOLE
    environment.filters["coverage"] = tables.coverage
    environment.filters["share"] = _share
    environment.filters["breakable"] = _breakable
    return environment


def _tagged(runs: Sequence[Run], suite: str) -> list[tuple[Markup | None, tables.Table]]:
    """Bars and table of each tag that sorts the tasks of a suite."""
    return [
        (_svg(plots.tag_bars(runs, suite, key)), tagged.by_tag(runs, suite, key)) for key in tagged.sorting(runs, suite)
    ]


def _svg(text: str | None) -> Markup | None:
    """A drawing of `plots`, whose own texts Matplotlib has escaped."""
    return None if text is None else Markup(text)


def _share(part: int, group: Group) -> str:
    """Width of a part of the coverage bar."""
    return f"{100 * part / group.planned:.3f}%"


def _breakable(text: str) -> Markup:
    """Text whose long words may be broken after `_` and `/`, as task names must; short ones stay whole."""

    def broken(word: str) -> Markup:
        if len(word) <= WHOLE:
            return Markup("{}").format(word)
        return Markup("<wbr>").join(_PARTS.findall(word))

    return Markup(" ").join(broken(word) for word in text.split(" "))


def _title(runs: Sequence[Run]) -> str:
    def some(names: Sequence[str], what: str) -> str:
        return ", ".join(names) if len(names) <= 4 else f"{len(names)} {what}"

    return f"{some([run.label for run in runs], 'policies')} on {some(suites_of(runs), 'suites')}"


def _started(runs: Sequence[Run]) -> str:
    days = sorted({run.manifest.started_at[:10] for run in runs})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _manifest(run: Run) -> str:
    """The manifest as JSON, long lists of tasks cut short."""
    data = asdict(run.manifest)
    for plan in data["suites"]:
        tasks = list(plan["tasks"])
        if len(tasks) > MOST_TASKS_LISTED:
            plan["tasks"] = [*tasks[:MOST_TASKS_LISTED], f"… {len(tasks) - MOST_TASKS_LISTED} more in manifest.json"]
            plan["tags"] = "in manifest.json"
    return json.dumps(data, indent=2, ensure_ascii=False)
