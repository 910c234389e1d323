"""The forms a result is written in: tables of text cells as Markdown and LaTeX (booktabs), rows of data as CSV and
Parquet, and the files of all of them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

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


def latex(shown: Sequence[Table], notes: Sequence[Note]) -> str:
    """Tables as LaTeX (needs `booktabs`); warnings stand in every caption, since a table travels alone."""
    warnings = [note.text for note in notes if note.kind in ("incomplete", "warning")]
    head = "% \\usepackage{booktabs,amssymb}\n"
    return head + "\n\n".join(latex_table(tables.shortened(table), warnings) for table in shown) + "\n"


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of all rows, in the order in which they first appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def csv_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, full precision; a value a row lacks, or None, is an empty cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _names(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def parquet_rows(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows of `csv_rows` as a Parquet file, each column with its type; a value a row lacks, or None, is null."""
    import pyarrow as arrow
    import pyarrow.parquet

    out = io.BytesIO()
    columns = {name: [row.get(name) for row in rows] for name in _names(rows)}
    arrow.parquet.write_table(arrow.table(columns), out)
    return out.getvalue()


class Formed(Protocol):
    """What has all forms: a report or a document. rows: the numbers behind its tables, full precision."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]: ...

    def html(self, base: Path | str) -> str: ...

    def markdown(self) -> str: ...

    def latex(self) -> str: ...


def write_forms(folder: Path | str, name: str, made: Formed, what: str) -> list[Path]:
    """Write NAME.html, .md, .tex, .csv and .parquet. Raises ReportError where the folder does not take them."""
    texts: dict[str, str | bytes] = {".html": made.html(folder), ".md": made.markdown(), ".tex": made.latex()}
    texts |= {".csv": csv_rows(made.rows), ".parquet": parquet_rows(made.rows)}
    return write_files(folder, {f"{name}{ending}": text for ending, text in texts.items()}, what)


def write_files(folder: Path | str, texts: Mapping[str, str | bytes], what: str) -> list[Path]:
    """Write each file whole or not at all. Raises ReportError where the folder does not take them."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            part = folder / f".{name}.part"
            part.write_bytes(text if isinstance(text, bytes) else text.encode())
            os.replace(part, folder / name)
    except OSError as error:
        raise ReportError(
            f"cannot write {what} into {folder}: {error.strerror or error}; check that it is a folder that can "
            f"be written and that the disk has room, or choose another"
        ) from error
    return [folder / name for name in texts]
