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
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import tagged
from reports.chains import chained, full_length, reaching
from reports.statistics import Interval, Rate, success_by_step
from reports.summary import Group, Run, groups_on, suites_of
from reports.tables import counted, percent, phase_names, points, wrapped

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


Placed = tuple[float, Interval | None] | None
"""A value with its interval, or nothing."""


def interval_plot(runs: Sequence[Run]) -> str:
    """Success rate with Wilson's interval, one row for each suite and policy."""
    rows: list[tuple[str, Run | None, Group | None]] = []
    for suite in suites_of(runs):
        rows += [(suite, None, None)] if len(suites_of(runs)) > 1 else []
        rows += [(group.label, run, group) for run, group in groups_on(runs, suite)]
    with _figure(0.6 + 0.3 * len(rows), "Success rates with 95 % intervals", "intervals") as (figure, out):
        ax = figure.add_subplot()
        for y, (name, run, group) in enumerate(rows):
            if run is None or group is None:
                _heading(ax, y, name)
            else:
                _interval(ax, y, group.rate, _series(runs, run))
        names = [wrapped(name, 50, 3) if group else "" for name, _, group in rows]
        _rows(ax, names, [percent(group.rate.value) if group else "" for *_, group in rows])
        _percent_axis(ax)
    return out[0]


def task_bars(runs: Sequence[Run], suite: str) -> str | None:
    """Bars of success rate with Wilson's interval, task by policy. None for more than `MOST_TASKS` tasks."""
    found = [(_series(runs, run), run.task_groups[suite]) for run, _ in groups_on(runs, suite)]
    return _bars(found, f"Success rate by task of {suite}", f"tasks-{suite}")


def tag_bars(runs: Sequence[Run], suite: str, key: str) -> str | None:
    """Bars of success rate with Wilson's interval, value of a tag by policy: the dimensions of LIBERO-Plus."""
    found = [(_series(runs, run), tagged.groups(run, suite, key)) for run, _ in groups_on(runs, suite)]
    return _bars(found, f"Success rate of {tagged.title(suite, key)}", f"{key}-{suite}")


def _bars(found: Sequence[tuple[int, Sequence[Group]]], title: str, salt: str) -> str | None:
    """found: (number of the series, its groups by task) of each policy."""
    tasks = list(dict.fromkeys(group.task or "" for _, groups in found for group in groups))
    if len(tasks) > MOST_TASKS:
        return None
    place = {task: y for y, task in enumerate(tasks)}
    room = 0.78 if len(found) > 1 else 0.5  # of the distance between two tasks
    thick = room / len(found)
    labels = [wrapped(task, 40, 3) for task in tasks]
    height = sum(max(0.17 * len(found) + 0.16, 0.17 * (label.count("\n") + 1) + 0.1) for label in labels)
    with _figure(0.9 + height, title, salt) as (figure, out):
        ax = figure.add_subplot()
        for k, (series, groups) in enumerate(found):
            ys = np.array([place[g.task or ""] - room / 2 + thick * (k + 0.5) for g in groups])
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


def chain_curves(runs: Sequence[Run]) -> str | None:
    """The share of chains with at least k subtasks done in a row, over k: one line a policy and suite."""
    lines = [(run, group) for run in runs for group in chained([run])]
    if not lines:
        return None
    longest = full_length([group for _, group in lines])
    several = len({group.suite.name for _, group in lines}) > 1
    with _figure(3.2, "Chains by subtasks done in a row", "chains") as (figure, out):
        ax = figure.add_subplot()
        for k, (run, group) in enumerate(lines):
            series = k if several else _series(runs, run)
            series %= len(SERIES)
            rates = reaching(group, longest)
            shift = 0.06 * (k - (len(lines) - 1) / 2)
            for x, rate in enumerate(rates, start=1):
                if rate.interval is not None:
                    ends = [100 * rate.interval.low, 100 * rate.interval.high]
                    ax.plot([x + shift] * 2, ends, color=SERIES[series], linewidth=2, alpha=0.7)
            ax.plot(
                [x + shift for x in range(1, len(rates) + 1)], [100 * (rate.value or 0.0) for rate in rates],
                MARKERS[series], color=SERIES[series], linestyle=DASHES[series], markersize=7, linewidth=1.6,
                markeredgecolor=PAPER, label=f"{group.label}, {group.suite.name}" if several else group.label,
            )  # fmt: skip
        ax.set_xticks(range(1, longest + 1))
        ax.set_xlim(0.7, longest + 0.3)
        ax.set_xlabel("subtasks done in a row, at least")
        ax.set_ylim(-3, 103)
        ax.set_yticks(range(0, 101, 20), [f"{y} %" for y in range(0, 101, 20)])
        ax.grid(visible=False, axis="x")
        figure.legend(loc="outside upper left", ncols=min(len(lines), 4), handlelength=3.2)
    return out[0]


