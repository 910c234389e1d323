"""Runs read from disk, and what they amount to: groups of episodes, and the notes that must stand before any number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten

from envs.spec import SceneId
from reports import manifest as manifests
from reports.manifest import Manifest, SuitePlan
from reports.records import FILE_NAME, EpisodeRecord, RecordStore
from reports.statistics import Comparison, Mean, Rate, compare, mean, success_rate, task_mean


class ReportError(RuntimeError):
    """A report cannot be made or written. The message names the path, what was found, and the cure."""


@dataclass(frozen=True)
class Group:
    """What one policy did on one suite, or on one task of it.

    scored: final attempts that count; void_scenes: scenes tried and never scored; void_attempts: all void attempts.
    """

    label: str
    suite: SuitePlan
    task: str | None
    planned: int
    scored: tuple[EpisodeRecord, ...]
    void_scenes: int
    void_attempts: tuple[EpisodeRecord, ...]

    @property
    def coverage(self) -> float:
        """Scored scenes over planned ones."""
        return len(self.scored) / self.planned

    @cached_property
    def not_covered(self) -> int:
        """Planned scenes that could not be tried, since the machine lacked something that they need."""
        beyond = self.suite.beyond
        lacking = [task for task in beyond if self.task in (None, task)]
        return sum(map(self.suite.trials_of, lacking)) - sum(record.task in beyond for record in self.scored)

    @property
    def not_run(self) -> int:
        """Planned scenes that could be tried, and of which there is no attempt."""
        return self.planned - len(self.scored) - self.void_scenes - self.not_covered

    @cached_property
    def rate(self) -> Rate:
        """Success under the protocol's own rule."""
        return success_rate(r.outcome == "success" for r in self.scored)

    @cached_property
    def steps(self) -> Mean:
        """Steps of scored episodes, failures included."""
        return mean((r.steps for r in self.scored), interval=self.task is None)

    @cached_property
    def score(self) -> Mean:
        """Graded score of the scored episodes that have one."""
        return mean((r.score for r in self.scored if r.score is not None), interval=self.task is None)

    def choices(self, kind: str) -> int | None:
        """Sum of the metric `right_choices` or `wrong_choices`; None where no episode reports it."""
        values = [r.metrics[kind] for r in self.scored if kind in r.metrics]
        return round(sum(values)) if values else None

    @cached_property
    def seconds(self) -> dict[str, float]:
        """Mean seconds per scored episode by phase; `other` is what the total has beyond its phases."""
        timed = [r.seconds for r in self.scored if r.seconds]
        names = list(dict.fromkeys(name for each in timed for name in each if name != "total"))
        found = {name: sum(each.get(name, 0.0) for each in timed) / len(timed) for name in names}
        if timed and all("total" in each for each in timed):
            rest = sum(each["total"] for each in timed) / len(timed) - sum(found.values())
            if rest > 0.001:
                found["other"] = rest
        return found


def _group(
    label: str, plan: SuitePlan, task: str | None, final: Sequence[EpisodeRecord], voids: Sequence[EpisodeRecord]
) -> Group:
    return Group(
        label=label,
        suite=plan,
        task=task,
        planned=plan.planned if task is None else plan.trials_of(task),
        scored=tuple(r for r in final if r.scored),
        void_scenes=sum(not r.scored for r in final),
        void_attempts=tuple(voids),
    )


def _by_task(records: Iterable[EpisodeRecord]) -> dict[tuple[str, str], list[EpisodeRecord]]:
    found: dict[tuple[str, str], list[EpisodeRecord]] = {}
    for record in records:
        found.setdefault((record.suite, record.task), []).append(record)
    return found


@dataclass(frozen=True)
class Run:
    """One run folder, read. label: the policy's name as reports show it, with its mark when it is privileged."""

    folder: Path
    manifest: Manifest
    label: str
    privileged: bool
    episodes: tuple[EpisodeRecord, ...]
    voids: tuple[EpisodeRecord, ...]
    unplanned: int

    @cached_property
    def task_groups(self) -> dict[str, tuple[Group, ...]]:
        """Suite -> one group a task, as planned. Sorted in one pass: a suite may have ten thousand tasks."""
        final, voids = _by_task(self.episodes), _by_task(self.voids)
        found = {}
        for plan in self.manifest.suites:
            keys = [(plan.name, task) for task in plan.tasks]
            found[plan.name] = tuple(
                _group(self.label, plan, key[1], final.get(key, ()), voids.get(key, ())) for key in keys
            )
        return found

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """One group a suite, as planned."""
        return tuple(
            _group(
                self.label,
                plan,
                None,
                [r for r in self.episodes if r.suite == plan.name],
                [r for r in self.voids if r.suite == plan.name],
            )
            for plan in self.manifest.suites
        )

    def task_mean(self, suite: str) -> float | None:
        """Mean of the tasks' success rates; None while a task has no scored episode."""
        return task_mean([group.rate for group in self.task_groups[suite]])


