"""A table of text cells in the forms it is written in: Markdown, LaTeX (booktabs), and rows of data as CSV."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports import tables
from reports.summary import Note, ReportError
from reports.tables import Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    tables.MINUS: "$-$", "–": "--", "✓": r"$\checkmark$", "✕": r"$\times$", "±": r"$\pm$", "…": r"\ldots{}",
    "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "[": "{[}", "]": "{]}",
}  # fmt: skip


def markdown_note(note: Note) -> str:
    """A note; what bears on the numbers is bold."""
    text = markdown_text(note.text)
    return text if note.kind in ("complete", "remark") else f"**{text}**"


def markdown_text(text: str) -> str:
    """Text that Markdown must not take for anything else."""
    for sign in ("\\", "`", "*", "_", "[", "]", "|", "#", "~", "$"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def markdown_table(table: Table) -> str:
    """The table under a heading, its note below it."""
    titles = [column.title for column in table.columns]
    rules = ["---:" if column.number else "---" for column in table.columns]
    rows: list[Sequence[str]] = list(table.rows)
    if any(table.marks):
        titles, rules = [*titles, " "], [*rules, "---"]
        rows = [[*row, tables.MARKS[table.mark(i)]] for i, row in enumerate(rows)]
    lines = [f"| {' | '.join(map(markdown_text, titles))} |", f"| {' | '.join(rules)} |"]
    lines += [f"| {' | '.join(map(markdown_text, row))} |" for row in rows]
    note = f"\n\n{markdown_text(table.note)}" if table.note else ""
    return f"## {markdown_text(table.title)}\n\n" + "\n".join(lines) + note


def latex_text(text: str) -> str:
    """Text as LaTeX sets it."""
    return " ".join("".join(_LATEX.get(sign, sign) for sign in text).split())


def latex_table(table: Table, warnings: Sequence[str] = ()) -> str:
    """A `table` environment with booktabs rules. warnings: sentences that must stand in the caption."""
    marked = any(table.marks)
    shape = "".join("r" if column.number else "l" for column in table.columns) + "l" * marked
    lines = [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{shape}}}", r"\toprule"]
    titles = [latex_text(column.title) for column in table.columns] + [""] * marked
    lines += [" & ".join(titles) + r" \\", r"\midrule"]
    for i, row in enumerate(table.rows):
        cells = [latex_text(cell) for cell in row] + [latex_text(tables.MARKS[table.mark(i)])] * marked
        lines.append(" & ".join(cells) + r" \\")
    caption = " ".join(f"{latex_text(part.rstrip('.'))}." for part in (*warnings, table.title, table.note) if part)
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]
    return "\n".join(lines)


def csv_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, full precision; a value a row lacks, or None, is an empty cell."""
    out = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_files(folder: Path | str, texts: Mapping[str, str], what: str = "the report") -> list[Path]:
    """Write each text whole or not at all. Raises ReportError where the folder does not take them."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            part = folder / f".{name}.part"
            part.write_text(text, encoding="utf-8")
            os.replace(part, folder / name)
    except OSError as error:
        raise ReportError(
            f"cannot write {what} into {folder}: {error.strerror or error}; check that it is a folder that can "
            f"be written and that the disk has room, or choose another"
        ) from error
    return [folder / name for name in texts]
