"""Runs set against each other scene by scene: who is paired with whom, and what the pairs say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from envs.spec import SceneId
from reports.manifest import SuitePlan, changed_rules
from reports.records import EpisodeRecord
from reports.statistics import Comparison, Mean, compare, holm, mean
from reports.summary import Group, ReportError, Run, groups_on, suites_of

ALPHA = 0.05
"""Below it, after Holm's correction, two policies are said to differ."""

CHAIN = "chain_length"
"""The metric under which an environment of instruction chains reports the subtasks done in a row."""


@dataclass(frozen=True)
class Pair:
    """Two runs on one suite. matched: both records of every scene with equal hashes that both scored; alone: scenes
    that only one of them scored; corrected: the p value after Holm over all pairs and suites of the comparison."""

    suite: str
    a: Group
    b: Group
    run_a: Run
    run_b: Run
    result: Comparison
    matched: tuple[tuple[EpisodeRecord, EpisodeRecord], ...]
    alone: int
    corrected: float | None

    @property
    def same_protocol(self) -> bool:
        """Whether both ran under one protocol fingerprint."""
        return self.a.suite.fingerprint == self.b.suite.fingerprint

    @property
    def told_apart(self) -> bool:
        """Whether the success rates differ beyond chance, all suites considered."""
        return self.corrected is not None and self.corrected < ALPHA

    @cached_property
    def flipped(self) -> tuple[tuple[EpisodeRecord, EpisodeRecord], ...]:
        """The scenes that one solved and the other did not."""
        return tuple((a, b) for a, b in self.matched if a.outcome != b.outcome)

    @cached_property
    def steps(self) -> Mean:
        """Steps of `a` less those of `b` on the scenes both solved (paired bootstrap). Empty where a protocol runs on
        after a success: the record then does not tell when it came."""
        stops = all(plan.protocol.get("stop_on_success") for plan in (self.a.suite, self.b.suite))
        both = [(a, b) for a, b in self.matched if a.outcome == b.outcome == "success"] if stops else []
        return mean(float(a.steps - b.steps) for a, b in both)

    @cached_property
    def chains(self) -> Mean:
        """Chain length of `a` less that of `b` on all paired scenes (paired bootstrap); empty for other suites."""
        both = [(a.metrics.get(CHAIN), b.metrics.get(CHAIN)) for a, b in self.matched]
        if any(a is None or b is None for a, b in both):
            return mean([])
        return mean(float(a) - float(b) for a, b in both if a is not None and b is not None)

    @cached_property
    def tasks(self) -> tuple[tuple[str, Comparison, float | None], ...]:
        """(task, comparison, p after Holm over the tasks), the strongest evidence first."""
        by_task: dict[str, list[tuple[EpisodeRecord, EpisodeRecord]]] = {}
        for a, b in self.matched:
            by_task.setdefault(a.task, []).append((a, b))
        found = [(task, _compared(rows)) for task, rows in by_task.items()]
        corrected = holm([result.p_value for _, result in found])
        rows = [(task, result, p) for (task, result), p in zip(found, corrected, strict=True)]
        return tuple(sorted(rows, key=lambda row: (row[1].p_value, -abs(row[1].difference or 0.0))))


@dataclass(frozen=True)
class Best:
    """The policies of one suite that cannot be told apart from the best, on the `n` scenes that all of them scored.

    successes: label -> successes on those scenes; kept: labels of the set, the best first. Every pair is tested
    (exact McNemar, Holm over all pairs), so that choosing the best by its own score is paid for.
    """

    suite: str
    n: int
    successes: Mapping[str, int]
    kept: tuple[str, ...]


