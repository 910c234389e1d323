"""The plots of the page, drawn by Matplotlib as SVG whose colours are CSS variables.

One drawing serves light and dark: every colour is a placeholder that becomes `var(--name)` (see `pages/style.css`).
Nothing is told by colour alone: series also differ in marker, hatch and dash, so that a page printed in grey reads.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.statistics import Rate, success_by_step
from reports.summary import Group, Run, groups_on, suites_of
from reports.tables import counted, percent, phase_names, wrapped

INK, MUTED, LINE, PAPER = "#0a0b0c", "#0a0b0d", "#0a0b0e", "#0a0b0f"
SERIES = tuple(f"#0a0c0{i}" for i in range(8))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
HATCHES = ("", "//", "..", "xx", "\\\\", "--", "++", "||")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 3)), (0, (4, 1)))
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper", **{c: f"s{i}" for i, c in enumerate(SERIES)}}

WIDTH = 10.4  # inches at 72 points: about 1000 pixels
MOST_TASKS = 130
"""Tasks that one bar plot takes; with more, the table alone shows them."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    "hatch.linewidth": 0.6,
    "hatch.color": PAPER,
}


def interval_plot(runs: Sequence[Run]) -> str:
    """Success rate with Wilson's interval, one row for each suite and policy."""
    rows = [(_series(runs, run), group) for suite in suites_of(runs) for run, group in groups_on(runs, suite)]
    with _figure(0.9 + 0.34 * len(rows), "Success rates with 95 % intervals", "intervals") as (figure, out):
        ax = figure.add_subplot()
        for y, (series, group) in enumerate(rows):
            _interval(ax, y, group.rate, series)
        for y in range(1, len(rows)):
            if rows[y][1].suite.name != rows[y - 1][1].suite.name:
                ax.axhline(y - 0.5, color=LINE, linewidth=1.2)
        several = len(suites_of(runs)) > 1
        names = [f"{group.suite.name}   {group.label}" if several else group.label for _, group in rows]
        _rows(ax, [wrapped(name, 60, 3) for name in names], [percent(group.rate.value) for _, group in rows])
        _percent_axis(ax)
    return out[0]


def task_bars(runs: Sequence[Run], suite: str) -> str | None:
    """Bars of success rate with Wilson's interval, task by policy. None for more than `MOST_TASKS` tasks."""
    found = [(_series(runs, run), run.task_groups[suite]) for run, _ in groups_on(runs, suite)]
    tasks = list(dict.fromkeys(group.task or "" for _, groups in found for group in groups))
    if len(tasks) > MOST_TASKS:
        return None
    place = {task: y for y, task in enumerate(tasks)}
    thick = 0.78 / len(found)
    labels = [wrapped(task, 40, 3) for task in tasks]
    height = sum(max(0.17 * len(found) + 0.16, 0.17 * (label.count("\n") + 1) + 0.1) for label in labels)
    with _figure(0.9 + height, f"Success rate by task of {suite}", f"tasks-{suite}") as (figure, out):
        ax = figure.add_subplot()
        for k, (series, groups) in enumerate(found):
            ys = np.array([place[g.task or ""] - 0.39 + thick * (k + 0.5) for g in groups])
            values = np.array([100 * (g.rate.value or 0.0) for g in groups])
            ax.barh(ys, values, thick * 0.92, color=SERIES[series], hatch=HATCHES[series], label=groups[0].label)
            for y, group in zip(ys, groups, strict=True):
                _whisker(ax, y, group.rate)
                ax.text(101.5, y, counted(group.rate), va="center", fontsize=7.5, color=MUTED, clip_on=False)
        _rows(ax, labels)
        _percent_axis(ax)
        if len(found) > 1:
            figure.legend(loc="outside upper left", ncols=min(len(found), 4), handlelength=1.6)
    return out[0]