@dataclass(frozen=True)
class Note:
    """Something a reader must know. kind: `incomplete`, `warning` (numbers are not comparable) or `remark`."""

    kind: str
    text: str


def load(paths: Iterable[Path | str]) -> tuple[Run, ...]:
    """The runs at or below these paths, each once. Raises ReportError, ManifestError or RecordError."""
    folders = list(dict.fromkeys(f.resolve() for path in paths for f in manifests.find_runs(path)))
    if not folders:
        raise ReportError("no run was named; give a run folder, or a folder of run folders")
    found = [(folder, manifests.read(folder)) for folder in folders]
    labels = _labels(found)
    return tuple(_read(folder, made, label) for (folder, made), label in zip(found, labels, strict=True))


def _read(folder: Path, made: Manifest, label: str) -> Run:
    with RecordStore(folder / FILE_NAME) as store:
        episodes, attempts = store.episodes(), store.attempts()
    planned = {
        SceneId(p.name, task, trial) for p in made.suites for task in p.tasks for trial in range(p.trials_of(task))
    }
    inside = [r for r in episodes if r.scene in planned]
    privileged = made.privileged or any(r.privileged for r in attempts)
    return Run(
        folder=folder,
        manifest=made,
        label=f"{label} [privileged]" if privileged else label,
        privileged=privileged,
        episodes=tuple(inside),
        voids=tuple(r for r in attempts if not r.scored and r.scene in planned),
        unplanned=len(episodes) - len(inside),
    )


def _labels(found: Sequence[tuple[Path, Manifest]]) -> list[str]:
    """The policy's name; where two runs share it, as much of the folder's path as tells them apart."""
    names = [made.policy for _, made in found]
    labels = list(names)
    for depth in range(1, 1 + max(len(folder.parts) for folder, _ in found)):
        twice = {label for label, count in Counter(labels).items() if count > 1}
        if not twice:
            break
        for i, (folder, _) in enumerate(found):
            if labels[i] in twice:
                labels[i] = f"{names[i]} ({'/'.join(folder.parts[-depth:])})"
    return labels


# ---------------------------------------------------------------------- what must be said first


def suites_of(runs: Sequence[Run]) -> list[str]:
    """Names of all suites, in the order in which they were planned."""
    return list(dict.fromkeys(plan.name for run in runs for plan in run.manifest.suites))


def groups_on(runs: Sequence[Run], suite: str) -> list[tuple[Run, Group]]:
    """The groups of the runs that planned this suite."""
    return [(run, group) for run in runs for group in run.groups if group.suite.name == suite]


def headline(runs: Sequence[Run]) -> Note:
    """The first sentence of every report: the coverage."""
    groups = [group for run in runs for group in run.groups]
    planned, scored = sum(g.planned for g in groups), sum(len(g.scored) for g in groups)
    if scored == planned:
        return Note("complete", f"Complete: all {planned} planned scenes were scored.")
    void, left = sum(g.void_scenes for g in groups), sum(g.not_run for g in groups)
    beyond = sum(g.not_covered for g in groups)
    cannot = f", {beyond} are not covered here" if beyond else ""
    return Note(
        "incomplete",
        f"INCOMPLETE: {scored} of {planned} planned scenes were scored ({floor_percent(scored, planned)}). "
        f"{void} came out void and {left} were not run{cannot}; the rates below are of the scored ones only.",
    )


def notes(runs: Sequence[Run]) -> tuple[Note, ...]:
    """Everything that bears on the numbers, the worst first. The headline is not among them."""
    found = [Note("incomplete", incomplete(group)) for run in runs for group in run.groups if incomplete(group)]
    for suite in suites_of(runs):
        found += _comparable(suite, groups_on(runs, suite))
    for run in runs:
        if run.unplanned:
            text = (
                f"{run.label}: {run.unplanned} recorded scenes are not in the plan of its manifest and are not counted."
            )
            found.append(Note("warning", text))
    found += [note for run in runs for note in _stand_ins(run)]
    found += [
        Note("warning", f"{run.label}: this policy reads simulator state; it is a control, not a competitor.")
        for run in runs
        if run.privileged
    ]
    found += [
        Note("remark", f"{run.label}: {note}")
        for run in runs
        for note in dict.fromkeys(str(plan.policy["note"]) for plan in run.manifest.suites if plan.policy.get("note"))
    ]
    found += [
        Note(
            "remark",
            f"{run.label}: made from a checkout with uncommitted changes ({run.manifest.git['revision']:.10}).",
        )
        for run in runs
        if run.manifest.git.get("dirty")
    ]
    return tuple(found)


