"""What a user sees while a run is at work: a live bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from reports.records import EpisodeRecord

if TYPE_CHECKING:
    from harness.runs import Run

LINE_EVERY_S = 15.0


class Progress:
    """One bar (or line) for each policy on each suite: done, rate, successes so far, voids, time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[scores]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not self._live,
        )
        self._said = 0.0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def stage(self, run: Run, suite: str) -> None:
        """Another policy or suite begins."""
        planned = run.planned[suite]
        before = [record for record in run.store.episodes() if record.suite == suite and record.scored]
        self._name = f"{run.policy.name} on {suite}"
        self._total, self._done = len(planned), len(before)
        self._earlier = self._done
        self._successes = sum(record.outcome == "success" for record in before)
        self._voids = 0
        self._began = time.monotonic()
        self._task = self._bar.add_task(self._name, total=self._total, completed=self._done, rate="", scores="")
        resumed = f" ({self._done} done before)" if self._done else ""
        self._line(f"{self._name}: {self._total} episodes{resumed}")

    def finished(self, record: EpisodeRecord) -> None:
        """An attempt came to an end."""
        if record.outcome == "void":
            self._voids += 1
        else:
            self._done += 1
            self._successes += record.outcome == "success"
        self._bar.update(self._task, completed=self._done, rate=self._rate(), scores=self._scores())
        if self._done == self._total or time.monotonic() - self._said > LINE_EVERY_S:
            self._line(f"{self._name}: {self._done}/{self._total}, {self._scores()}, {self._rate()}")

    def _scores(self) -> str:
        rate = f"{100 * self._successes / self._done:.0f} %" if self._done else "-"
        voids = f", {self._voids} void" if self._voids else ""
        return f"{self._successes} successes ({rate}){voids}"

    def _rate(self) -> str:
        minutes = max(time.monotonic() - self._began, 1e-3) / 60
        return f"{(self._done - self._earlier) / minutes:.0f} episodes/min"

    def _line(self, text: str) -> None:
        if not self._live:
            self._console.print(text, highlight=False, markup=False)
            self._said = time.monotonic()


def say_command(console: Console, command: Sequence[str]) -> None:
    """Print a command as it must be typed; its [lists] are no markup."""
    console.print(f"  {shlex.join(command)}", soft_wrap=True, highlight=False, markup=False)