def time_bars(runs: Sequence[Run]) -> str | None:
    """Mean seconds per scored episode by phase, stacked; None when nothing was timed."""
    rows: list[tuple[str, Group | None]] = []
    for suite in suites_of(runs):
        timed = [group for _, group in groups_on(runs, suite) if group.seconds]
        rows += [(suite, None)] if timed and len(suites_of(runs)) > 1 else []
        rows += [(group.label, group) for group in timed]
    if not any(group for _, group in rows):
        return None
    phases = phase_names(group for _, group in rows if group)
    with _figure(1.0 + 0.3 * len(rows), "Seconds per episode by phase", "time") as (figure, out):
        ax = figure.add_subplot()
        left = np.zeros(len(rows))
        for k, phase in enumerate(phases):
            width = np.array([group.seconds.get(phase, 0.0) if group else 0.0 for _, group in rows])
            series = k % len(SERIES)
            ax.barh(
                range(len(rows)), width, 0.62, left, color=SERIES[series], hatch=HATCHES[series], label=phase,
                edgecolor=PAPER, linewidth=0.8,
            )  # fmt: skip
            left += width
        for y, (name, group) in enumerate(rows):
            if group is None:
                _heading(ax, y, name)
        totals = [f"{total:.2f} s" if group else "" for total, (_, group) in zip(left, rows, strict=True)]
        _rows(ax, [wrapped(name, 50, 3) if group else "" for name, group in rows], totals)
        ax.set_xlim(0, 1.02 * float(left.max()) or 1.0)
        ax.set_xlabel("seconds per scored episode")
        figure.legend(loc="outside upper left", ncols=min(len(phases), 8), handlelength=1.6)
    return out[0]


def difference_plot(rows: Sequence[tuple[str, float | None, Interval | None]], axis: str) -> str | None:
    """A forest plot: differences of success rates with their intervals; None without any. axis: what right means."""
    if not any(value is not None for _, value, _ in rows):
        return None
    labels = [wrapped(name, 50, 3) for name, *_ in rows]
    height = 0.9 + sum(0.3 + 0.15 * label.count("\n") for label in labels)
    with _figure(height, "Differences with 95 % intervals", "differences") as (figure, out):
        ax = figure.add_subplot()
        ax.axvline(0, color=MUTED, linewidth=1.2)
        for y, (_, value, interval) in enumerate(rows):
            if value is None:
                ax.text(0, y, " nothing in common", va="center", color=MUTED, style="italic")
                continue
            settled = interval is not None and (interval.low > 0 or interval.high < 0)
            if interval is not None:
                ends = [100 * interval.low, 100 * interval.high]
                ax.plot(ends, [y, y], color=SERIES[0], linewidth=2.4, alpha=0.75)
            face = SERIES[0] if settled else PAPER  # filled: the interval leaves out zero
            ax.plot(100 * value, y, "o", color=face, markersize=8, markeredgecolor=SERIES[0], markeredgewidth=1.6)
        right = ["" if value is None else points(value) for _, value, _ in rows]
        _rows(ax, labels, right)
        ends = [100 * end for *_, interval in rows if interval for end in (interval.low, interval.high)]
        most = max([5.0, *map(abs, ends)]) * 1.08
        ax.set_xlim(-most, most)
        ax.set_xlabel(axis)
    return out[0]


