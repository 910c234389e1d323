"""What a night says: for every policy and suite, whether it got worse since the baseline, and what is not covered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.spec import SceneId
from reports.exchange import Evidence, evidence
from reports.history import History, Result
from reports.statistics import Comparison, compare

FINE, REGRESSION, NOT_COVERED = 0, 1, 2
"""Exit codes of `memvla nightly`."""


@dataclass(frozen=True)
class Stream:
    """One policy on one suite over the nights.

    tonight: its result, None when nothing of it was run; baseline, last_good: nights compared with, None where there
    is none; against_baseline, against_last: paired comparisons (tonight is A), to look at; evidence: the test that
    decides; alarm: the night on which it first reached the bound; problem: why it cannot be judged, or empty; tasks:
    (task, comparison with the baseline), the largest losses first; history: every night's result.
    """

    policy: str
    suite: str
    tonight: Result | None
    baseline: str | None
    last_good: str | None
    against_baseline: Comparison | None
    against_last: Comparison | None
    evidence: Evidence | None
    alarm: str | None
    problem: str
    tasks: tuple[tuple[str, Comparison], ...]
    history: tuple[Result, ...]

    @property
    def label(self) -> str:
        """The policy as reports show it, with its mark when it reads simulator state."""
        return f"{self.policy} [privileged]" if any(result.privileged for result in self.history) else self.policy

    @property
    def code(self) -> int:
        """FINE, REGRESSION or NOT_COVERED. A regression counts also where scenes are missing."""
        return REGRESSION if self.alarm else NOT_COVERED if self.problem else FINE


def exit_code(streams: Sequence[Stream]) -> int:
    """The code of a night: 1 if anything got worse, else 2 if anything is not covered, else 0."""
    codes = {stream.code for stream in streams}
    return REGRESSION if REGRESSION in codes else NOT_COVERED if NOT_COVERED in codes else FINE


def bound(streams: int, alpha: float) -> float:
    """The wealth at which a stream is an alarm: the chance of any false alarm, ever, over all streams is alpha."""
    return streams / alpha


def judge(history: History, night: str, matrix: Sequence[tuple[str, str]], alpha: float) -> tuple[Stream, ...]:
    """Every (policy, suite) of the matrix, as of that night."""
    return tuple(_stream(history, night, policy, suite, bound(len(matrix), alpha)) for policy, suite in matrix)


def _stream(history: History, night: str, policy: str, suite: str, alarm_at: float) -> Stream:
    order = history.nights()
    known = [r for r in history.results(policy, suite) if order.index(r.night) <= order.index(night)]
    tonight = next((r for r in known if r.night == night), None)
    baseline = _baseline(history, known, order)
    since = [r for r in known if baseline and order.index(r.night) >= order.index(baseline.night) and r.scored]
    same = [r for r in since if baseline and r.fingerprint == baseline.fingerprint]
    outcomes = {r.night: history.outcomes(r.night, policy, suite) for r in same}
    found, alarm = None, None
    if baseline is not None and len(same) > 1:
        found = evidence(_comparable([outcomes[r.night] for r in same]))
        first = found.first_above(alarm_at)
        alarm = None if first is None else same[first + 1].night
    end = order.index(alarm) if alarm else len(order)
    good = [r for r in same if r.night != night and r.covered and order.index(r.night) < end]
    last = good[-1].night if good else None
    here = outcomes.get(night)
    base = baseline.night if baseline and baseline.night != night else None
    return Stream(
        policy=policy,
        suite=suite,
        tonight=tonight,
        baseline=base,
        last_good=last,
        against_baseline=compare(here, outcomes[base]) if here and base in outcomes and base else None,
        against_last=compare(here, outcomes[last]) if here and last else None,
        evidence=found,
        alarm=alarm,
        problem=_problem(tonight, baseline),
        tasks=_tasks(here, outcomes[base]) if here and base and base in outcomes else (),
        history=tuple(known),
    )


def _baseline(history: History, known: Sequence[Result], order: Sequence[str]) -> Result | None:
    """The pinned night; where nothing is pinned, or it lacks this stream, the first covered night after it."""
    pinned = history.pinned()
    start = order.index(pinned) if pinned in order and pinned is not None else 0
    later = [r for r in known if order.index(r.night) >= start]
    return next((r for r in later if r.covered), None)


def _comparable(nights: Sequence[dict[SceneId, tuple[bool, str]]]) -> list[dict[SceneId, bool]]:
    """Success by scene, without scenes whose hash is not the baseline's."""
    base = {scene: digest for scene, (_, digest) in nights[0].items()}
    return [{s: done for s, (done, digest) in night.items() if base.get(s) == digest} for night in nights]


def _problem(tonight: Result | None, baseline: Result | None) -> str:
    if tonight is None:
        return "not run"
    if not tonight.covered:
        return f"{tonight.scored} of {tonight.planned} scenes scored, {tonight.void_attempts} void attempts"
    if baseline is not None and baseline.fingerprint != tonight.fingerprint:
        return (
            f"protocol {tonight.fingerprint} is not the baseline's ({baseline.fingerprint}): not comparable; pin a new "
            f"baseline with --pin {tonight.night}"
        )
    return ""


def _tasks(
    tonight: dict[SceneId, tuple[bool, str]], base: dict[SceneId, tuple[bool, str]]
) -> tuple[tuple[str, Comparison], ...]:
    names = sorted({scene.task for scene in tonight})
    parts = [
        (name, compare(*({s: v for s, v in night.items() if s.task == name} for night in (tonight, base))))
        for name in names
    ]
    kept = [(name, found) for name, found in parts if found.difference is not None]
    return tuple(sorted(kept, key=lambda part: part[1].difference or 0.0))
