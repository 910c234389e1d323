"""A report on the terminal, with Rich. Nothing is ever cut short: half a number is a wrong number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from reports.summary import Note
from reports.tables import VOIDS, Table, wrapped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

MOST_ROWS = 60
MOST_VOIDS = 12
"""Rows of a table that are shown; the written report has all."""

PIPE_WIDTH = 180
"""Columns that may be filled where the output is no terminal."""

STYLES = {
    "complete": "green",
    "incomplete": "bold red",
    "warning": "bold yellow",
    "regression": "bold red",
    "finding": "",
}
MARKS = {"warning": "differs"}
"""Marks said in words; `incomplete` is said by the coverage in the row itself."""


def show(console: Console, notes: Sequence[Note], tables: Sequence[Table]) -> None:
    """Print the notes, the coverage first, then the tables."""
    from rich.text import Text

    before = console.width
    if not console.is_terminal:
        console.width = max(before, PIPE_WIDTH)
    try:
        for note in notes:
            console.print(Text(note.text, STYLES.get(note.kind, "dim")), soft_wrap=not console.is_terminal)
        for table in tables:
            _print_table(console, table, MOST_VOIDS if table.title == VOIDS else MOST_ROWS)
    finally:
        console.width = before


def _print_table(console: Console, table: Table, limit: int) -> None:
    """Minor columns go first where a table is too wide, then names are broken into lines."""
    from rich.text import Text

    width = console.width
    kept = list(range(len(table.columns)))
    while sum(_widths(table, kept, limit)) > width and any(table.columns[i].minor for i in kept):
        kept.remove(max(reversed(kept), key=lambda i: table.columns[i].minor))
    console.print()
    shown = _rich_table(table, kept, limit, width, once=console.is_terminal)
    console.print(shown)
    gone = [column.title for i, column in enumerate(table.columns) if i not in kept]
    hints = [f"{len(table.rows) - limit} more rows"] if len(table.rows) > limit else []
    hints += [f"no room for: {'; '.join(gone)}"] if gone else []
    if hints:
        console.print(Text(f"({'. '.join(hints)}. The written report has all.)", "dim"))
    if table.note:
        console.print(Text(table.note, "dim"))


def _rich_table(table: Table, kept: Sequence[int], limit: int, width: int, *, once: bool) -> RichTable:
    """once: a name in the first column is not repeated from row to row."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title=Text(table.title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    shown.padding = (0, 1, 0, 0)
    room = _name_widths(table, kept, limit, width)
    for i in kept:
        column = table.columns[i]
        justify: Literal["left", "right"] = "right" if column.number else "left"
        shown.add_column(Text(column.title), justify=justify, overflow="fold", no_wrap=column.number and bool(room))
    marks = [MARKS.get(mark, "") for mark in table.marks[:limit]]
    if any(marks):
        shown.add_column("", overflow="fold", no_wrap=bool(room))
    before = ""
    for number, row in enumerate(table.rows[:limit]):
        cells = [wrapped(row[i], room[i]) if i in room else row[i] for i in kept]
        if once and number and row[0] == before:
            cells[0] = ""
        before = row[0]
        style = "yellow" if table.mark(number) else None
        shown.add_row(*(Text(cell) for cell in cells), *(marks[number : number + 1] if any(marks) else ()), style=style)
    return shown


def _widths(table: Table, kept: Sequence[int], limit: int) -> list[int]:
    """Characters each kept column takes with its gap, and last the marks' column, when nothing is broken."""
    from rich.cells import cell_len

    rows = table.rows[:limit]
    found = [max(cell_len(text) for text in (table.columns[i].title, *(row[i] for row in rows))) + 2 for i in kept]
    return [*found, max((len(MARKS.get(mark, "")) + 2 for mark in table.marks[:limit]), default=2)]


def _name_widths(table: Table, kept: Sequence[int], limit: int, width: int) -> dict[int, int]:
    """Characters for each column of names, shared out evenly to those that want more than an even share.

    Empty when there is no room for the numbers, so that they must fold too.
    """
    widths = dict(zip(kept, _widths(table, kept, limit), strict=False))
    left = width - sum(w for i, w in widths.items() if table.columns[i].number) - _widths(table, kept, limit)[-1]
    names = sorted((w, i) for i, w in widths.items() if not table.columns[i].number)
    found = {}
    for done, (wanted, i) in enumerate(names):
        share = min(wanted, left // (len(names) - done))
        if share < 8:
            return {}
        found[i] = share - 2
        left -= share
    return found
