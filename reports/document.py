"""A document: notes, tables, plots and pairs of videos, in every form a result is given in.

Comparisons, paper tables, explanations and nights are documents; `reports.report` is the page of plain runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import forms, terminal
from reports.forms import csv_rows, markdown_note, markdown_table, markdown_text
from reports.records import EpisodeRecord
from reports.summary import Note, Run
from reports.tables import Table, shortened

if TYPE_CHECKING:
    from rich.console import Console

Shown = tuple[Run, EpisodeRecord]


@dataclass(frozen=True)
class Figure:
    """A plot of `reports.plots`. svg: as it returns it."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """One part of a document. side_by_side: rows of episodes whose videos are shown next to each other; places: the id
    of each of these rows on the page."""

    title: str
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    side_by_side: tuple[tuple[Shown, ...], ...] = ()
    places: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Document:
    """What is shown. kind: one word for the page's head and the files' names; headline: said first in every form;
    findings: the answers in words; rows: the numbers behind the tables, full precision."""

    kind: str
    title: str
    headline: Note
    notes: tuple[Note, ...]
    findings: tuple[str, ...]
    sections: tuple[Section, ...]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def tables(self) -> list[Table]:
        """Every table, in order."""
        return [table for section in self.sections for table in section.tables]

    def terminal(self, console: Console) -> None:
        """Print it with Rich: the headline and notes, the findings, the tables."""
        words = [Note("finding", text) for text in self.findings]
        words += [Note("finding", text) for section in self.sections for text in section.text]
        terminal.show(console, [self.headline, *self.notes, *words], self.tables)

    def markdown(self) -> str:
        """The document as Markdown."""
        parts = [f"# {markdown_text(self.title)}", markdown_note(self.headline)]
        if self.notes:
            parts.append("\n".join(f"- {markdown_note(note)}" for note in self.notes))
        parts += [markdown_text(text) for text in self.findings]
        for section in self.sections:
            parts += [markdown_text(text) for text in section.text]
            parts += [markdown_table(shortened(table)) for table in section.tables]
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """The tables as LaTeX (needs `booktabs`)."""
        return forms.latex(self.tables, [self.headline, *self.notes])

    def csv(self) -> str:
        """The numbers behind the tables."""
        return csv_rows(self.rows)

    def html(self, base: Path | str = ".", *, embed_bytes: int | None = None) -> str:
        """One self-contained page: no script, nothing from elsewhere. base: the folder it will lie in."""
        from reports import page

        return page.render_document(self, Path(base).resolve(), embed_bytes)

    def write(self, folder: Path | str, name: str = "") -> list[Path]:
        """Write NAME.html, .md, .tex, .csv and .parquet (NAME: the kind). Raises ReportError."""
        return forms.write_forms(folder, name or self.kind, self, f"the {self.kind}")
