"""The verbs that read runs and say what they mean: `compare`, `table`, `explain`, `nightly`."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from reports.document import Document

NOT_COVERED = 2

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

        Writes comparison.html (flipped scenes with both videos side by side), .md, .tex, .csv and .parquet.
        """
        from reports.comparison import build

        _show(build(runs, allow_different_protocols=allow_different_protocols), to or runs[0], out)

    @app.command()
    def table(
        name: Annotated[Optional[str], typer.Argument(metavar="PAPER/TABLE")] = None,  # noqa: UP045
        runs: Annotated[Optional[list[Path]], RUNS] = None,  # noqa: UP045
        to: Annotated[Optional[Path], TO] = None,  # noqa: UP045
        method: Annotated[Optional[str], typer.Option(help="The published row to compare with.")] = None,  # noqa: UP045
        margin: Annotated[float, typer.Option(help="Difference of rates that still counts as agreement.")] = 0.05,
    ) -> None:
        """Set runs beside a table of a paper: do they agree, differ, or how many episodes would decide.

        [bold]memvla table memoryvla_pp/libero results/mine[/]  (no name: list the tables; no run: published only)
        """
        from reports.papers import build

        if name is None:
            _list_tables(out)
            return
        made = build(name, runs or (), method=method, margin=margin)
        if runs:
            _show(made, to or runs[0], out)
        elif to:
            _show(made, to, out)
        else:
            made.terminal(out)

    @app.command()
    def explain(
        run_a: Annotated[Path, typer.Argument(metavar="RUN_A")],
        run_b: Annotated[Path, typer.Argument(metavar="RUN_B")],
        scene: Annotated[str, typer.Argument(metavar="SUITE/TASK/TRIAL")],
        to: Annotated[Optional[Path], typer.Option(help="Write the page into this folder, too.")] = None,  # noqa: UP045
    ) -> None:
        """Show the first thing in which two runs of one scene differ: scene, first frame, actions, end.

        [bold]memvla explain results/first results/second lab_memory/shell_game/0[/]
        """
        from reports.explain import build

        made = build(run_a, run_b, scene)
        if to is None:
            made.terminal(out)
        else:
            _show(made, to, out)

    @app.command()
    def nightly(
        config: Annotated[Path, typer.Argument(help="YAML file of the matrix.", metavar="CONFIG")],
        night: Annotated[Optional[str], typer.Option(help="Name of the night (default: today, UTC).")] = None,  # noqa: UP045
        pin: Annotated[Optional[str], typer.Option(help="Make this night the baseline from now on.")] = None,  # noqa: UP045
        report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing, judge what is there.")] = False,
    ) -> None:
        """Run a matrix of policies and suites, and say in the morning whether anything really got worse.

        The YAML holds dir, policies, suites, and if wanted overrides, budget_minutes, seed, alpha.
        Writes index.html, message.md (for a chat) and junit.xml (for CI) into its dir.

        Exit code: 0 fine; 1 a regression; 2 not everything was covered; 130 Ctrl-C.
        """
        raise typer.Exit(_nightly(config, out, night, pin, report_only))


def _nightly(config: Path, out: Console, night: str | None, pin: str | None, report_only: bool) -> int:
    """The exit code of a night. Whatever goes wrong is 2: a 1 must never mean anything but a regression."""
    from harness.cli import is_mistake, tell
    from harness.nightly import read, run

    try:
        ended = run(read(config), out, night=night, pin=pin, report_only=report_only)
    except Exception as error:
        if is_mistake(error):
            tell(error)
        else:
            traceback.print_exc()
        return NOT_COVERED
    for path in ended.files:
        out.print(f"wrote {path}", highlight=False, soft_wrap=True)
    return ended.exit_code


def _list_tables(out: Console) -> None:
    from rich.table import Table

    from suites.published import paper_tables

    shown = Table("table", "title", "rows", "columns")
    for name, each in paper_tables().items():
        shown.add_row(name, each.title, str(len(each.rows())), str(len(each.cells)))
    out.print(shown)


def _show(document: Document, to: Path, out: Console) -> None:
    files = document.write(to)  # first: a reader that closes the pipe must not cost the files
    document.terminal(out)
    for path in files:
        out.print(f"wrote {path}", highlight=False, soft_wrap=True)