def beside_plot(columns: Sequence[str], series: Sequence[tuple[str, Sequence[Placed]]], unit: str) -> str:
    """Values by column, one marker a series, with intervals where there are any: a published row and ours."""
    with _figure(3.2, "Published and ours", "beside") as (figure, out):
        ax = figure.add_subplot()
        for k, (label, values) in enumerate(series):
            style = k % len(SERIES)
            shift = 0.16 * (k - (len(series) - 1) / 2)
            placed = [(x + shift, v) for x, v in enumerate(values) if v is not None]
            for x, (_, interval) in placed:
                if interval is not None:
                    ax.plot([x, x], [interval.low, interval.high], color=SERIES[style], linewidth=2, alpha=0.7)
            ax.plot(
                [x for x, _ in placed], [v for _, (v, _) in placed], MARKERS[style], color=SERIES[style], label=label,
                markersize=7, markeredgecolor=PAPER, linestyle="none",
            )  # fmt: skip
        ax.set_xticks(range(len(columns)), [wrapped(name, 12, 3) for name in columns], fontsize=7.5)
        ax.set_xlim(-0.5, len(columns) - 0.5)
        ax.set_ylim(bottom=0)
        ax.grid(visible=False, axis="x")
        ax.set_ylabel(unit)
        figure.legend(loc="outside upper left", ncols=min(len(series), 4), handlelength=1.2)
    return out[0]


def trend_plot(suite: str, nights: Sequence[str], lines: Sequence[tuple[str, Sequence[Rate | None]]]) -> str:
    """Success rate by night with Wilson's intervals, one line a policy (label, a rate or None for each night)."""
    with _figure(3.0, f"Success rate by night of {suite}", f"trend-{suite}") as (figure, out):
        ax = figure.add_subplot()
        for k, (label, rates) in enumerate(lines):
            series = k % len(SERIES)
            shift = 0.12 * (k - (len(lines) - 1) / 2)
            known = [(x + shift, r) for x, r in enumerate(rates) if r is not None and r.value is not None]
            if not known:
                continue
            for x, rate in known:
                if rate.interval is not None:
                    ends = [100 * rate.interval.low, 100 * rate.interval.high]
                    ax.plot([x, x], ends, color=SERIES[series], linewidth=1.6, alpha=0.6)
            ax.plot(
                [x for x, _ in known], [100 * (r.value or 0.0) for _, r in known], MARKERS[series], label=label,
                color=SERIES[series], linestyle=DASHES[series], markersize=5.5, linewidth=1.4, markeredgecolor=PAPER,
            )  # fmt: skip
        step = max(1, -(-len(nights) // 12))
        ax.set_xticks(range(0, len(nights), step), [nights[i] for i in range(0, len(nights), step)], fontsize=7.5)
        ax.set_xlim(-0.5, len(nights) - 0.5)
        ax.set_ylim(-3, 103)
        ax.set_yticks(range(0, 101, 20), [f"{y} %" for y in range(0, 101, 20)])
        ax.grid(visible=False, axis="x")
        figure.legend(loc="outside upper left", ncols=min(len(lines), 4), handlelength=3.2)
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
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # names of groups, the same in every drawing; nothing refers to them
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


def _heading(ax: Axes, y: float, name: str) -> None:
    """The name of a suite above its rows."""
    ax.text(0.004, y + 0.12, name, transform=ax.get_yaxis_transform(), va="center", fontsize=9, weight="bold")


def _whisker(ax: Axes, y: float, rate: Rate) -> None:
    if rate.interval is not None:
        ends = [100 * rate.interval.low, 100 * rate.interval.high]
        ax.plot(ends, [y, y], color=PAPER, linewidth=2.8, alpha=0.6, solid_capstyle="butt")
        ax.plot(ends, [y, y], color=INK, linewidth=1, marker="|", markersize=4)


def _rows(ax: Axes, labels: Sequence[str], right: Sequence[str] = ()) -> None:
    """Name the rows 0, 1, 2 ... downwards. Each line of a name is a text of its own: only such texts keep their
    alignment in whatever font the page is shown in."""
    ax.set_yticks(range(len(labels)), [""] * len(labels))
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    for y, label in enumerate(labels):
        lines = label.split("\n")
        for k, line in enumerate(lines):
            _beside(ax, y, line, (0.0, -6.0), 10.5 * ((len(lines) - 1) / 2 - k), "right")
    for y, text in enumerate(right):
        _beside(ax, y, text, (1.0, 8.0), 0.0, "left")


def _beside(ax: Axes, y: float, text: str, at: tuple[float, float], up: float, align: Literal["left", "right"]) -> None:
    """Text beside the axes in row y. at: (x in axes, points from there); up: points."""
    ax.annotate(
        text, (at[0], y), (at[1], up), xycoords=ax.get_yaxis_transform(), textcoords="offset points", ha=align,
        va="center", annotation_clip=False,
    )  # fmt: skip


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