def success_curves(runs: Sequence[Run]) -> str | None:
    """The share of scored episodes that had succeeded by each step; suites whose protocol runs on are left out."""
    suites = [suite for suite in suites_of(runs) if _drawable(runs, suite)]
    if not suites:
        return None
    columns = min(2, len(suites))
    lines = -(-len(suites) // columns)
    with _figure(0.5 + 2.5 * lines, "Success against step", "curves") as (figure, out):
        axes = figure.subplots(lines, columns, squeeze=False).flatten()
        for ax, suite in zip(axes, suites, strict=False):
            _curves(ax, runs, suite)
        for ax in axes[len(suites) :]:
            ax.set_visible(False)
        handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        if len(handles) > 1:
            figure.legend(
                handles.values(), handles.keys(), loc="outside upper left", ncols=min(len(handles), 4), handlelength=3.2
            )
    return out[0]


def time_bars(runs: Sequence[Run]) -> str | None:
    """Mean seconds per scored episode by phase, stacked; None when nothing was timed."""
    groups = [group for suite in suites_of(runs) for _, group in groups_on(runs, suite) if group.seconds]
    if not groups:
        return None
    phases = phase_names(groups)
    with _figure(1.2 + 0.34 * len(groups), "Seconds per episode by phase", "time") as (figure, out):
        ax = figure.add_subplot()
        left = np.zeros(len(groups))
        for k, phase in enumerate(phases):
            width = np.array([group.seconds.get(phase, 0.0) for group in groups])
            series = k % len(SERIES)
            ax.barh(
                range(len(groups)), width, 0.62, left, color=SERIES[series], hatch=HATCHES[series], label=phase,
                edgecolor=PAPER, linewidth=0.8,
            )  # fmt: skip
            left += width
        several = len(suites_of(runs)) > 1
        names = [f"{group.suite.name}   {group.label}" if several else group.label for group in groups]
        _rows(ax, [wrapped(name, 60, 3) for name in names], [f"{total:.2f} s" for total in left])
        ax.set_xlabel("seconds per scored episode")
        ax.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", ncols=min(len(phases), 8), handlelength=1.6)
    return out[0]


def undrawn_curves(runs: Sequence[Run]) -> list[str]:
    """Suites that `success_curves` leaves out although they have scored episodes."""
    return [
        suite
        for suite in suites_of(runs)
        if any(group.scored for _, group in groups_on(runs, suite)) and not _drawable(runs, suite)
    ]


# ---------------------------------------------------------------------- parts


@contextmanager
def _figure(height: float, title: str, salt: str) -> Iterator[tuple[Figure, list[str]]]:
    """A figure in our style; on leaving, its SVG is appended to the list."""
    out: list[str] = []
    with mpl.rc_context({**STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has other fonts than Matplotlib
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, out
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    svg = buffer.getvalue()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(
        r'\bid="((?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick|legend|\w+Collection)_[\d.]+)"', "", svg
    )
    out.append(svg.replace("<svg ", '<svg class="plot" role="img" ', 1))


def _series(runs: Sequence[Run], run: Run) -> int:
    return runs.index(run) % len(SERIES)


def _interval(ax: Axes, y: float, rate: Rate, series: int) -> None:
    if rate.value is None or rate.interval is None:
        ax.text(1, y, "nothing scored", va="center", color=MUTED, style="italic")
        return
    colour = SERIES[series]
    ax.plot([100 * rate.interval.low, 100 * rate.interval.high], [y, y], color=colour, linewidth=2.4, alpha=0.75)
    ax.plot(100 * rate.value, y, MARKERS[series], color=colour, markersize=8, markeredgecolor=PAPER, clip_on=False)


def _whisker(ax: Axes, y: float, rate: Rate) -> None:
    if rate.interval is not None:
        ends = [100 * rate.interval.low, 100 * rate.interval.high]
        ax.plot(ends, [y, y], color=INK, linewidth=1, marker="|", markersize=4)


def _rows(ax: Axes, labels: Sequence[str], right: Sequence[str] = ()) -> None:
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    if right:
        twin = ax.secondary_yaxis("right")
        twin.set_yticks(range(len(right)), right)
        twin.spines["right"].set_visible(False)


def _percent_axis(ax: Axes) -> None:
    ax.set_xlim(0, 100)
    ax.set_xticks(range(0, 101, 20), [f"{x} %" for x in range(0, 101, 20)])


def _drawable(runs: Sequence[Run], suite: str) -> bool:
    """Whether the record of an episode tells the step of its success: only where it ends there."""
    groups = [group for _, group in groups_on(runs, suite)]
    return any(group.scored for group in groups) and all(g.suite.protocol.get("stop_on_success") for g in groups)


def _curves(ax: Axes, runs: Sequence[Run], suite: str) -> None:
    for run, group in groups_on(runs, suite):
        if group.scored:
            series = _series(runs, run)
            limit = int(group.suite.protocol.get("max_steps") or 0)
            limit = max([limit, *(r.steps for r in group.scored)])
            steps, share = success_by_step(_success_steps(group), len(group.scored), limit)
            turn = np.flatnonzero(np.diff(share, prepend=-1.0))
            keep = np.unique([*turn, len(steps) - 1])
            ax.plot(
                steps[keep], 100 * share[keep], drawstyle="steps-post", color=SERIES[series], linewidth=1.8,
                linestyle=DASHES[series], label=group.label,
            )  # fmt: skip
    ax.set_title(suite, loc="left", fontsize=9.5, color=INK)
    ax.set_ylim(0, 103)
    ax.set_xlim(left=0)
    ax.set_yticks(range(0, 101, 25), [f"{y} %" for y in range(0, 101, 25)])
    ax.set_xlabel("environment steps")


def _success_steps(group: Group) -> list[int]:
    return [record.steps for record in group.scored if record.outcome == "success"]