def incomplete(group: Group) -> str:
    """What is missing from a group, in words; empty when nothing is."""
    if len(group.scored) == group.planned:
        return ""
    where = group.suite.name if group.task is None else f"{group.suite.name}/{group.task}"
    share = floor_percent(len(group.scored), group.planned)
    return (
        f"INCOMPLETE: {group.label} on {where}: {len(group.scored)} of {group.planned} scenes scored ({share}), "
        f"{group.void_scenes} void, {group.not_run} not run{_not_covered(group)}."
    )


STAND_IN = "stand_in"
"""How the metrics of an episode begin that was run with a file that is not the benchmark's own."""


def _stand_ins(run: Run) -> list[Note]:
    """One note for each suite on which scores were obtained with stand-in assets."""
    found = []
    for group in run.groups:
        marked = [r for r in group.scored if any(name.startswith(STAND_IN) and r.metrics[name] for name in r.metrics)]
        if marked:
            names = list(dict.fromkeys(r.task for r in marked))
            tasks = ", ".join(names[:5]) + " …" * (len(names) > 5)
            files = [f"{Path(name).name} ({shorten(what, 60)})" for name, what in _listed_stand_ins(run)]
            what = f" What stands in: {'; '.join(files[:5])}{' …' * (len(files) > 5)}." if files else ""
            text = (
                f"STAND-IN ASSETS: {run.label} on {group.suite.name}: {len(marked)} of {len(group.scored)} scored "
                f"episodes ({tasks}) were run with files that are not the benchmark's own. These scores are not "
                f"comparable with published ones.{what}"
            )
            found.append(Note("warning", text))
    return found


def _listed_stand_ins(run: Run) -> list[tuple[str, str]]:
    return [pair for each in run.manifest.assets.values() for pair in dict(each.get("stand_ins", {})).items()]


def _not_covered(group: Group) -> str:
    if not group.not_covered:
        return ""
    return f", {group.not_covered} not covered ({'; '.join(group.suite.not_covered)})"


def _comparable(suite: str, groups: Sequence[tuple[Run, Group]]) -> list[Note]:
    """Whether the runs under one suite's name measured the same thing."""
    found = []
    prints = {group.suite.fingerprint for _, group in groups}
    if len(prints) > 1:
        each = ", ".join(f"{group.label} {group.suite.fingerprint}" for _, group in groups)
        text = f"PROTOCOLS DIFFER under {suite}: {each}. Numbers of different protocols must not be compared."
        found.append(Note("warning", text))
    else:
        hashes: dict[SceneId, set[str]] = {}
        for _, group in groups:
            for record in group.scored:
                hashes.setdefault(record.scene, set()).add(record.scene_hash)
        other = sum(len(each) > 1 for each in hashes.values())
        if other:
            text = (
                f"SCENES DIFFER under {suite}: {other} scenes have the same name and another scene hash between runs."
            )
            found.append(Note("warning", text))
    simulators = {group.label: run.manifest.simulators.get(suite, {}) for run, group in groups}
    known = [each for each in simulators.values() if each]
    if any(each != known[0] for each in known):
        listed = "; ".join(f"{label}: {_pairs(one)}" for label, one in simulators.items())
        found.append(Note("warning", f"SIMULATORS DIFFER under {suite}: {listed}."))
    return found


def _pairs(data: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(data.items())) or "unknown"


def comparisons(runs: Sequence[Run]) -> list[tuple[str, str, str, Comparison]]:
    """(suite, label a, label b, comparison) for every pair of runs with one protocol under a suite."""
    found = []
    for suite in suites_of(runs):
        groups = [group for _, group in groups_on(runs, suite)]
        for i, a in enumerate(groups):
            for b in groups[i + 1 :]:
                if a.suite.fingerprint == b.suite.fingerprint:
                    result = compare(_outcomes(a), _outcomes(b))
                    if result.n:
                        found.append((suite, a.label, b.label, result))
    return found


def _outcomes(group: Group) -> dict[SceneId, tuple[bool, str]]:
    return {r.scene: (r.outcome == "success", r.scene_hash) for r in group.scored}


def floor_percent(part: int, whole: int) -> str:
    """A share rounded down, so that 9,999 of 10,000 is not shown as 100 %."""
    return f"{1000 * part // whole / 10:.1f} %"