def require_comparable(runs: Sequence[Run], *, allow_different_protocols: bool) -> None:
    """Raise ReportError where there are not two runs, no common suite, or protocols that differ and may not."""
    if len(runs) < 2:
        names = ", ".join(str(run.folder) for run in runs)
        raise ReportError(f"a comparison needs two runs or more; found one ({names}): name another run folder")
    common = [suite for suite in suites_of(runs) if len(groups_on(runs, suite)) > 1]
    if not common:
        each = "; ".join(f"{run.label}: {', '.join(p.name for p in run.manifest.suites)}" for run in runs)
        raise ReportError(f"the runs have no suite in common ({each}); run them on the same suite")
    if allow_different_protocols:
        return
    for suite in common:
        groups = [group for _, group in groups_on(runs, suite)]
        first = groups[0]
        for group in groups[1:]:
            if group.suite.fingerprint != first.suite.fingerprint:
                raise ReportError(_refusal(suite, first, group))


def _refusal(suite: str, a: Group, b: Group) -> str:
    lines = [f"  - {line}" for line in _rules(a.suite, b.suite)]
    return (
        f"the protocols of {suite} differ: {a.label} ran under {a.suite.fingerprint}, {b.label} under "
        f"{b.suite.fingerprint}:\n"
        + "\n".join(lines)
        + "\nNumbers of different protocols are not comparable. Run both "
        "under one protocol, or say --allow-different-protocols, and every page will be marked."
    )


def _rules(a: SuitePlan, b: SuitePlan) -> list[str]:
    return changed_rules(a, b) or ["a task's instruction, limit or tags (not in the manifest)"]


def pairs(runs: Sequence[Run]) -> tuple[Pair, ...]:
    """Every two runs on every suite they share, with Holm's correction over all of them."""
    made = []
    for suite in suites_of(runs):
        for (run_a, a), (run_b, b) in combinations(groups_on(runs, suite), 2):
            made.append(_pair(suite, run_a, a, run_b, b))
    corrected = holm([pair.result.p_value for pair in made])
    return tuple(
        Pair(p.suite, p.a, p.b, p.run_a, p.run_b, p.result, p.matched, p.alone, value)
        for p, value in zip(made, corrected, strict=True)
    )


def _pair(suite: str, run_a: Run, a: Group, run_b: Run, b: Group) -> Pair:
    left, right = ({r.scene: r for r in group.scored} for group in (a, b))
    shared = sorted(set(left) & set(right))
    matched = tuple((left[s], right[s]) for s in shared if left[s].scene_hash == right[s].scene_hash)
    alone = len(set(left) ^ set(right))
    return Pair(suite, a, b, run_a, run_b, compare(_outcomes(a.scored), _outcomes(b.scored)), matched, alone, None)


def _compared(rows: Iterable[tuple[EpisodeRecord, EpisodeRecord]]) -> Comparison:
    listed = list(rows)
    return compare(_outcomes(a for a, _ in listed), _outcomes(b for _, b in listed))


def _outcomes(records: Iterable[EpisodeRecord]) -> dict[SceneId, tuple[bool, str]]:
    return {r.scene: (r.outcome == "success", r.scene_hash) for r in records}


def best_of(runs: Sequence[Run], suite: str) -> Best | None:
    """The set of the best on one suite; None for fewer than three policies or without scenes that all have scored."""
    groups = [group for _, group in groups_on(runs, suite)]
    if len(groups) < 3:
        return None
    scored = {group.label: {r.scene: r for r in group.scored} for group in groups}
    common = _common(list(scored.values()))
    if not common:
        return None
    wins = {label: sum(records[s].outcome == "success" for s in common) for label, records in scored.items()}
    labels = sorted(wins, key=lambda label: -wins[label])
    tests = list(combinations(labels, 2))
    p_values = [
        compare(_outcomes(scored[a][s] for s in common), _outcomes(scored[b][s] for s in common)).p_value
        for a, b in tests
    ]
    corrected = dict(zip(tests, holm(p_values), strict=True))
    alike = [name for name in labels[1:] if (corrected[labels[0], name] or 0.0) >= ALPHA]
    return Best(suite, len(common), wins, (labels[0], *alike))


def _common(runs: Sequence[Mapping[SceneId, EpisodeRecord]]) -> list[SceneId]:
    """Scenes that all have, under one hash."""
    shared = set.intersection(*(set(run) for run in runs))
    return sorted(scene for scene in shared if len({run[scene].scene_hash for run in runs}) == 1)
