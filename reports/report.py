"""`memvla report`: runs in, one report out, on the terminal, as one self-contained page, and in the other forms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports import chains, forms, tables, tagged, terminal
from reports.forms import csv_rows, markdown_note, markdown_table
from reports.summary import Group, Note, Run, groups_on, headline, incomplete, load, notes, suites_of
from reports.tables import Table

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Report:
    """A report on one run or on several side by side. headline: the coverage, said first in every form."""

    runs: tuple[Run, ...]
    headline: Note
    notes: tuple[Note, ...]

    def terminal(self, console: Console) -> None:
        """Print the report with Rich: coverage first, then notes, results, tasks, comparison, time, voids."""
        terminal.show(console, [self.headline, *self.notes], self._tables())

    def markdown(self) -> str:
        """The report as Markdown."""
        parts = ["# memvla report", markdown_note(self.headline)]
        if self.notes:
            parts.append("\n".join(f"- {markdown_note(note)}" for note in self.notes))
        parts += [markdown_table(tables.shortened(table)) for table in [*self._tables(), tables.protocols(self.runs)]]
        parts.append(markdown_table(_manifest_table(self.runs)))
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        """The tables as LaTeX (needs `booktabs`)."""
        return forms.latex(self._tables(), [self.headline, *self.notes])

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """One for each (policy, suite, task), full precision; the first column says what is missing, in words."""
        return [
            _row(run, group)
            for suite in suites_of(self.runs)
            for run, _ in groups_on(self.runs, suite)
            for group in run.task_groups[suite]
        ]

    def csv(self) -> str:
        """The rows as CSV."""
        return csv_rows(self.rows)

    def html(self, base: Path | str = ".", *, embed_bytes: int | None = None) -> str:
        """The page: one file, no script, nothing from elsewhere. base: the folder it will lie in (for linked videos).

        embed_bytes: video bytes put into the page at most; what is beyond is linked.
        """
        from reports import page

        return page.render(self.runs, self.headline, self.notes, Path(base).resolve(), embed_bytes)

    def write(self, folder: Path | str) -> list[Path]:
        """Write report.html, .md, .tex, .csv and .parquet. Raises ReportError where the folder does not take them."""
        return forms.write_forms(folder, "report", self, "the report")

    def _tables(self) -> list[Table]:
        found: list[Table | None] = [tables.overall(self.runs), chains.chain_table(self.runs)]
        for suite in suites_of(self.runs):
            found += [tagged.by_tag(self.runs, suite, key) for key in tagged.sorting(self.runs, suite)]
            found.append(tables.per_task(self.runs, suite))
        found += [chains.subtask_table(self.runs)]
        found += [tables.paired(self.runs), tables.seconds(self.runs), tables.voids(self.runs)]
        return [table for table in found if table is not None]


def build(paths: Iterable[Path | str]) -> Report:
    """The report on the runs at or below these paths.

    Raises ReportError, ManifestError or RecordError, each naming the file, what was found and the cure.
    """
    runs = load(paths)
    return Report(runs, headline(runs), notes(runs))


def _manifest_table(runs: Sequence[Run]) -> Table:
    """What a reader needs to repeat each run; manifest.json in its folder has everything."""
    rows = []
    for run in runs:
        made = run.manifest
        packages = ", ".join(f"{name} {version}" for name, version in made.packages.items())
        revision = f"{made.git.get('revision', tables.NOTHING)}{' (dirty)' if made.git.get('dirty') else ''}"
        rows.append((run.label, made.run, str(made.seed), made.started_at, revision, packages))
    titles = ("Policy", "Run", "Seed", "Started", "Revision", "Packages")
    return Table("Runs", tuple(map(tables.Column, titles)), tuple(rows))


# ---------------------------------------------------------------------- data


def _chain_columns(group: Group) -> dict[str, float | None]:
    found = chains.average_length(group)
    low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
    return {"mean_chain_length": found.value, "chain_length_low": low, "chain_length_high": high}


def _row(run: Run, group: Group) -> dict[str, Any]:
    rate, plan = group.rate, group.suite
    interval = asdict(rate.interval) if rate.interval else {"low": None, "high": None}
    done = [r.steps for r in group.scored if r.outcome == "success"]
    n = len(group.scored)
    row: dict[str, Any] = {
        "incomplete": incomplete(group),
        "policy": run.label,
        "privileged": run.privileged,
        "suite": plan.name,
        "task": group.task,
        "planned": group.planned,
        "scored": n,
        "coverage": group.coverage,
        "successes": rate.successes,
        "success_rate": rate.value,
        "wilson_low": interval["low"],
        "wilson_high": interval["high"],
        "success_once": sum(bool(r.success_once) for r in group.scored),
        "success_at_end": sum(bool(r.success_at_end) for r in group.scored),
        "mean_steps": group.steps.value,
        "mean_steps_of_successes": sum(done) / len(done) if done else None,
        "mean_calls": sum(r.calls for r in group.scored) / n if n else None,
        "mean_score": group.score.value,
        **_chain_columns(group),
        "right_choices": group.choices("right_choices"),
        "wrong_choices": group.choices("wrong_choices"),
        "void_scenes": group.void_scenes,
        "void_attempts": len(group.void_attempts),
        "suite_version": plan.version,
        "fingerprint": plan.fingerprint,
        "run": run.manifest.run,
        "seed": run.manifest.seed,
        "tags": json.dumps(plan.tags.get(group.task or "", {}), sort_keys=True),
    }
    return row | {f"seconds_{phase}": value for phase, value in group.seconds.items()}
