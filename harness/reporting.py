"""The verbs that read runs and say what they mean: `compare`, `table`, `explain`, `nightly`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from reports.document import Document

RUNS = typer.Argument(help="Run folders, or folders that hold some.", metavar="RUN...")
TO = typer.Option(help="Folder for the files (default: the first RUN).")
ALLOW = typer.Option("--allow-different-protocols", help="Compare what is not comparable; every page is marked.")


def register(app: typer.Typer, out: Console) -> None:
    """Add the verbs to the command line."""

    @app.command()
    def compare(
        runs: Annotated[list[Path], RUNS],
        to: Annotated[Optional[Path], TO] = None,  # noqa: UP045
        allow_different_protocols: Annotated[bool, ALLOW] = False,
    ) -> None:
        """Compare runs on the same scenes: who is better, how sure that is, and where they differ.

        [bold]memvla compare results/first results/second[/]

        Writes comparison.html (flipped scenes with both videos side by side), .md, .tex and .csv.
        """
        from reports.comparison import build

        _show(build(runs, allow_different_protocols=allow_different_protocols), to or runs[0], out)


def _show(document: Document, to: Path, out: Console) -> None:
    document.terminal(out)
    for path in document.write(to):
        out.print(f"wrote {path}", highlight=False, soft_wrap=True)
